"""Polynomials with integer coefficients in a canonical form: sums of products of atoms.

An atom is any hashable object whose text is unique among the atoms.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

A = TypeVar("A", bound=Hashable)

Monomial = tuple[tuple[A, int], ...]
"""Atoms with their powers, sorted by the atoms' texts; the empty product is 1."""
Terms = tuple[tuple[Monomial[A], int], ...]
"""Monomials with their coefficients, which are not 0; the empty sum is 0."""


def canonical(terms: Mapping[Monomial[A], int]) -> Terms[A]:
    """Return the canonical form of a sum: higher powers first, the constant last.

    Monomials of one degree are sorted by text.
    """
    kept = [(monomial, coefficient) for monomial, coefficient in terms.items() if coefficient]
    return tuple(sorted(kept, key=_rank) if len(kept) > 1 else kept)


def _rank(term: tuple[Monomial[A], int]) -> tuple[int, list[tuple[str, int]]]:
    monomial, _ = term
    return -sum(power for _, power in monomial), [(str(atom), power) for atom, power in monomial]


def added(left: Terms[A], right: Terms[A]) -> Terms[A]:
    """Return the sum of two polynomials."""
    terms = dict(left)
    for monomial, coefficient in right:
        terms[monomial] = terms.get(monomial, 0) + coefficient
    return canonical(terms)


def multiplied(left: Terms[A], right: Terms[A]) -> Terms[A]:
    """Return the product of two polynomials."""
    terms: dict[Monomial[A], int] = {}
    for first, a in left:
        for second, b in right:
            powers = dict(first)
            for atom, power in second:
                powers[atom] = powers.get(atom, 0) + power
            monomial = _monomial(powers.items())
            terms[monomial] = terms.get(monomial, 0) + a * b
    return canonical(terms)


MOST_STEPS = 100
"""Maximum number of terms of a quotient whose divisor has several terms.

The time for each term is proportional to the lengths of dividend and divisor.
"""


def divided(terms: Terms[A], by: Terms[A]) -> Terms[A] | None:
    """Return the exact quotient by a polynomial other than 0.

    The result is None if the division leaves a remainder, or if the quotient has more than `MOST_STEPS` terms.
    """
    if len(by) == 1:
        return _divided_by_term(terms, by[0])
    leading = min(by, key=lambda term: leading_rank(term[0]))
    rest, quotient = terms, dict[Monomial[A], int]()
    while rest:
        largest = min(rest, key=lambda term: leading_rank(term[0]))
        step = _divided_by_term((largest,), leading)
        if step is None or len(quotient) == MOST_STEPS:
            return None
        ((monomial, coefficient),) = step
        quotient[monomial] = coefficient
        rest = added(rest, multiplied(((monomial, -coefficient),), by))
    return canonical(quotient)


def leading_rank(monomial: Monomial[A]) -> tuple[int, list[str]]:
    """Return the sort key of the graded lexicographic order, largest monomial first.

    Unlike the order of `canonical`, this order is preserved by products with a monomial, so that division by leading
    terms terminates.
    """
    texts = [text for atom, power in monomial for text in [str(atom)] * power]
    return -len(texts), texts


def _divided_by_term(terms: Terms[A], by: tuple[Monomial[A], int]) -> Terms[A] | None:
    monomial, coefficient = by
    quotient: dict[Monomial[A], int] = {}
    for own, value in terms:
        powers = dict(own)
        for atom, power in monomial:
            if powers.get(atom, 0) < power:
                return None
            powers[atom] -= power
        if value % coefficient:
            return None
        quotient[_monomial((atom, power) for atom, power in powers.items() if power)] = value // coefficient
    return canonical(quotient)


def _monomial(powers: Iterable[tuple[A, int]]) -> Monomial[A]:
    return tuple(sorted(powers, key=lambda factor: str(factor[0])))
