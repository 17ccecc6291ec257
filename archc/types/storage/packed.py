"""Storage of f32 weights as packed integers of 2 to 6 bits, with a scale for each group of elements."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Stored
from archc.types.storage.integers import Integers
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np

PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}
"""Widths of the planes of an integer by its bits, from the lowest bits on.

A plane has the same bits of all integers of a row.  Its width divides 8, so no element of a plane is in two bytes.
"""


@frozen_dataclass
class PackedIntegers(Integers):
    """Unsigned integers with a scale and a zero point for each group: w ≈ scale · (q - zero_point).

    The weight is a matrix with a row for each index of `axis`; a row has the elements of all other axes in their order.
    A group is `group` consecutive elements of a row; the last group of a row may be shorter.

    A row is stored as planes, one after the other: the lowest bits of all elements, then the next bits (`PLANES`).  In
    a byte of a plane, the first element has the lowest bits.  Zero points are packed in the same way.
    """

    bits: ClassVar[int] = 0

    axis: int = attribute(0, doc="axis of the channels: elements of two channels have no common scale")
    group: int | None = attribute(
        None, doc="number of consecutive elements of a channel that have a common scale; by default, all"
    )
    symmetric: bool = attribute(False, doc="the zero point of all groups is the middle of the range", keyword=True)
    scale: DType = attribute(DType.f16, doc="dtype of the scales: f16 or f32", keyword=True)

    @property
    def levels(self) -> int:
        """Number of different integers."""
        return int(2**self.bits)

    @property
    def limits(self) -> tuple[int, int]:
        return 0, self.levels - 1

    def groups(self, shape: Shape) -> int:
        """Return the number of groups in a row of a weight."""
        return max(1, -(-self.columns(shape) // self.width(shape)))

    def width(self, shape: Shape) -> int:
        columns = self.columns(shape)
        return max(1, columns if self.group is None else min(self.group, columns))

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        channels, groups = shape[self.axis], self.groups(shape)
        found: dict[str, tuple[Shape, StoredDType]] = {
            path: ((channels, packed_bytes(self.columns(shape), self.bits)), DType.u8),
            f"{path}_scale": ((channels, groups), self.scale),
        }
        if not self.symmetric:
            found[f"{path}_zero_point"] = ((channels, packed_bytes(groups, self.bits)), DType.u8)
        return found

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if dtype is not DType.f32:
            return f"`{self.name}` expects an f32 weight, got {dtype}"
        if not 0 <= self.axis < len(shape):
            return f"its axes are 0 to {len(shape) - 1}" if shape else "it has no axes"
        if self.group is not None and self.group < 1:
            return f"a group has at least 1 element, got {self.group}"
        return None if self.scale in (DType.f16, DType.f32) else f"scales are f16 or f32, got {self.scale}"

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """Round the values to the nearest integers.

        The range of a group is from its least to its largest element, and contains 0.
        """
        import numpy as np

        rows, parts = self.rows(values), []
        for chunk in _chunks(rows):
            grouped = self.split(chunk)
            scale, zero_point = self.affine(np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0))
            q = self.quantize(grouped, scale[:, :, None], zero_point[:, :, None])
            q = q.reshape(len(q), -1)[:, : rows.shape[1]]
            parts.append(self.pack(path, q, scale, zero_point, values.shape))
        return {stored: np.concatenate([part[stored] for part in parts]) for stored in parts[0]}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        columns, groups = self.columns(shape), self.groups(shape)
        values = np.empty((shape[self.axis], columns), np.float32)
        for chunk, *parts in zip(_chunks(values), *(_chunks(array, columns) for array in stored.values()), strict=True):
            of = dict(zip(stored, parts))
            chunk[:] = unpack(of[path], columns, self.bits)
            if self.symmetric:
                chunk -= self.levels // 2
            else:
                zero_point = unpack(of[f"{path}_zero_point"], groups, self.bits).astype(np.float32)
                chunk -= self._spread(zero_point, shape)
            chunk *= self._spread(of[f"{path}_scale"].astype(np.float32), shape)
        return self.from_rows(values, shape)

    def _spread(self, of_groups: np.ndarray, shape: Shape) -> np.ndarray:
        """Repeat the numbers of groups for each column."""
        import numpy as np

        return np.repeat(of_groups, self.width(shape), axis=1)[:, : self.columns(shape)]

    # Quantization ---------------------------------------------------------------------------------------------

    def affine(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        most, middle = self.levels - 1, self.levels // 2
        steps = np.maximum(high / (most - middle), -low / middle) if self.symmetric else (high - low) / most
        stored = np.dtype(self.scale.torch)  # numpy and PyTorch have the same names
        info = np.finfo(stored)
        scale = np.clip(steps, float(info.smallest_subnormal), float(info.max)).astype(stored)
        scale = np.where(steps > 0, scale, np.ones((), stored))
        if self.symmetric:
            return scale, np.full(scale.shape, middle, np.float32)
        return scale, np.clip(np.rint(-low / scale.astype(np.float32)), 0, most).astype(np.float32)

    def quantize(self, values: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
        """Nearest integers, as u8."""
        import numpy as np

        steps = np.rint(values / scale.astype(np.float32)) + zero_point
        q: np.ndarray = np.clip(steps, 0, self.levels - 1).astype(np.uint8)
        return q

    def pack(
        self, path: str, q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, shape: Shape
    ) -> dict[str, np.ndarray]:
        import numpy as np

        stored = {path: pack(q.astype(np.uint8), self.bits), f"{path}_scale": scale.astype(self.scale.torch)}
        if not self.symmetric:
            stored[f"{path}_zero_point"] = pack(zero_point.astype(np.uint8), self.bits)
        return stored

    def split(self, rows: np.ndarray) -> np.ndarray:
        import numpy as np

        channels, columns = rows.shape
        width = max(1, columns if self.group is None else min(self.group, columns))
        missing = -columns % width or (0 if columns else 1)
        padded = np.pad(rows, ((0, 0), (0, missing))) if missing else rows
        return padded.reshape(channels, -1, width)

    def columns(self, shape: Shape) -> int:
        """Return the number of elements of a row."""
        return math.prod(extent for axis, extent in enumerate(shape) if axis != self.axis)


CHUNK = 1 << 22
"""Most elements of a weight that are encoded or decoded at a time, so that temporary arrays are small."""


def _chunks(rows: np.ndarray, columns: int | None = None) -> Iterator[np.ndarray]:
    """Yield parts of a matrix that belong to at most `CHUNK` elements of a weight."""
    count = max(1, CHUNK // max(1, rows.shape[1] if columns is None else columns))
    for start in range(0, max(1, len(rows)), count):
        yield rows[start : start + count]


def packed_bytes(count: int, bits: int) -> int:
    """Return the number of bytes of `count` packed integers."""
    return sum(-(-count * width // 8) for width in PLANES[bits])


def pack(q: np.ndarray, bits: int) -> np.ndarray:
    """Pack unsigned integers of shape [rows, count] to bytes of shape [rows, `packed_bytes`]."""
    import numpy as np

    planes, shift = [], 0
    for width in PLANES[bits]:
        plane = (q >> shift) & (2**width - 1)
        each = 8 // width
        parts = np.pad(plane, ((0, 0), (0, -plane.shape[1] % each))).reshape(len(q), -1, each)
        planes.append((parts << (width * np.arange(each, dtype=np.uint8))).sum(2, dtype=np.uint8))
        shift += width
    return np.concatenate(planes, axis=1)


def unpack(packed: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Unpack bytes of shape [rows, `packed_bytes`] to unsigned integers of shape [rows, count]."""
    import numpy as np

    q = np.zeros((len(packed), count), np.uint8)
    first = shift = 0
    for width in PLANES[bits]:
        last = first + -(-count * width // 8)
        parts = packed[:, first:last, None] >> (width * np.arange(8 // width, dtype=np.uint8))
        q |= (parts.reshape(len(packed), -1)[:, :count] & (2**width - 1)) << shift
        first, shift = last, shift + width
    return q


@frozen_dataclass
class Int2(PackedIntegers):
    """Integers of 2 bits: 4 levels."""

    name: ClassVar[str] = "int2"
    bits: ClassVar[int] = 2


@frozen_dataclass
class Int3(PackedIntegers):
    """Integers of 3 bits: 8 levels."""

    name: ClassVar[str] = "int3"
    bits: ClassVar[int] = 3


@frozen_dataclass
class Int4(PackedIntegers):
    """Integers of 4 bits: 16 levels."""

    name: ClassVar[str] = "int4"
    bits: ClassVar[int] = 4


@frozen_dataclass
class Int5(PackedIntegers):
    """Integers of 5 bits: 32 levels."""

    name: ClassVar[str] = "int5"
    bits: ClassVar[int] = 5


@frozen_dataclass
class Int6(PackedIntegers):
    """Integers of 6 bits: 64 levels."""

    name: ClassVar[str] = "int6"
    bits: ClassVar[int] = 6
