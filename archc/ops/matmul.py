"""Matrix products of two tensors of the graph; for a product with a weight, use `linear`."""

from __future__ import annotations

from archc.declaration.base import Operator, operator
from archc.declaration.dtypes import NUMBERS, dtype_set
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, infix
from archc.types.dims import minimum, product


@operator
class Matmul(Operator):
    """Matrix product over the last two axes: y = a b; the leading axes broadcast.

    Shapes: a[..., m, k], b[..., k, n] -> y[..., m, n]; both operands have at least two axes.
    """

    signature = "a[~s, m, k], b[~s, k, n] -> y[~s, m, n]"
    dtypes = NUMBERS
    onnx_dtypes = dtype_set("f64 f32 f16 i64 i32")
    example = "(q, k) -> matmul"

    def torch(self, spell: TorchSpelling) -> str:
        return infix(spell.operands[0], "@", spell.operands[1])

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("MatMul", _with_empty_axes(spell, 0), _with_empty_axes(spell, 1))


def _with_empty_axes(spell: OnnxSpelling, position: int) -> str:
    """Expand batch axes of size 1 of an operand to size 0 where the result has size 0.

    ONNX Runtime does not broadcast an axis of size 1 to size 0, unless the right operand is a single matrix.
    """
    operand, batch = spell.operands[position], spell.results[0].shape[:-2]
    own = spell.types[position].shape[:-2]
    own = (1,) * (len(batch) - len(own)) + tuple(own)
    if position == 1 and product(own) == 1:
        return operand
    sizes = [minimum(size, 1) if had == 1 else 1 for had, size in zip(own, batch, strict=True)]
    if all(size == 1 for size in sizes):
        return operand
    return spell.add("Expand", operand, spell.shape((*sizes, 1, 1)))
