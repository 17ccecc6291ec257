"""Padding and cropping of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from archc.declaration.axes import plain_axes
from archc.declaration.base import Operator, OperatorError, operator
from archc.declaration.dtypes import ONNX_MOST, as_element
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, call
from archc.declaration.traits import Uniform
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Index, Pattern, Signature
from archc.types.tensor_type import DType, TensorType

_ONNX_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@operator
class Pad(Operator):
    """Elements added at both ends of the last axes; `mode` determines their values.

    `padding` has PyTorch's order: start and end of the last axis, then of the axis before it, and so on.  In mode
    "constant", negative numbers remove elements; other modes reject negative numbers.
    """

    signature = "x[*d] -> y[*e]"
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "x -> pad((1, 1, 2, 2))"

    padding: tuple[int, ...] = attribute(doc="start and end of the last axis, then of the axis before it, …")
    mode: Literal["constant", "reflect", "replicate", "circular"] = attribute(
        "constant", doc="source of the new elements"
    )
    value: float = attribute(0.0, element=True, doc='value of the new elements in mode "constant"')

    def ends(self, rank: int) -> list[tuple[int, int]]:
        """Number of elements added before and after each axis."""
        pairs = list(zip(self.padding[0::2], self.padding[1::2]))[::-1]
        return [(0, 0)] * (rank - len(pairs)) + pairs

    def check(self, types: Sequence[TensorType]) -> None:
        rank, padded = types[0].rank, len(self.padding) // 2
        if len(self.padding) % 2 or not 0 < padded <= rank:
            raise OperatorError(
                "bad-attribute",
                f"`padding` takes two numbers for an axis, at most {2 * rank} for {types[0]}, got {len(self.padding)}",
                attribute="padding",
            )
        if self.mode == "constant":
            for axis, ends in enumerate(self.ends(rank)):
                size, removed = types[0].shape[axis], _removed(ends)
                if isinstance(size, int) and size < removed:
                    raise OperatorError(
                        "bad-attribute",
                        f"`padding` expects axis {axis} of {types[0]} to have at least {removed} elements, got {size}",
                        attribute="padding",
                    )
            return
        if types[0].dtype is DType.bool and self.mode != "circular":
            raise OperatorError(
                "dtype-mismatch",
                f'mode "{self.mode}" expects numbers, got {types[0]}',
                operand=0,
                help="convert with `cast(u8)`, and back with `cast(bool)`",
            )
        if padded > 3 or rank - padded not in (1, 2):
            raise OperatorError(
                "bad-attribute",
                f'in mode "{self.mode}", `padding` expects two numbers for each axis after batch and channels, for at '
                f"most three axes, got {len(self.padding)} numbers for {types[0]}",
                attribute="padding",
            )
        least = self.minimum_sizes(types)
        for axis, ends in enumerate(self.ends(rank)):
            size, fewest = least[axis] if least else (0, 0)
            if min(ends) < 0 or (isinstance(size, int) and size < fewest):
                raise OperatorError(
                    "bad-attribute",
                    f'mode "{self.mode}" cannot pad axis {axis} of {types[0]} by {ends[0]} and {ends[1]}',
                    attribute="padding",
                )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        if self.mode == "constant":
            constant = zip(types[0].shape, self.ends(types[0].rank))
            return [(size, _removed(both)) for size, both in constant if _removed(both)]
        # A reflection omits the border element; circular padding uses each element at most once.
        reach = {"reflect": 1, "circular": 0}.get(self.mode)
        if reach is None:
            return ()
        ends = zip(types[0].shape, self.ends(types[0].rank))
        return [(size, max(both) + reach if any(both) else 0) for size, both in ends]

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1 or len(self.padding) > 2 * types[0].rank:
            return super().signature_for(types)
        axes = plain_axes(types[0].rank)
        result = list(axes)
        for number, ends in enumerate(self.ends(len(axes))):
            if ends == (0, 0):
                continue
            if self._adds(ends):
                parts = [(f"a{number}", ends[0]), (f"d{number}", 1), (f"b{number}", ends[1])]
                result[number] = Axis(tuple((Index(name),) for name, size in parts if size))
            else:
                result[number] = Axis(((Apply("padded", Index(f"d{number}")),),))
        return Signature((Pattern("x", tuple(axes)),), (Pattern("y", tuple(result)),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        found: dict[str, Extent] = {}
        for number, (before, after) in enumerate(self.ends(types[0].rank)):
            found |= {f"a{number}": before, f"b{number}": after}
        return found

    def function_extent(self, function: str, index: str, extent: Extent, position: int) -> Extent:
        """Size of an axis that the signature writes as `padded(d)`; `position` counts only these axes."""
        pairs = list(zip(self.padding[0::2], self.padding[1::2]))[::-1]
        return extent + sum([ends for ends in pairs if not self._adds(ends) and ends != (0, 0)][position])

    def _adds(self, ends: tuple[int, int]) -> bool:
        """Return whether the signature writes an axis as a sum: new elements + the axis + new elements."""
        return self.mode == "constant" and min(ends) >= 0

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        return 0 if not any(self.padding) else None

    def torch(self, spell: TorchSpelling) -> str:
        options = spell.options(mode=(self.mode, "constant"))
        if self.mode == "constant":
            options |= spell.options(value=(self.value, 0))
        return call("F.pad", *spell.operands, self.padding, **options)

    def onnx(self, spell: OnnxSpelling) -> str:
        if self.mode == "circular" and any(not isinstance(size, int) for size in spell.types[0].shape):
            return self._onnx_circular(spell)
        ends = self.ends(spell.types[0].rank)
        pads = spell.constant([before for before, _ in ends] + [after for _, after in ends])
        dtype = spell.types[0].dtype
        value = spell.constant(as_element(self.value, dtype), dtype) if self.mode == "constant" and self.value else ""
        return spell.add("Pad", spell.operands[0], pads, value, mode=_ONNX_MODES[self.mode])

    def _onnx_circular(self, spell: OnnxSpelling) -> str:
        """Circular padding by slices and concatenation, axis by axis.

        ONNX Runtime rejects a circular `Pad` of an empty tensor.
        """
        x = spell.operands[0]
        for axis, (before, after) in reversed(list(enumerate(self.ends(spell.types[0].rank)))):
            parts, along = [x], spell.constant([axis])
            if before:
                end = spell.constant([2**63 - 1])
                parts.insert(0, spell.add("Slice", x, spell.constant([-before]), end, along))
            if after:
                parts.append(spell.add("Slice", x, spell.constant([0]), spell.constant([after]), along))
            x = spell.add("Concat", *parts, axis=axis) if len(parts) > 1 else x
        return x


def _removed(ends: tuple[int, int]) -> int:
    """Number of elements that negative padding removes from an axis; the axis must not have fewer."""
    return -sum(min(end, 0) for end in ends)
