"""Bounds and inequalities of symbolic sizes that hold for all symbol values of 0 or more."""

from __future__ import annotations

from collections.abc import Iterable

from archc.types.dims import Function, Scaled, Symbol, SymbolicDim, as_linear, symbols


def bounds(dims: Iterable[int | SymbolicDim]) -> tuple[int | None, ...]:
    """Return the upper bounds of all symbols in sizes, for cache keys.

    `==` ignores bounds, so a key of sizes alone would also match sizes with other bounds.
    """
    return tuple(own.maximum for dim in dims if not isinstance(dim, int) for own in symbols(dim).values())


def largest(dim: int | SymbolicDim) -> int | None:
    """Return the largest value of an integer, or of a size such as `2*N + 1`; None if it is unknown.

    For a size, the largest value is known only if the size is `a*N + b` with integers a ≥ 0 and b, and the symbol `N`
    has a bound.
    """
    if isinstance(dim, int):
        return dim
    part = as_linear(dim)
    most = None if part is None else part[0].maximum
    if part is None or most is None or part[1] < 0:
        return None
    _, scale, offset = part
    return scale * most + offset


def never_negative(dim: int | SymbolicDim) -> bool:
    """Return True if the form of a size, such as `2*T + 1`, shows that it is at least 0."""
    if isinstance(dim, int):
        return dim >= 0
    return all(
        coefficient > 0 and all(_never_negative_atom(atom) for atom, _ in monomial)
        for monomial, coefficient in dim.terms
    )


def _never_negative_atom(atom: Symbol | Function | Scaled) -> bool:
    if isinstance(atom, Symbol):
        return True
    if isinstance(atom, Scaled):
        return never_negative(atom.size)
    if atom.name == "max":
        return never_negative(atom.left) or never_negative(atom.right)
    return never_negative(atom.left) and never_negative(atom.right)


def never_exceeds(dim: int | SymbolicDim, size: int | SymbolicDim) -> bool:
    """Return True if the forms of two sizes show that the first is at most the second.

    Examples are `T <= 2*T` and `2*(T//2) <= T`.
    """
    if never_negative(size - dim):
        return True
    if isinstance(dim, SymbolicDim) and len(dim.terms) == 1:
        (monomial, coefficient), *_ = dim.terms
        (atom, power), *others = monomial
        if isinstance(atom, Function) and atom.name == "//" and power == 1 and not others:
            small = coefficient == 1 or (isinstance(atom.right, int) and 1 <= coefficient <= atom.right)
            whole = never_negative(atom.left) and never_negative(atom.right)
            return small and whole and never_exceeds(atom.left, size)
    return False
