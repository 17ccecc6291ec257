"""ONNX nodes that decode packed integers to floats.

ONNX Runtime runs the nodes of a weight once, when it loads the model: the model is as fast as one with float weights,
and its file has the packed integers.  The nodes of selected rows, as for an embedding, run in each inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from archc.types.storage import PackedIntegers
from archc.types.storage.packed import PLANES, packed_bytes
from archc.types.tensor_type import DType


class PackedDecoder:
    """Adds the nodes that decode a weight of packed integers, or rows of it.

    Args:
        add: adds a node, and returns the name of its result; see `OnnxSpelling.add`.
        constant: returns the name of a constant; integers are i64 unless a dtype is given.
        storage, shape: those of the weight.
    """

    def __init__(
        self,
        add: Callable[..., str],
        constant: Callable[..., str],
        storage: PackedIntegers,
        shape: tuple[int, ...],
    ):
        self._add, self._constant = add, constant
        self._storage, self._shape = storage, shape
        self._columns = math.prod(extent for axis, extent in enumerate(shape) if axis != storage.axis)

    def weight(self, stored: Sequence[str]) -> str:
        """Name of the decoded weight.

        Args:
            stored: names of the stored tensors, in the order of `Storage.tensors`.
        """
        axis, shape = self._storage.axis, self._shape
        rows = self.rows(stored, 1)
        others = [extent for number, extent in enumerate(shape) if number != axis]
        if len(others) != 1:
            rows = self._add("Reshape", rows, self._constant([shape[axis], *others]))
        if axis == 0:
            return rows
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]
        return self._add("Transpose", rows, perm=order)

    def rows(self, stored: Sequence[str], rank: int) -> str:
        """Name of decoded rows of shape [*b, columns].

        Args:
            stored: names of the stored tensors, whose last axis has the bytes or the groups of a row.
            rank: number of the axes *b.
        """
        storage, add, constant = self._storage, self._add, self._constant
        groups, width = storage.groups(self._shape), storage.width(self._shape)
        surplus = groups * width - self._columns
        values = add("Cast", self._unpacked(stored[0], self._columns, rank), to=DType.f32)
        if surplus:
            values = add("Pad", values, constant([0] * (2 * rank + 1) + [surplus]))
        grouped = groups > 1
        if grouped:
            values = add("Reshape", values, constant([0] * rank + [groups, width]))
        steps = add("Sub", values, self._zero_point(stored, groups, rank))
        scale = stored[1] if storage.scale is DType.f32 else add("Cast", stored[1], to=DType.f32)
        values = add("Mul", steps, add("Unsqueeze", scale, constant([-1])) if grouped else scale)
        if grouped:
            values = add("Reshape", values, constant([0] * rank + [groups * width]))
        return self._slice(values, 0, self._columns) if surplus else values

    def _zero_point(self, stored: Sequence[str], groups: int, rank: int) -> str:
        if self._storage.symmetric:
            return self._constant(float(self._storage.levels // 2))
        zero_point = self._add("Cast", self._unpacked(stored[2], groups, rank), to=DType.f32)
        return self._add("Unsqueeze", zero_point, self._constant([-1])) if groups > 1 else zero_point

    def _unpacked(self, packed: str, count: int, rank: int) -> str:
        """Name of `count` integers in each row, as u8; see `archc.types.storage.packed.unpack`."""
        add, constant, bits = self._add, self._constant, self._storage.bits
        planes: list[str] = []
        first = shift = 0
        for width in PLANES[bits]:
            size, each = -(-count * width // 8), 8 // width
            whole = size == packed_bytes(count, bits)
            plane = packed if whole else self._slice(packed, first, first + size)
            steps = constant(list(range(0, 8, width)), DType.u8)
            parts = add("BitShift", add("Unsqueeze", plane, constant([-1])), steps, direction="RIGHT")
            parts = add("BitwiseAnd", parts, constant(2**width - 1, DType.u8))
            plane = add("Reshape", parts, constant([0] * rank + [size * each]))
            if size * each != count:
                plane = self._slice(plane, 0, count)
            planes.append(add("BitShift", plane, constant(shift, DType.u8), direction="LEFT") if shift else plane)
            first, shift = first + size, shift + width
        return planes[0] if len(planes) == 1 else add("BitwiseOr", *planes)

    def _slice(self, value: str, first: int, last: int) -> str:
        """Elements of the last axis."""
        constant = self._constant
        return self._add("Slice", value, constant([first]), constant([last]), constant([-1]))
