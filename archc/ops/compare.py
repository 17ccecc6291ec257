"""Comparisons, logic and selection: operators with boolean results or operands."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import Operator, operator
from archc.declaration.dtypes import ANY, BOOL, as_element, dtype_set
from archc.declaration.spelling import Infix, OnnxSpelling, TorchSpelling, atom, call, infix
from archc.declaration.traits import COMMUTATIVE, INVOLUTION, POINTWISE
from archc.ops.arithmetic import Binary
from archc.types.attributes import attribute
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType


@operator
class Comparison(Binary, abstract=True):
    """Base of comparisons of two tensors, or of a tensor and a number; the result is bool."""

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (DType.bool,)


@operator
class Eq(Comparison):
    """Elementwise equality: y = (a == b)."""

    symbol = "=="
    dtypes = ANY
    traits = (COMMUTATIVE,)
    onnx_name = "Equal"
    example = "y = tokens == 0"


@operator
class Ne(Comparison):
    """Elementwise inequality: y = (a != b)."""

    symbol = "!="
    dtypes = ANY
    traits = (COMMUTATIVE,)
    example = "y = tokens != 0"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Not", spell.add("Equal", *self.onnx_sides(spell)))


@operator
class Lt(Comparison):
    """Elementwise less-than: y = (a < b)."""

    symbol = "<"
    onnx_name = "Less"
    example = "y = x < 0"


@operator
class Le(Comparison):
    """Elementwise less-or-equal: y = (a <= b)."""

    symbol = "<="
    onnx_name = "LessOrEqual"
    example = "y = x <= 0"


@operator
class Gt(Comparison):
    """Elementwise greater-than: y = (a > b)."""

    symbol = ">"
    onnx_name = "Greater"
    example = "y = x > 0"


@operator
class Ge(Comparison):
    """Elementwise greater-or-equal: y = (a >= b)."""

    symbol = ">="
    onnx_name = "GreaterOrEqual"
    example = "y = x >= 0"


@operator
class Where(Operator):
    """Elementwise selection: y = input where condition is true, else other; all three operands broadcast."""

    signature = "condition[~s], input[~s], other[~s] -> y[~s]"
    dtypes = {"condition": BOOL, "input": ANY, "other": "input"}
    onnx_dtypes = {"input": dtype_set("f64 f32 f16 i64 i32 i8 u8")}
    traits = (POINTWISE,)
    example = "(mask, x) -> where(other = 0.0)"

    other: int | float | None = attribute(None, keyword=True, element=True, doc="number in place of the third operand")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return parse_signature(self.signature if self.other is None else "condition[~s], input[~s] -> y[~s]")

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[1].dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        if self.other is None:
            return call("torch.where", *spell.operands)
        dtype = spell.types[1].dtype
        return call("torch.where", *spell.operands, self.other if dtype.floating else as_element(self.other, dtype))

    def onnx(self, spell: OnnxSpelling) -> str:
        operands = list(spell.operands)
        if self.other is not None:
            dtype = spell.types[1].dtype
            operands.append(spell.constant(as_element(self.other, dtype), dtype))
        return spell.add("Where", *operands)


@operator
class Logical(Operator, abstract=True):
    """Base of logical operators, whose operands are bool."""

    dtypes = BOOL
    traits = (POINTWISE,)


@operator
class LogicalAnd(Logical):
    """Elementwise conjunction: y = a ∧ b."""

    signature = "a[~s], b[~s] -> y[~s]"
    onnx_name = "And"
    traits = (COMMUTATIVE,)
    example = "(a, b) -> logical_and"

    def torch(self, spell: TorchSpelling) -> str:
        return infix(spell.operands[0], "&", spell.operands[1])


@operator
class LogicalOr(Logical):
    """Elementwise disjunction: y = a ∨ b."""

    signature = "a[~s], b[~s] -> y[~s]"
    onnx_name = "Or"
    traits = (COMMUTATIVE,)
    example = "(a, b) -> logical_or"

    def torch(self, spell: TorchSpelling) -> str:
        return infix(spell.operands[0], "|", spell.operands[1])


@operator
class LogicalNot(Logical):
    """Elementwise negation: y = ¬x."""

    formula = "unary"
    symbol = "not"
    signature = "x[*s] -> y[*s]"
    onnx_name = "Not"
    traits = (INVOLUTION,)
    example = "mask -> logical_not"

    def torch(self, spell: TorchSpelling) -> str:
        return Infix(f"~{atom(spell.operands[0])}")
