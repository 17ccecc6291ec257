"""Symbolic sizes: `N`, `T`, `2*D + 1`, `(H - 3) // 2 + 1`.

A known size is an `int`.  A symbolic size is a `SymbolicDim`: a polynomial with integer coefficients in symbols and
functions of sizes (floor division, remainder, minimum, maximum, and products with fractions, rounded down).

Polynomials have a canonical form, so `==` decides the equality of polynomials: `N + N == 2 * N`,
`(N + 1) * 2 == 2 * N + 2`.  Different polynomials may be equal for all values of the symbols (`N // 2 * 2` and
`N - N % 2`); `==` does not detect this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from fractions import Fraction

from archc.diagnostics import ArchcError, error
from archc.frozen_dataclass import frozen_dataclass
from archc.types import polynomials

MOST_ATOMS = 1000
"""Maximum number of symbols and functions in one size, counted at every occurrence.

The limit bounds the time of each operation: an operation sorts the terms of its result by their texts, and so writes
the text of every symbol and function.
"""
DEEPEST_FUNCTION = 50
"""Maximum nesting depth of functions in one size; text and value of a size are computed by recursion."""
LARGEST_COEFFICIENT = 2**63 - 1
"""Maximum absolute value of a coefficient."""


@frozen_dataclass
class Symbol:
    """A size that is known only at run time, with an optional upper bound `maximum` (`T <= 1024`)."""

    name: str
    maximum: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name


@frozen_dataclass
class Function:
    """A function of two sizes that is not a polynomial: `//`, `%`, `min` or `max`.

    Attributes:
        atoms: number of symbols and functions, this one included, with every occurrence counted.
        depth: levels of nested functions, this one included.
    """

    name: str
    left: int | SymbolicDim
    right: int | SymbolicDim
    atoms: int = field(default=1, compare=False)
    depth: int = field(default=1, compare=False)

    def __str__(self) -> str:
        if self.name in ("min", "max"):
            return f"{self.name}({self.left}, {self.right})"
        return f"{_parenthesized(self.left)} {self.name} {_parenthesized(self.right)}"


@frozen_dataclass
class Scaled:
    """Product of a size and a fraction, rounded down: `int(W * 2.6)`.

    The product is computed in 64-bit floats.  In these floats, 90 * 0.7 is below 63, so `int(W * 0.7)` is not always
    equal to `7 * W // 10`.  `atoms` and `depth` have the same meaning as in `Function`.
    """

    size: SymbolicDim
    factor: float
    atoms: int = field(default=1, compare=False)
    depth: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return f"int({_parenthesized(self.size)} * {self.factor!r})"


Atom = Symbol | Function | Scaled
Terms = polynomials.Terms[Atom]


@frozen_dataclass
class SymbolicDim:
    """A polynomial in canonical form; see `archc.types.polynomials`."""

    terms: Terms

    def __add__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        return _size(polynomials.added(self.terms, _terms(other)))

    __radd__ = __add__

    def __neg__(self) -> int | SymbolicDim:
        return self * -1

    def __sub__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        return self + other * -1

    def __rsub__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        return self * -1 + other

    def __mul__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        factor = _terms(other)
        if len(self.terms) * len(factor) > MOST_ATOMS:
            raise _too_complex(
                f"is a product of {len(self.terms)} and {len(factor)} terms", f"the limit is {MOST_ATOMS}"
            )
        return _size(polynomials.multiplied(self.terms, factor))

    __rmul__ = __mul__

    def __floordiv__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: int) -> int | SymbolicDim:
        return floor_divide(other, self)

    def __mod__(self, other: int | SymbolicDim) -> int | SymbolicDim:
        return remainder(self, other)

    def __rmod__(self, other: int) -> int | SymbolicDim:
        return remainder(other, self)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+"
            factors = [str(abs(coefficient))] if abs(coefficient) != 1 or not monomial else []
            for atom, power in monomial:
                # Next to another factor, a quotient needs parentheses; a symbol or a call needs none.
                alone = len(monomial) == 1 and power == 1 and coefficient == 1
                spelled = str(atom) if alone or isinstance(atom, Symbol | Scaled) else f"({atom})"
                factors += [spelled] * power
            product = "*".join(factors)
            text += f" {sign} {product}" if text else (product if sign == "+" else f"-{product}")
        return text

    __repr__ = __str__


_EXACT_DENOMINATOR = 1024
"""Limit on the denominator of the factor in `scaled`.

