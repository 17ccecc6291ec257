"""Layers whose weights are stored in few bits, and decoded to floats.

Integers of 2 to 6 bits are packed into bytes, with a scale and a zero point for each
group of elements.  Narrow weights are f16, bf16 or f8; f8 has a scale for each channel.
All layers compute in f32.

A layer caches its decoded weights until a stored tensor changes.  With
`EncodedWeights.cached = False`, layers decode their weights in each call, which saves
the memory of the decoded weights; a single layer has this attribute, too.

archc writes this file beside programs with such layers, as `archc_packed.py`.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archc.runtime.encoded import (
    EncodedConv,
    EncodedConvTranspose,
    EncodedEmbedding,
    EncodedLinear,
    EncodedWeights,
)
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
    "NarrowConv1d",
    "NarrowConv2d",
    "NarrowConv3d",
    "NarrowConvTranspose1d",
    "NarrowConvTranspose2d",
    "NarrowConvTranspose3d",
    "NarrowEmbedding",
    "NarrowLinear",
    "PackedConv1d",
    "PackedConv2d",
    "PackedConv3d",
    "PackedConvTranspose1d",
    "PackedConvTranspose2d",
    "PackedConvTranspose3d",
    "PackedEmbedding",
    "PackedLinear",
    "PackedWeights",
]


def packed_bytes(count: int, bits: int) -> int:
    """The number of bytes of `count` packed integers."""
    return sum(-(-count * width // 8) for width in PLANES[bits])


# Widths of the planes of an integer by its bits, from the lowest bits on.
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Unpack the last axis, of `packed_bytes` bytes, to `count` unsigned integers.

    The bytes are planes, one after the other: the lowest bits of all integers, then the
    next bits.  In a byte, the first integer has the lowest bits.
    """
    planes = []
    first = shift = 0
    for width in PLANES[bits]:
        last = first + -(-count * width // 8)
        steps = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
        parts = (packed[..., first:last, None] >> steps).flatten(-2)[..., :count]
        planes.append((parts & (2**width - 1)) << shift)
        first, shift = last, shift + width
    return planes[0] if len(planes) == 1 else planes[0] | planes[1]


class Packing:
    """Format of a weight as packed integers q: w = scale * (q - zero_point).

    The weight is a matrix with a row for each index of `axis`.  A group is `group`
    consecutive elements of a row, and has a scale and a zero point.  Without zero
    points, all of them are the middle of the range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        bits: int,
        group: int | None,
        axis: int,
        symmetric: bool,
    ):
        self.shape, self.bits, self.axis, self.symmetric = shape, bits, axis, symmetric
        self.others = shape[:axis] + shape[axis + 1 :]
        self.columns = math.prod(self.others)
        self.width = max(1, min(group or self.columns, self.columns))
        self.groups = max(1, -(-self.columns // self.width))

    def tensors(self, scale: torch.dtype) -> dict[str, Tensor]:
        """New stored tensors of zeros, by the ends of their names."""
        rows = self.shape[self.axis]
        size, zeros = (packed_bytes(n, self.bits) for n in (self.columns, self.groups))
        found = {
            "": torch.zeros(rows, size, dtype=torch.uint8),
            "_scale": torch.ones(rows, self.groups, dtype=scale),
        }
        if not self.symmetric:
            found["_zero_point"] = torch.zeros(rows, zeros, dtype=torch.uint8)
        return found

    def rows(self, packed: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        """Decode rows; the last axis of the result has the elements of a row."""
        q = unpack(packed, self.columns, self.bits)
        q = F.pad(q, (0, self.groups * self.width - self.columns))
        values = q.unflatten(-1, (self.groups, self.width)).float()
        if zero_point is None:
            values.sub_(2 ** (self.bits - 1))
        else:
            values.sub_(unpack(zero_point, self.groups, self.bits)[..., None])
        values.mul_(scale.float()[..., None])
        return values.flatten(-2)[..., : self.columns]

    def weight(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor | None
    ) -> Tensor:
        """Decode the weight."""
        rows = self.rows(packed, scale, zero_point)
        channels_first = rows.reshape(self.shape[self.axis], *self.others)
        return channels_first.movedim(0, self.axis).contiguous()


class PackedWeights(EncodedWeights):
    """A module with weights of packed integers, and possibly of narrow floats."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._packings: dict[str, Packing] = {}

    def add_packed(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        bits: int,
        group: int | None = None,
        axis: int = 0,
        symmetric: bool = False,
        scale: torch.dtype = torch.float16,
    ) -> None:
        """Add a weight of packed integers; `scale` is the dtype of the scales."""
        packing = Packing(tuple(shape), bits, group, axis, symmetric)
        for end, tensor in packing.tensors(scale).items():
            self.register_buffer(name + end, tensor)
        self._packings[name] = packing

    def decode_weight(self, name: str) -> Tensor:
        packing = self._packings.get(name)
        if packing is None:
            return super().decode_weight(name)
        return packing.weight(*self.stored(name))

    def stored(self, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """The stored tensors of a weight of packed integers."""
        buffers = self._buffers
        zero_point = buffers.get(f"{name}_zero_point")
        return buffers[name], buffers[f"{name}_scale"], zero_point

    def floats_at(self, name: str, rows: Tensor) -> Tensor:
        packing = self._packings.get(name)
        if packing is None:
            return super().floats_at(name, rows)
        if packing.axis != 0:
            return F.embedding(rows, self.floats(name))
        packed, scale, zero = self.stored(name)
        zero = None if zero is None else zero[rows]
        return packing.rows(packed[rows], scale[rows], zero)


class PackedWeight(PackedWeights):
    """Base of layers of `torch.nn` whose weight is stored as packed integers.

    The layer of `torch.nn` gets the other arguments.
    """

    if TYPE_CHECKING:
        weight: Tensor

    def __init__(
        self,
        *args: Any,
        bits: int,
        group: int | None = None,
        axis: int = 0,
        symmetric: bool = False,
        scale: torch.dtype = torch.float16,
        **options: Any,
    ):
        super().__init__(*args, **options)
        shape = tuple(self.weight.shape)
        del self.weight
        self.add_packed(
            "weight",
            shape,
            bits=bits,
            group=group,
            axis=axis,
            symmetric=symmetric,
            scale=scale,
        )


class PackedLinear(PackedWeight, EncodedLinear, nn.Linear):  # type: ignore[misc]
    """`nn.Linear` with a weight of packed integers."""


class PackedEmbedding(PackedWeight, EncodedEmbedding, nn.Embedding):  # type: ignore[misc]
    """`nn.Embedding` with a weight of packed integers."""


class PackedConv1d(PackedWeight, EncodedConv, nn.Conv1d):  # type: ignore[misc]
    """`nn.Conv1d` with a weight of packed integers."""


class PackedConv2d(PackedWeight, EncodedConv, nn.Conv2d):  # type: ignore[misc]
    """`nn.Conv2d` with a weight of packed integers."""


class PackedConv3d(PackedWeight, EncodedConv, nn.Conv3d):  # type: ignore[misc]
    """`nn.Conv3d` with a weight of packed integers."""


class PackedConvTranspose1d(PackedWeight, EncodedConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """`nn.ConvTranspose1d` with a weight of packed integers."""


class PackedConvTranspose2d(PackedWeight, EncodedConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """`nn.ConvTranspose2d` with a weight of packed integers."""


class PackedConvTranspose3d(PackedWeight, EncodedConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """`nn.ConvTranspose3d` with a weight of packed integers."""
