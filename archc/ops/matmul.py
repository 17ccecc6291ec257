"""The product of matrices that are data; with a weight it is `linear`."""

from __future__ import annotations

from collections.abc import Sequence

from archc.ir.types import DType, TensorType
from archc.ops.operator import Operator, OperatorError, operator
from archc.ops.spelling import TorchSpelling, infix


@operator
class Matmul(Operator):
    """The matrix product over the last two axes: y = a b; the leading axes broadcast.

    Shapes: a[..., m, k], b[..., k, n] -> y[..., m, n]; both operands have at least two axes.
    """

    signature = "a[~s, m, k], b[~s, k, n] -> y[~s, m, n]"
    onnx_name = "MatMul"
    example = "(q, k) -> matmul"

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        (shared,) = super().result_dtypes(types)
        if shared is DType.bool:
            raise OperatorError("dtype-mismatch", f"`matmul` needs numbers, and receives {types[0]}", operand=0)
        return (shared,)

    def torch(self, spell: TorchSpelling) -> str:
        return infix(spell.operands[0], "@", spell.operands[1])
