"""Layers of `torch.nn` with weights of int8, f16, bf16 or f8, which compute in f32.

A layer caches its decoded weights until a stored tensor changes.

archc writes this file beside programs with such layers, as `archc_weight_only.py`.  A
program with layers that multiply integers imports int8 weights from `archc_int8.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archc.runtime.encoded import EncodedWeights
from archc.runtime.keeping import Keeping
from archc.runtime.narrow import (
    NarrowConv1d,
    NarrowConv2d,
    NarrowConv3d,
    NarrowConvTranspose1d,
    NarrowConvTranspose2d,
    NarrowConvTranspose3d,
    NarrowEmbedding,
    NarrowLinear,
)

__all__ = [
    "EncodedWeights",
    "Int8Weight",
    "Int8WeightConv1d",
    "Int8WeightConv2d",
    "Int8WeightConv3d",
    "Int8WeightConvTranspose1d",
    "Int8WeightConvTranspose2d",
    "Int8WeightConvTranspose3d",
    "Int8WeightEmbedding",
    "Int8WeightLinear",
    "Keeping",
    "NarrowConv1d",
    "NarrowConv2d",
    "NarrowConv3d",
    "NarrowConvTranspose1d",
    "NarrowConvTranspose2d",
    "NarrowConvTranspose3d",
    "NarrowEmbedding",
    "NarrowLinear",
]


class Int8Weight(Keeping):
    """Base of layers whose weight is stored as int8 with a scale."""

    if TYPE_CHECKING:
        weight: Tensor
        weight_scale: Tensor

    axis = 0  # axis of the weight along which scales differ

    def decoded(self) -> Tensor:
        """The cached weight in floating point."""
        return self.kept("decoded", self.decode)

    def decode(self) -> Tensor:
        """Compute the weight in floating point."""
        shape = [1] * self.weight.dim()
        if shape:  # not a single number
            shape[self.axis] = -1
        return self.weight * self.weight_scale.view(shape)


class DecodedWeight(Int8Weight):
    """Base of layers of `torch.nn` that store the weight as int8 and compute in floats.

    The next base of such a class is the layer of `torch.nn`, which gets the arguments.
    The scales differ along `axis` of the weight; None for a single scale.
    """

    def __init__(self, *args: Any, axis: int | None = 0, **options: Any):
        super().__init__(*args, **options)
        shape = self.weight.shape
        del self.weight
        scales = () if axis is None else (shape[axis],)
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(scales))
        self.axis = axis or 0


class Int8WeightLinear(DecodedWeight, nn.Linear):
    """`nn.Linear` with an int8 weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.decoded(), self.bias)


class Int8WeightEmbedding(DecodedWeight, nn.Embedding):
    """`nn.Embedding` with an int8 weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.decoded())


class DecodedConv(DecodedWeight):
    """Base of convolutions with an int8 weight."""

    if TYPE_CHECKING:
        bias: Tensor | None
        _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.decoded(), self.bias)


class Int8WeightConv1d(DecodedConv, nn.Conv1d):
    """`nn.Conv1d` with an int8 weight."""


class Int8WeightConv2d(DecodedConv, nn.Conv2d):
    """`nn.Conv2d` with an int8 weight."""


class Int8WeightConv3d(DecodedConv, nn.Conv3d):
    """`nn.Conv3d` with an int8 weight."""


class DecodedConvTranspose(DecodedWeight):
    """Base of transposed convolutions with an int8 weight."""

    function: Callable[..., Tensor]  # the transposed convolution of `F`

    def forward(self, x: Tensor) -> Tensor:
        names = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
        options = {name: getattr(self, name) for name in names}
        return type(self).function(x, self.decoded(), **options)


class Int8WeightConvTranspose1d(DecodedConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """`nn.ConvTranspose1d` with an int8 weight."""

    function = F.conv_transpose1d


class Int8WeightConvTranspose2d(DecodedConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """`nn.ConvTranspose2d` with an int8 weight."""

    function = F.conv_transpose2d


class Int8WeightConvTranspose3d(DecodedConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """`nn.ConvTranspose3d` with an int8 weight."""

    function = F.conv_transpose3d
