"""Notation of operators in the language: calls with arguments, and formulas.

x -> conv1: conv2d(32, 3, padding = 1)            # a call
a + b    x * 0.5    -x    not x    x[:, 0]        # formulas
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from archc.types.attributes import arguments_text, bind
from archc.types.dims import SymbolicDim

FormulaKind = Literal["binary", "unary", "index"]
"""Position of the symbol: between two operands (`a + b`), before one (`-x`), or after one (`x[0]`)."""
Side = int | float | SymbolicDim | None
"""A side of a formula: a number or size, or None for a tensor."""


class Notation:
    """The part of an operator class that defines its notation in the language."""

    name: ClassVar[str] = ""
    """The name in the language; by default the class name in snake case (`Conv2d`: `conv2d`)."""
    formula: ClassVar[FormulaKind | None] = None
    """The kind of formula; None for operators that are always written as calls."""
    symbol: ClassVar[str] = ""
    """The symbol of the formula: `+`, `not`, `[]`."""

    @classmethod
    def from_arguments(cls, positional: Sequence[Any], named: Mapping[str, Any]) -> Self:
        """Make an operator from the arguments of a call.

        Override it if the arguments differ from the attributes (`rearrange`).

        Raises:
            AttributeProblem: an argument does not fit.
        """
        return bind(cls, f"`{cls.name}`", positional, named)

    def arguments(self) -> list[str]:
        """The arguments of a call that constructs an equal operator; the inverse of `from_arguments`."""
        return arguments_text(self)

    @classmethod
    def from_sides(cls, *sides: Side) -> Self:
        """Make an operator from the sides of a formula."""
        return cls()

    def sides(self) -> tuple[Side, ...] | None:
        """The sides of the formula; None if a formula cannot express the attributes.

        The inverse of `from_sides`.
        """
        if self.formula is None or self != type(self)():
            return None
        return (None, None) if self.formula == "binary" else (None,)

    def __str__(self) -> str:
        arguments = ", ".join(self.arguments())
        return f"{self.name}({arguments})" if arguments else self.name
