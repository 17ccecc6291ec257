"""The product of matrices that are data; with a weight it is `linear`."""

from __future__ import annotations

from archc.ops.dtypes import NUMBERS, named
from archc.ops.operator import Operator, operator
from archc.ops.spelling import TorchSpelling, infix


@operator
class Matmul(Operator):
    """The matrix product over the last two axes: y = a b; the leading axes broadcast.

    Shapes: a[..., m, k], b[..., k, n] -> y[..., m, n]; both operands have at least two axes.
    """

    signature = "a[~s, m, k], b[~s, k, n] -> y[~s, m, n]"
    dtypes = NUMBERS
    onnx_name = "MatMul"
    onnx_dtypes = named("f64 f32 f16 i64 i32")
    example = "(q, k) -> matmul"

    def torch(self, spell: TorchSpelling) -> str:
        return infix(spell.operands[0], "@", spell.operands[1])
