"""Values that are a multiple of a block's attribute, or of a size of what it receives: `4 * channels`, `C // 2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from archc.codegen.outline.program import Definition

_ENOUGH = 3  # that many different pairs, and it is no coincidence


class Multiple(NamedTuple):
    """Values that are one multiple of others in all instances of a definition.

    Attributes:
        name: what the text calls those others; base: their values.
        factor: what they are multiplied by, or divided by if it is negative.
    """

    name: str
    base: tuple[int, ...]
    factor: int


def multiple_of(definition: Definition, values: Sequence[object]) -> Multiple | None:
    """The attribute, or the size, of which values are a multiple; None where it might be a coincidence."""
    numbers = _positive(values)
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        for name in known[0]:
            base = _positive([own.get(name) for own in known])
            factor = _factor(numbers, base)
            if factor is not None:
                return Multiple(name, base, factor)
    return None


def _positive(values: Sequence[object]) -> tuple[int, ...]:
    """The values, if they are positive integers."""
    found = tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0)
    return found if len(found) == len(values) else ()


def _factor(values: Sequence[int], base: Sequence[int]) -> int | None:
    if not values or len(set(base)) < _ENOUGH:
        return None
    factor, quotient = values[0] // base[0], base[0] // values[0]
    if factor > 1 and all(value == factor * own for value, own in zip(values, base, strict=True)):
        return factor
    if quotient > 1 and all(value * quotient == own for value, own in zip(values, base, strict=True)):
        return -quotient
    return None
