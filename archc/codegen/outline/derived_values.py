"""Formulas for values of a definition, such as `4 * C`, `D // heads` and `H - 1`.

The names are those of attributes and sizes of the block.  A value that differs between the instances of a block needs
no argument of its own if a formula gives it in every instance.  The search knows the values only, not the text of the
block.  So a formula of two attributes must hold for several different values: in two instances with the attributes 12
and 3, and 8 and 4, that the values 4 and 2 are the quotients may be a coincidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from archc.codegen.outline.definitions import BlockDefinition

_ENOUGH = 3
"""Minimum number of different values in a formula with two attributes or sizes."""


class NamedValues(NamedTuple):
    """An attribute or size of a block, with its value in each instance."""

    name: str
    values: tuple[int, ...]


Term = NamedValues | int
"""An operand of a formula; a number is the same in all instances."""


class Formula(NamedTuple):
    """A formula that gives a value in every instance of a block: `left operator right`."""

    left: Term
    operator: str
    right: Term

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the attributes and sizes in the formula."""
        return tuple(term.name for term in (self.left, self.right) if isinstance(term, NamedValues))

    @property
    def number(self) -> int:
        """The number in the formula; 0 for a formula without a number."""
        return next((term for term in (self.left, self.right) if isinstance(term, int)), 0)


def formula_of(definition: BlockDefinition, values: Sequence[object]) -> Formula | None:
    """The formula for values that differ between the instances; None if there is none.

    A product with a number, or a quotient by a number, has priority over a sum, and a sum over a formula with two
    attributes.  Of several formulas, the one with the smallest number is taken: `4 * D`, not `128 * heads`.

    Args:
        values: the value in each instance.
    """
    wanted = _integers(values)
    if len(set(wanted)) < 2:
        return None
    named = list(_named(definition))
    for formulas in (
        [_scaled(wanted, base) for base in named],
        [_shifted(wanted, base) for base in named],
        [_combined(wanted, base, other) for base in named for other in named if other is not base],
    ):
        found = [formula for formula in formulas if formula is not None]
        if found:
            return min(found, key=lambda formula: formula.number)
    return None


def _named(definition: BlockDefinition) -> Iterator[NamedValues]:
    """Yield attributes and sizes that are positive integers and differ between the instances."""
    scopes = definition.scopes
    for known in ([scope.arguments for scope in scopes], [scope.sizes for scope in scopes]):
        for name in known[0]:
            values = _integers([own.get(name) for own in known])
            if len(set(values)) > 1 and min(values) > 0:
                yield NamedValues(name, values)


def _integers(values: Sequence[object]) -> tuple[int, ...]:
    """The values, if all of them are integers; else an empty tuple."""
    found = tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool))
    return found if len(found) == len(values) else ()


def _scaled(wanted: Sequence[int], base: NamedValues) -> Formula | None:
    """The formula `factor * base` or `base // divisor`."""
    factor, rest = divmod(wanted[0], base.values[0])
    if not rest and factor > 1 and all(value == factor * own for value, own in zip(wanted, base.values)):
        return Formula(factor, "*", base)
    if min(wanted) < 1:
        return None
    divisor = base.values[0] // wanted[0]
    if divisor > 1 and all(value * divisor == own for value, own in zip(wanted, base.values)):
        return Formula(base, "//", divisor)
    return None


def _shifted(wanted: Sequence[int], base: NamedValues) -> Formula | None:
    """The formula `base + number` or `base - number`."""
    shifts = {value - own for value, own in zip(wanted, base.values)}
    if len(shifts) > 1:
        return None
    shift = shifts.pop()
    return Formula(base, "+" if shift > 0 else "-", abs(shift))


def _combined(wanted: Sequence[int], base: NamedValues, other: NamedValues) -> Formula | None:
    """The formula `base // other`, `base - other`, `base * other` or `base + other`."""
    rows = set(zip(wanted, base.values, other.values))
    if len(rows) < _ENOUGH:
        return None
    if all(value * right == left for value, left, right in rows):
        return Formula(base, "//", other)
    if all(value == left - right for value, left, right in rows):
        return Formula(base, "-", other)
    if all(value == left * right for value, left, right in rows):
        return Formula(base, "*", other)
    if all(value == left + right for value, left, right in rows):
        return Formula(base, "+", other)
    return None
