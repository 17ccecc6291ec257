"""Layers of `torch.nn` with weights of f16, bf16 or f8, which compute in f32.

The runtime modules `weight_only` and `packed` import this file; the copies of their
code in or beside programs contain it.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archc.runtime.encoded import (
    EncodedConv,
    EncodedConvTranspose,
    EncodedEmbedding,
    EncodedLinear,
    EncodedWeights,
)

__all__ = [
    "NarrowConv1d",
    "NarrowConv2d",
    "NarrowConv3d",
    "NarrowConvTranspose1d",
    "NarrowConvTranspose2d",
    "NarrowConvTranspose3d",
    "NarrowEmbedding",
    "NarrowLinear",
]


class NarrowWeight(EncodedWeights):
    """Base of layers of `torch.nn` whose weight is stored as f16, bf16 or f8.

    The layer of `torch.nn` gets the other arguments.
    """

    if TYPE_CHECKING:
        weight: Tensor

    def __init__(
        self, *args: Any, dtype: torch.dtype, axis: int | None = None, **options: Any
    ):
        super().__init__(*args, **options)
        shape = tuple(self.weight.shape)
        del self.weight
        self.add_narrow("weight", shape, dtype, axis)


class NarrowLinear(NarrowWeight, EncodedLinear, nn.Linear):  # type: ignore[misc]
    """`nn.Linear` with a weight of f16, bf16 or f8."""


class NarrowEmbedding(NarrowWeight, EncodedEmbedding, nn.Embedding):  # type: ignore[misc]
    """`nn.Embedding` with a weight of f16, bf16 or f8."""


class NarrowConv1d(NarrowWeight, EncodedConv, nn.Conv1d):  # type: ignore[misc]
    """`nn.Conv1d` with a weight of f16, bf16 or f8."""


class NarrowConv2d(NarrowWeight, EncodedConv, nn.Conv2d):  # type: ignore[misc]
    """`nn.Conv2d` with a weight of f16, bf16 or f8."""


class NarrowConv3d(NarrowWeight, EncodedConv, nn.Conv3d):  # type: ignore[misc]
    """`nn.Conv3d` with a weight of f16, bf16 or f8."""


class NarrowConvTranspose1d(NarrowWeight, EncodedConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """`nn.ConvTranspose1d` with a weight of f16, bf16 or f8."""


class NarrowConvTranspose2d(NarrowWeight, EncodedConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """`nn.ConvTranspose2d` with a weight of f16, bf16 or f8."""


class NarrowConvTranspose3d(NarrowWeight, EncodedConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """`nn.ConvTranspose3d` with a weight of f16, bf16 or f8."""
