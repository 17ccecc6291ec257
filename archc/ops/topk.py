"""The largest elements of an axis, and where they are."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.axes import axis_number, plain_axes, plain_axis
from archc.operator.base import Operator, OperatorError, operator
from archc.operator.checks import check_positive
from archc.operator.dtypes import NUMBERS
from archc.operator.spelling import OnnxSpelling, TorchSpelling, method
from archc.types.attributes import attribute
from archc.types.dims import as_symbol
from archc.types.extent_solver import Extent
from archc.types.signature import Pattern, Signature
from archc.types.tensor_type import DType, TensorType


@operator
class Topk(Operator):
    """The k largest elements along an axis, the largest first, and their places, which are i64.

    Shapes: x[..., n, ...] -> values[..., k, ...], indices[..., k, ...].  Which of several equal elements comes first is
    left to the backend, as in PyTorch.
    """

    signature = "x[*s, n] -> values[*s, k], indices[*s, k]"
    family = "reduce"
    dtypes = NUMBERS
    example = "values, indices = scores -> topk(5)"
    rigid = ("n", "k")

    k: int = attribute(doc="how many elements to take")
    dim: int = attribute(-1, doc="the axis to look along")
    largest: bool = attribute(True, doc="false for the smallest elements, the smallest first")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        before, after = plain_axes(types[0].rank), plain_axes(types[0].rank)
        axis = axis_number(self, self.dim, types[0].rank)
        before[axis], after[axis] = plain_axis("n"), plain_axis("k")
        results = (Pattern("values", tuple(after)), Pattern("indices", tuple(after)))
        return Signature((Pattern("x", tuple(before)),), results)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"k": self.k}

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return ()

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "k")
        axis = axis_number(self, self.dim, types[0].rank)
        there = types[0].shape[axis]
        symbol = as_symbol(there)
        most = there if isinstance(there, int) else symbol.maximum if symbol else None
        if most is not None and self.k > most:
            there_are = f"{most}" if isinstance(there, int) else f"at most {most}"
            raise OperatorError(
                "bad-attribute",
                f"`topk` cannot take {self.k} elements along axis {axis} of {types[0]}: there are {there_are}",
                operand=0,
                attribute="k",
                help="`dim` names the axis to look along, the last one without it",
            )

    def least_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        return [(types[0].shape[axis_number(self, self.dim, types[0].rank)], self.k)]

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[0].dtype, DType.i64)

    def torch(self, spell: TorchSpelling) -> str:
        named = {"largest": False} if not self.largest else {}
        return method(spell.operands[0], "topk", self.k, None if self.dim == -1 else self.dim, **named)

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        count, largest = spell.constant([self.k]), int(self.largest)
        return tuple(spell.add("TopK", *spell.operands, count, outputs=2, axis=self.dim, largest=largest, sorted=1))
