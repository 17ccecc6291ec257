"""What the binary operators share: two tensors that broadcast, or a tensor and a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from archc.operator.base import Operator, SizeOf, operator
from archc.operator.dtypes import NUMBERS, as_element
from archc.operator.formula import Side
from archc.operator.rewriting import Uniform
from archc.operator.spelling import Infix, OnnxSpelling, TorchSpelling, infix, literal
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, as_symbol
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType


@operator
class Binary(Operator, abstract=True):
    """A function of two tensors, element by element, that broadcast from the right.

    `x * 0.5` and `2 / x` are one operand and `scalar`, which counts as a tensor of the operand's dtype.
    """

    signature = "a[~s], b[~s] -> y[~s]"
    formula = "binary"
    dtypes = replace(NUMBERS, help="convert with `cast(f32)`, or use `logical_and`, `logical_or`, `where`")
    neutral: ClassVar[int | None] = None
    """The number that as the second operand changes nothing."""
    commutes: ClassVar[bool] = False
    """Whether the two sides may change places."""
    pointwise = True

    scalar: int | float | SymbolicDim | None = attribute(
        None, keyword=True, element=True, phrase="the number", doc="a number (or a size) in place of the second operand"
    )
    reverse: bool = attribute(False, keyword=True, doc="the number is on the left: `2 / x`")

    @classmethod
    def from_sides(cls, *sides: Side) -> Self:
        left, right = sides
        return cls(scalar=right if left is None else left, reverse=left is not None)

    def sides(self) -> tuple[Side, Side] | None:
        if self != type(self).from_sides(*self._sides()):
            return None  # it has attributes besides these
        unwritten = isinstance(self.scalar, float) and not math.isfinite(self.scalar)
        return None if unwritten else self._sides()

    def _sides(self) -> tuple[Side, Side]:
        return (self.scalar, None) if self.reverse else (None, self.scalar)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return parse_signature(self.signature if self.scalar is None else "a[*s] -> y[*s]")

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        """The side beside the neutral number."""
        if self.neutral is None:
            return None
        if self.scalar is not None:
            return 0 if self.scalar == self.neutral and (self.commutes or not self.reverse) else None
        for number, side in ((1, 0), (0, 1)) if self.commutes else ((1, 0),):
            if uniform[number] == self.neutral and self.infer(types).results[0] == types[side]:
                return side
        return None

    def sides_integers(self, operands: Sequence[range | None], size: SizeOf) -> list[range | None]:
        """The integers among which the left side is, and the right one; of a number that one."""
        if self.scalar is None:
            return list(operands)
        number = size(self.scalar) if not isinstance(self.scalar, float) else int(self.scalar)
        sides = [operands[0], range(number, number + 1)]
        return sides[::-1] if self.reverse else sides

    def other_integers(self, position: int, operands: Sequence[range | None], size: SizeOf) -> range | None:
        """The integers among which the side beside an operand is."""
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
        """The names of the two sides in ONNX."""
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
        assert scalar is not None, "asked for the number of an operator of two tensors"
        dtype = spell.types[0].dtype
        text = literal(scalar if dtype.floating else as_element(scalar, dtype))
        return Infix(text) if text.startswith("-") else text
