"""Modules with weights that are stored in another format, and decoded to f32.

Other runtime modules import this file; the copies of their code in or beside programs
contain it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.keeping import Keeping

__all__ = [
    "EncodedConv",
    "EncodedConvTranspose",
    "EncodedEmbedding",
    "EncodedLinear",
    "EncodedWeights",
]


class EncodedWeights(Keeping):
    """A module with weights that are stored as f16, bf16 or f8, or as packed integers.

    The subclass `PackedWeights` decodes packed integers.
    """

    cached = True  # if False, weights are decoded in each call

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._axes: dict[str, int] = {}

    def add_narrow(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        axis: int | None = None,
    ) -> None:
        """Add a weight of f16, bf16 or f8; with `axis`, its slices have scales."""
        self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        if axis is not None:
            self.register_buffer(f"{name}_scale", torch.ones(shape[axis]))
            self._axes[name] = axis

    def floats(self, name: str) -> Tensor:
        """The decoded weight."""
        if not self.cached:
            return self.decode_weight(name)
        return self.kept(name, lambda: self.decode_weight(name))

    def decode_weight(self, name: str) -> Tensor:
        """Decode a weight."""
        values = self._buffers[name].float()
        axis = self._axes.get(name)
        if axis is None:
            return values
        sizes = [-1 if other == axis else 1 for other in range(values.ndim)]
        return values * self._buffers[f"{name}_scale"].view(sizes)

    def floats_at(self, name: str, rows: Tensor) -> Tensor:
        """Rows of a decoded weight; the other rows are not decoded."""
        if name in self._axes:
            return F.embedding(rows, self.floats(name))
        return F.embedding(rows, self._buffers[name]).float()


class EncodedLinear(EncodedWeights):
    """Base of linear layers with an encoded weight."""

    if TYPE_CHECKING:
        bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.floats("weight"), self.bias)


class EncodedEmbedding(EncodedWeights):
    """Base of embeddings with an encoded weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self.floats_at("weight", x)


class EncodedConv(EncodedWeights):
    """Base of convolutions with an encoded weight."""

    if TYPE_CHECKING:
        bias: Tensor | None
        _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.floats("weight"), self.bias)


class EncodedConvTranspose(EncodedWeights):
    """Base of transposed convolutions with an encoded weight."""

    if TYPE_CHECKING:
        kernel_size: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        names = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
        options = {name: getattr(self, name) for name in names}
        functions = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
        function = functions[len(self.kernel_size) - 1]
        return function(x, self.floats("weight"), **options)