Up to this denominator, products of factor and size are exact in 64-bit floats.
"""


def symbol(name: str, maximum: int | None = None) -> SymbolicDim:
    """Return the size that consists of one symbol."""
    return SymbolicDim(((((Symbol(name, maximum), 1),), 1),))


def as_symbol(dim: int | SymbolicDim) -> Symbol | None:
    """Return the symbol that a size consists of, or None for any other size."""
    if isinstance(dim, int) or len(dim.terms) != 1:
        return None
    monomial, coefficient = dim.terms[0]
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    atom = monomial[0][0]
    return atom if isinstance(atom, Symbol) else None


def as_linear(dim: int | SymbolicDim) -> tuple[Symbol, int, int] | None:
    """Return (symbol, scale, offset) of a size `scale * symbol + offset`, or None for any other size."""
    if isinstance(dim, int):
        return None
    powers = [(monomial, coefficient) for monomial, coefficient in dim.terms if monomial]
    if len(powers) != 1:
        return None
    (monomial, scale), offset = powers[0], sum(coefficient for monomial, coefficient in dim.terms if not monomial)
    (atom, power), *others = monomial
    return (atom, scale, offset) if isinstance(atom, Symbol) and power == 1 and not others else None


def symbols(dim: int | SymbolicDim) -> dict[str, Symbol]:
    """Return all symbols in a size by name, in the order of its text."""
    found: dict[str, Symbol] = {}
    if isinstance(dim, int):
        return found
    for monomial, _ in dim.terms:
        for atom, _ in monomial:
            if isinstance(atom, Symbol):
                found.setdefault(atom.name, atom)
            elif isinstance(atom, Scaled):
                found |= symbols(atom.size)
            else:
                found |= symbols(atom.left) | symbols(atom.right)
    return found


def substitute(dim: int | SymbolicDim, sizes: Mapping[str, int | SymbolicDim]) -> int | SymbolicDim:
    """Replace those symbols of a size that are keys of `sizes`."""
    if isinstance(dim, int):
        return dim
    total: int | SymbolicDim = 0
    for monomial, coefficient in dim.terms:
        product: int | SymbolicDim = coefficient
        for atom, power in monomial:
            if isinstance(atom, Symbol):
                value = sizes.get(atom.name, SymbolicDim((((((atom, 1),), 1)),)))
            elif isinstance(atom, Scaled):
                value = scaled(substitute(atom.size, sizes), atom.factor)
            else:
                value = apply(atom.name, substitute(atom.left, sizes), substitute(atom.right, sizes))
            for _ in range(power):
                product = product * value
        total = total + product
    return total


def evaluate(dim: int | SymbolicDim, default: int = 1, sizes: Mapping[str, int] | None = None) -> int:
    """Return a size as a number, with `default` for every symbol that is not in `sizes`."""
    bound = {name: (sizes or {}).get(name, default) for name in symbols(dim)}
    value = substitute(dim, bound)
    assert isinstance(value, int)
    return value


def divide(dim: int | SymbolicDim, by: int | SymbolicDim) -> int | SymbolicDim | None:
    """Return the exact quotient, or None if the canonical forms do not show that `by` divides the size."""
    if isinstance(dim, int) and isinstance(by, int):
        return dim // by if by != 0 and dim % by == 0 else None
    if by == 0:
        return None
    if dim == by:
        return 1
    if isinstance(dim, int):
        return 0 if dim == 0 else None
    quotient = polynomials.divided(dim.terms, _terms(by))
    return None if quotient is None else _size(quotient)


def floor_divide(dim: int | SymbolicDim, by: int | SymbolicDim) -> int | SymbolicDim:
    """Return `dim // by`, rounded down.

    Terms that `by` divides are divided exactly: `(2*N + 1) // 2 == N`.

    Raises:
        ZeroDivisionError: `by` is 0.
    """
    if by == 0:
        raise ZeroDivisionError("a size cannot be divided by 0")
    exact = divide(dim, by)
    if exact is not None:
        return exact
    if isinstance(dim, int) and isinstance(by, int):
        return dim // by
    if isinstance(by, int) and isinstance(dim, SymbolicDim) and by > 0:
        outer = _mapped(dim, lambda coefficient: coefficient // by)
        inner = _mapped(dim, lambda coefficient: coefficient % by)
        # A remainder without symbols is less than `by`, so its quotient is 0.
        if isinstance(inner, int):
            return outer
        return outer + _function("//", inner, by)
    return _function("//", dim, by)


def remainder(dim: int | SymbolicDim, by: int | SymbolicDim) -> int | SymbolicDim:
    """Return `dim % by`, with the sign of `by`.

    Raises:
        ZeroDivisionError: `by` is 0.
    """
    if by == 0:
        raise ZeroDivisionError("a size cannot be divided by 0")
    if divide(dim, by) is not None:
        return 0
    if isinstance(dim, int) and isinstance(by, int):
        return dim % by
    if isinstance(by, int) and isinstance(dim, SymbolicDim) and by > 0:
        inner = _mapped(dim, lambda coefficient: coefficient % by)
        return inner if isinstance(inner, int) else _function("%", inner, by)
    return _function("%", dim, by)


def minimum(left: int | SymbolicDim, right: int | SymbolicDim) -> int | SymbolicDim:
    """Return the smaller of two sizes."""
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return left if left == right else _function("min", left, right)


def maximum(left: int | SymbolicDim, right: int | SymbolicDim) -> int | SymbolicDim:
    """Return the larger of two sizes."""
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    return left if left == right else _function("max", left, right)


_FUNCTIONS = {"//": floor_divide, "%": remainder, "min": minimum, "max": maximum}


def apply(name: str, left: int | SymbolicDim, right: int | SymbolicDim) -> int | SymbolicDim:
    """Apply the function `//`, `%`, `min` or `max` to two sizes."""
    return _FUNCTIONS[name](left, right)


def scaled(dim: int | SymbolicDim, factor: float) -> int | SymbolicDim:
    """Return the size `int(dim * factor)` for a positive factor."""
    if isinstance(dim, int):
        return int(dim * factor)
    exact = Fraction(factor)
    if exact.denominator <= _EXACT_DENOMINATOR:
        return floor_divide(dim * exact.numerator, exact.denominator)
    return SymbolicDim(((((Scaled(dim, factor, *_around(dim)), 1),), 1),))


def product(dims: tuple[int | SymbolicDim, ...] | list[int | SymbolicDim]) -> int | SymbolicDim:
    """Return the product of sizes, which is 1 for an empty sequence."""
    total: int | SymbolicDim = 1
    for dim in dims:
        total = total * dim
    return total


def _function(name: str, left: int | SymbolicDim, right: int | SymbolicDim) -> SymbolicDim:
    """Return the size that consists of one function.

    Raises:
        ArchcError: `size-too-complex`; see `_around`.
    """
    return SymbolicDim(((((Function(name, left, right, *_around(left, right)), 1),), 1),))


def _around(*operands: int | SymbolicDim) -> tuple[int, int]:
    """Return the number of atoms and the depth of a function of these sizes.

    Raises:
        ArchcError: the number exceeds `MOST_ATOMS`, or the depth exceeds `DEEPEST_FUNCTION` (`size-too-complex`).
    """
    inner = [_extent_of(size.terms) for size in operands if isinstance(size, SymbolicDim)]
    atoms, depth = 1 + sum(count for count, _ in inner), 1 + max((deep for _, deep in inner), default=0)
    if depth > DEEPEST_FUNCTION:
        raise _too_complex(f"nests {depth} divisions, minimums or maximums", f"the limit is {DEEPEST_FUNCTION}")
    if atoms > MOST_ATOMS:
        raise _too_complex(f"is a function of {atoms} symbols", f"the limit is {MOST_ATOMS}")
    return atoms, depth


def atom_count(size: SymbolicDim) -> int:
    """Return the number of symbols and functions in a size, with every occurrence counted."""
    return _extent_of(size.terms)[0]


def _extent_of(terms: Terms) -> tuple[int, int]:
    """Return the number of atoms of a polynomial, and its number of levels of nested functions."""
    atoms = depth = 0
    for monomial, _ in terms:
        for atom, power in monomial:
            if isinstance(atom, Function | Scaled):
                atoms, depth = atoms + power * atom.atoms, max(depth, atom.depth)
            else:
                atoms += power
    return atoms, depth


def _too_complex(what: str, limit: str) -> ArchcError:
    return error(
        "size-too-complex",
        f"the size of an axis {what}; {limit}",
        help="use numbers for the sizes of the model's inputs: `input x: f32[N, 3, 224, 224]`",
    )


def _terms(dim: int | SymbolicDim) -> Terms:
    if isinstance(dim, int):
        return (((), dim),) if dim else ()
    return dim.terms


def _size(terms: Terms) -> int | SymbolicDim:
    """Return a polynomial as a size, which is an `int` if the polynomial is constant.

    Raises:
        ArchcError: the polynomial is too long, or a coefficient is too large (`size-too-complex`).
    """
    if not terms:
        return 0
    (monomial, coefficient), *others = terms
    if not monomial and not others:
        return coefficient
    atoms, _ = _extent_of(terms)
    if atoms > MOST_ATOMS:
        raise _too_complex(f"is a sum of products of {atoms} symbols in all", f"the limit is {MOST_ATOMS}")
    if any(abs(own) > LARGEST_COEFFICIENT for _, own in terms):
        raise _too_complex("has a coefficient of more than 64 bits", f"{LARGEST_COEFFICIENT} is the largest")
    return SymbolicDim(terms)


def _mapped(dim: SymbolicDim, function: Callable[[int], int]) -> int | SymbolicDim:
    """Apply a function to the coefficients of a size."""
    return _size(polynomials.canonical({monomial: function(coefficient) for monomial, coefficient in dim.terms}))


def _parenthesized(dim: int | SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) or as_symbol(dim) else f"({dim})"
