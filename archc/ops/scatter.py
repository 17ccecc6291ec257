"""Elements written to places that are data themselves."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import Inference, OperatorError, operator
from archc.operator.dtypes import ANY, PLACES
from archc.operator.spelling import TorchSpelling, method
from archc.ops.index import ByTensor
from archc.types.extent_solver import Extent
from archc.types.tensor_type import DType, TensorType


@operator
class Scatter(ByTensor):
    """One place of an axis written for each element: y is x, but y[index[i, j], j] = src[i, j] for `dim` 0.

    The counterpart of `gather`.  Where two elements are written to one place, which one stays is left to the backend.
    """

    signature = "x[*a], index[*b], src[*b] -> y[*a]"
    family = "index"
    dtypes = {"x": ANY, "index": PLACES, "src": "x"}
    onnx_name = "ScatterElements"
    example = "(x, index, src) -> scatter(1)"
    rigid = ("a", "b")

    def check(self, types: Sequence[TensorType]) -> None:
        axis = self.axis(types)
        for position, operand in enumerate(types[1:], start=1):
            if operand.rank != types[0].rank:
                raise OperatorError(
                    "rank-mismatch",
                    f"`scatter` needs as many axes as {types[0]} has, got {operand}",
                    operand=position,
                )
        for number, (given, there) in enumerate(zip(types[1].shape, types[0].shape)):
            if number != axis and isinstance(given, int) and isinstance(there, int) and given > there:
                raise OperatorError(
                    "shape-mismatch",
                    f"`scatter` finds places {types[1]} for {types[0]}, which has fewer along axis {number}",
                    operand=1,
                    help="`dim` names the axis along which places count; along the others elements keep theirs",
                )
        if types[1].shape != types[2].shape:
            raise OperatorError(
                "shape-mismatch",
                f"`scatter` needs an index for each element, got {types[1]} for {types[2]}",
                operand=2,
            )

    def least_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        axis = self.axis(types)
        pairs = enumerate(zip(types[0].shape, types[1].shape))
        return [(there - given, 0) for number, (there, given) in pairs if number != axis]

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        # Places and elements have their indices in common, as the operands of a product have.
        return 0

    def torch(self, spell: TorchSpelling) -> str:
        index = spell.operands[1]
        if spell.types[1].dtype is not DType.i64:
            index = method(index, "long")
        return method(spell.operands[0], "scatter", self.dim, index, spell.operands[2])
