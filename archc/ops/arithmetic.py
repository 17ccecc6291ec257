"""Elementwise arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from archc.declaration.base import Operator, OperatorError, SizeOf, operator
from archc.declaration.dtypes import FLOATS, NUMBERS, ONNX_MOST, ONNX_SINGLE, ONNX_WIDE, as_element, dtype_set
from archc.declaration.notation import Side
from archc.declaration.spelling import Infix, OnnxSpelling, TorchSpelling, atom, call, infix, literal, method
from archc.declaration.traits import (
    ADDS,
    CLIPS,
    COMMUTATIVE,
    IDEMPOTENT,
    INTEGER_KERNEL,
    INVOLUTION,
    POINTWISE,
    Homogeneous,
    NeutralOperand,
    Traits,
    Uniform,
)
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, as_symbol
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType


@operator
class Binary(Operator, abstract=True):
    """Base of binary operators: elementwise functions of two tensors, which broadcast from the right.

    `x * 0.5` and `2 / x` have one operand and the attribute `scalar`; the number has the dtype of the operand.
    """

    signature = "a[~s], b[~s] -> y[~s]"
    formula = "binary"
    dtypes = replace(NUMBERS, help="convert with `cast(f32)`, or use `logical_and`, `logical_or`, `where`")
    traits: ClassVar[Traits] = (POINTWISE,)

    scalar: int | float | SymbolicDim | None = attribute(
        None, keyword=True, element=True, phrase="the number", doc="number or size in place of the second operand"
    )
    reverse: bool = attribute(False, keyword=True, doc="the number is on the left: `2 / x`")

    @classmethod
    def from_sides(cls, *sides: Side) -> Self:
        left, right = sides
        return cls(scalar=right if left is None else left, reverse=left is not None)

    def sides(self) -> tuple[Side, Side] | None:
        if self != type(self).from_sides(*self._sides()):
            return None  # a formula cannot express further attributes of a subclass
        unwritten = isinstance(self.scalar, float) and not math.isfinite(self.scalar)
        return None if unwritten else self._sides()

    def _sides(self) -> tuple[Side, Side]:
        return (self.scalar, None) if self.reverse else (None, self.scalar)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return parse_signature(self.signature if self.scalar is None else "a[*s] -> y[*s]")

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        """Number of the operand that equals the result, if the other side is the neutral operand; else None."""
        neutral, commutes = self.trait(NeutralOperand), self.has(COMMUTATIVE)
        if neutral is None:
            return None
        if self.scalar is not None:
            return 0 if self.scalar == neutral.value and (commutes or not self.reverse) else None
        for number, side in ((1, 0), (0, 1)) if commutes else ((1, 0),):
            if uniform[number] == neutral.value and self.infer(types).results[0] == types[side]:
                return side
        return None

    def sides_integers(self, operands: Sequence[range | None], size: SizeOf) -> list[range | None]:
        """Ranges of the integers on the left and the right side; a number has a range of length 1."""
        if self.scalar is None:
            return list(operands)
        number = size(self.scalar) if not isinstance(self.scalar, float) else int(self.scalar)
        sides = [operands[0], range(number, number + 1)]
        return sides[::-1] if self.reverse else sides

    def other_integers(self, position: int, operands: Sequence[range | None], size: SizeOf) -> range | None:
        """Range of the integers on the side that is not the operand at `position`."""
        left, right = self.sides_integers(operands, size)
        return left if (position == 1 or (self.scalar is not None and self.reverse)) else right

    def torch(self, spell: TorchSpelling) -> str:
        return infix(self.torch_sides(spell)[0], self.symbol, self.torch_sides(spell)[1])

    def torch_sides(self, spell: TorchSpelling) -> tuple[str, str]:
        """The two sides as PyTorch expressions."""
        if self.scalar is None:
            return spell.operands[0], spell.operands[1]
        sides = spell.operands[0], self._torch_scalar(spell)
        return (sides[1], sides[0]) if self.reverse else sides

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add(self.onnx_name, *self.onnx_sides(spell))

    def onnx_sides(self, spell: OnnxSpelling) -> tuple[str, str]:
        """Names of the two sides in ONNX."""
        if self.scalar is None:
            return spell.operands[0], spell.operands[1]
        dtype = spell.types[0].dtype
        if isinstance(self.scalar, SymbolicDim):
            scalar = spell.size(self.scalar)
            if dtype is not DType.i64:
                scalar = spell.add("Cast", scalar, to=dtype)
        else:
            scalar = spell.constant(as_element(self.scalar, dtype), dtype)
        sides = spell.operands[0], scalar
        return (sides[1], sides[0]) if self.reverse else sides

    def _torch_scalar(self, spell: TorchSpelling) -> str:
        scalar = self.scalar
        if isinstance(scalar, SymbolicDim):
            text = spell.size(scalar)
            return text if as_symbol(scalar) else Infix(text)
        assert scalar is not None, "an operator of two tensors has no number"
        dtype = spell.types[0].dtype
        text = literal(scalar if dtype.floating else as_element(scalar, dtype))
        return Infix(text) if text.startswith("-") else text


@operator
class Add(Binary):
    """The sum: y = a + b."""

    symbol = "+"
    onnx_name = "Add"
    traits = (ADDS, COMMUTATIVE, NeutralOperand(0), INTEGER_KERNEL)
    example = "y = x + shortcut"

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        a, b = self.sides_integers(operands, size)
        return range(a.start + b.start, a.stop + b.stop - 1) if a and b else None

    def operand_integers(
        self, position: int, operands: Sequence[range | None], wanted: range, size: SizeOf
    ) -> range | None:
        other = self.other_integers(position, operands, size)
        return range(wanted.start - other.start, wanted.stop - (other.stop - 1)) if other else None


@operator
class Sub(Binary):
    """The difference: y = a - b."""

    symbol = "-"
    onnx_name = "Sub"
    traits = (NeutralOperand(0),)
    example = "y = 1 - x"


@operator
class Mul(Binary):
    """The product: y = a · b."""

    symbol = "*"
    onnx_name = "Mul"
    traits = (COMMUTATIVE, NeutralOperand(1))
    example = "y = x * 0.5"

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        a, b = self.sides_integers(operands, size)
        if not (a and b):
            return None
        corners = [x * y for x in (a.start, a.stop - 1) for y in (b.start, b.stop - 1)]
        return range(min(corners), max(corners) + 1)

    def operand_integers(
        self, position: int, operands: Sequence[range | None], wanted: range, size: SizeOf
    ) -> range | None:
        other = self.other_integers(position, operands, size)
        if not other or other.start < 0 or other.stop < 2 or 0 not in wanted:
            return None  # negative factors, which reverse ranges, are not supported: no model needs them
        most = other.stop - 1
        return range(-(-wanted.start // most), (wanted.stop - 1) // most + 1)


@operator
class Div(Binary):
    """The quotient of floating-point numbers: y = a / b."""

    symbol = "/"
    dtypes = FLOATS
    onnx_name = "Div"
    traits = (NeutralOperand(1),)
    example = "y = x / sqrt(D)"


@operator
class Pow(Binary):
    """The power: y = aᵇ.

    An integer tensor requires exponents of at least 0.  Integer results beyond the range of the dtype wrap around, like
    integer products.  If the exponent is a tensor or a size, ONNX Runtime computes in f64: integers beyond 2⁵³ are
    rounded, and integers beyond the range of the dtype become the minimum of the dtype.
    """

    symbol = "**"
    onnx_name = "Pow"
    onnx_dtypes = dtype_set("f64 f32 f16 i64 i32")
    traits = (NeutralOperand(1),)
    example = "y = x ** 2"

    def check(self, types: Sequence[TensorType]) -> None:
        negative = isinstance(self.scalar, (int, float)) and self.scalar < 0 and not self.reverse
        if negative and not types[0].dtype.floating:
            raise OperatorError(
                "bad-attribute",
                f"`pow` of {types[0]} expects an exponent of at least 0, got {self.scalar}",
                attribute="scalar",
                help="convert with `cast(f32)`",
            )

    def onnx(self, spell: OnnxSpelling) -> str:
        exponent = self.scalar
        if spell.types[0].dtype.floating or self.reverse or not isinstance(exponent, (int, float)) or exponent < 1:
            return super().onnx(spell)
        return _product(spell, spell.operands[0], int(exponent))


def _product(spell: OnnxSpelling, x: str, count: int) -> str:
    """Product of `count` factors x, in place of ONNX's `Pow`.

    ONNX Runtime's `Pow` computes integers in f64, which rounds integers beyond 2⁵³.
    """
    if count == 1:
        return x
    half = _product(spell, x, count // 2)
    square = spell.add("Mul", half, half)
    return spell.add("Mul", square, x) if count % 2 else square


@operator
class Minimum(Binary):
    """The elementwise minimum of two tensors: y = min(a, b)."""

    onnx_name = "Min"
    traits = (COMMUTATIVE,)
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "(a, b) -> minimum"

    def torch(self, spell: TorchSpelling) -> str:
        return _bounded("torch.minimum", "max", self, spell)


@operator
class Maximum(Binary):
    """The elementwise maximum of two tensors: y = max(a, b)."""

    onnx_name = "Max"
    traits = (COMMUTATIVE,)
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "(a, b) -> maximum"

    def torch(self, spell: TorchSpelling) -> str:
        return _bounded("torch.maximum", "min", self, spell)


def _bounded(function: str, bound: str, op: Binary, spell: TorchSpelling) -> str:
    """PyTorch text of a minimum or maximum: `torch.minimum` accepts no number, so a number uses `clamp`."""
    left, right = op.torch_sides(spell)
    if op.scalar is None:
        return call(function, left, right)
    x, number = (right, left) if op.reverse else (left, right)
    return f"{atom(x)}.clamp({bound}={number})"


@operator
class Unary(Operator, abstract=True):
    """Base of unary operators: a function of each element."""

    signature = "x[*s] -> y[*s]"
    traits: ClassVar[Traits] = (POINTWISE,)
    dtypes = FLOATS


@operator
class Neg(Unary):
    """The negation: y = -x."""

    formula = "unary"
    symbol = "-"
    dtypes = NUMBERS
    onnx_name = "Neg"
    onnx_dtypes = ONNX_MOST - {DType.u8}
    traits = (INVOLUTION, Homogeneous())
    example = "y = -x"

    def torch(self, spell: TorchSpelling) -> str:
        return Infix(f"-{atom(spell.operands[0])}")


@operator
class Abs(Unary):
    """The absolute value: y = |x|."""

    dtypes = NUMBERS
    torch_name = "torch.abs"
    traits = (IDEMPOTENT, Homogeneous())
    onnx_name = "Abs"
    example = "x -> abs"


@operator
class Sqrt(Unary):
    """The square root: y = √x."""

    torch_name = "torch.sqrt"
    onnx_name = "Sqrt"
    example = "x -> sqrt"


@operator
class Rsqrt(Unary):
    """The reciprocal of the square root: y = 1 / √x."""

    torch_name = "torch.rsqrt"
    onnx_dtypes = ONNX_WIDE
    example = "x -> rsqrt"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Reciprocal", spell.add("Sqrt", *spell.operands))


@operator
class Exp(Unary):
    """The exponential: y = eˣ."""

    torch_name = "torch.exp"
    onnx_name = "Exp"
    example = "x -> exp"


@operator
class Log(Unary):
    """The natural logarithm: y = ln x."""

    torch_name = "torch.log"
    onnx_name = "Log"
    example = "x -> log"


@operator
class Sin(Unary):
    """The sine of x in radians: y = sin x."""

    torch_name = "torch.sin"
    onnx_name = "Sin"
    example = "x -> sin"


@operator
class Cos(Unary):
    """The cosine of x in radians: y = cos x."""

    torch_name = "torch.cos"
    onnx_name = "Cos"
    example = "x -> cos"


@operator
class Erf(Unary):
    """The error function: y = 2/√π · ∫₀ˣ exp(-t²) dt."""

    torch_name = "torch.erf"
    onnx_name = "Erf"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> erf"


@operator
class Square(Unary):
    """The square: y = x²."""

    dtypes = NUMBERS
    torch_name = "torch.square"
    example = "x -> square"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Mul", spell.operands[0], spell.operands[0])


@operator
class Clamp(Unary):
    """The elements limited to a range: y = min(max(x, lower), upper)."""

    dtypes = NUMBERS
    onnx_dtypes = ONNX_MOST - {DType.i16}
    traits = (CLIPS, IDEMPOTENT, Homogeneous("min", "max"))
    example = "x -> clamp(0, 6)"

    min: int | float | None = attribute(None, element=True, doc="lower bound; none by default")
    max: int | float | None = attribute(None, element=True, doc="upper bound; none by default")

    def check(self, types: Sequence[TensorType]) -> None:
        if self.min is None and self.max is None:
            raise OperatorError("bad-attribute", "`clamp` expects `min`, `max` or both")

    def torch(self, spell: TorchSpelling) -> str:
        # A float as a bound would make PyTorch convert integers to floats.
        low, high = (self._bound(bound, spell.types[0].dtype, exact=True) for bound in (self.min, self.max))
        if low is None:
            return method(spell.operands[0], "clamp", max=high)
        return method(spell.operands[0], "clamp", low, high)

    def onnx(self, spell: OnnxSpelling) -> str:
        dtype = spell.types[0].dtype
        bounds = (self._bound(bound, dtype) for bound in (self.min, self.max))
        names = ["" if bound is None else spell.constant(bound, dtype) for bound in bounds]
        return spell.add("Clip", spell.operands[0], *names)

    @staticmethod
    def _bound(bound: int | float | None, dtype: DType, exact: bool = False) -> int | float | None:
        if bound is None or (exact and dtype.floating):
            return bound
        return as_element(bound, dtype)
