"""Operators that the language writes as formulas: `a + b`, `x * 0.5`, `-x`, `not x`, `x[:, 0]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from archc.operator.table import OperatorTable
from archc.types.dims import SymbolicDim

if TYPE_CHECKING:
    from archc.operator.base import Operator

Kind = Literal["binary", "unary", "index"]
"""Where the symbol stands: between two sides, before one, or behind one as brackets."""
Side = int | float | SymbolicDim | None
"""What stands beside a symbol: a number, or None for a tensor."""


class Formula:
    """The part of an operator that says how the language writes it where it is no stage of a chain."""

    formula: ClassVar[Kind | None] = None
    """The kind of formula; None for what is always a stage."""
    symbol: ClassVar[str] = ""
    """What the language writes: `+`, `not`, `[]`."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if cls.formula is not None and "symbol" in cls.__dict__:
            FORMULAS[cls.formula][cls.symbol] = cls  # type: ignore[assignment]  # operators are all that inherit

    @classmethod
    def from_sides(cls, *sides: Side) -> Self:
        """The operator that its symbol makes between these sides; the counterpart of `sides`."""
        return cls()

    def sides(self) -> tuple[Side, ...] | None:
        """What stands beside its symbol; None where a formula cannot say all that the attributes do."""
        if self.formula is None or self != type(self)():
            return None
        return (None, None) if self.formula == "binary" else (None,)


FORMULAS: dict[Kind, OperatorTable[type[Operator]]] = {
    "binary": OperatorTable(),
    "unary": OperatorTable(),
    "index": OperatorTable(),
}
"""The operators of each kind of formula, by symbol."""


def formula_of(op: Operator) -> Kind | None:
    """The formula that says all there is to say about an operator; None where it is written as a stage.

    One that inherits a symbol is not what the symbol means.
    """
    kind = op.formula
    return kind if kind is not None and FORMULAS[kind].get(op.symbol) is type(op) and op.sides() is not None else None
