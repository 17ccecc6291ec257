"""Rewriting of sizes in terms of the axes of given tensors.

The inputs of a pipeline stage can have an axis of size `(L - 10)//5 + 1`, and no axis of size `L`.  A new symbol `K`
then names that axis, and the size `2*((L - 10)//5 + 1)` is rewritten as `2*K`.

The symbols and functions in a size are called atoms.  An atom is known if the axes determine its value.  Each named
axis gives an equation: a polynomial in unknown atoms equals a polynomial in known symbols.  A size is rewritten by
polynomial division, which reduces its terms by the leading terms of the equations until the size has no unknown atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import gcd

from archc.frozen_dataclass import frozen_dataclass
from archc.types import dims
from archc.types.dims import Atom, Scaled, Symbol, SymbolicDim, as_linear, divide, floor_divide, symbol, symbols
from archc.types.polynomials import Monomial, leading_rank
from archc.types.tensor_type import TensorType

Size = int | SymbolicDim
Unknown = Monomial[Atom]
"""A product of unknown atoms."""
MOST_STEPS = 100
"""Maximum number of reductions of one size."""


@frozen_dataclass
class _Equation:
    """Equality of a polynomial in unknown atoms and a known size.

    Attributes:
        left: the polynomial; each of its terms has an unknown atom.
        leading, coefficient: the leading term of `left`; the coefficient is a known size.
        value: the known size.
    """

    left: SymbolicDim
    leading: Unknown
    coefficient: Size
    value: Size

    @property
    def single(self) -> bool:
        """True if `left` has one term, so that the equation determines the monomial of this term."""
        return self.left == _as_size(self.leading) * self.coefficient


class AxisExpressions:
    """Rewriting of sizes as expressions of the axes of given tensors.

    Args:
        types: the types of the tensors.
        fresh: returns a new name for the symbol of an axis.

    Attributes:
        named: a new symbol for each axis that the other axes do not determine, by the size of the axis.
    """

    def __init__(self, types: Iterable[TensorType], fresh: Callable[[], str]):
        sizes = dict.fromkeys(dim for type in types for dim in type.shape if isinstance(dim, SymbolicDim))
        parts = (as_linear(dim) for dim in sizes)
        self._symbols = {part[0].name for part in parts if part is not None}
        self._equations: list[_Equation] = []
        self._expressed: dict[SymbolicDim, Size | None] = {}
        self.named: dict[SymbolicDim, SymbolicDim] = {}
        for dim in sorted(sizes, key=lambda dim: len(str(dim))):  # shorter ones first: they may determine longer ones
            if self.express(dim) is None:
                name = fresh()
                self._symbols.add(name)
                self.named[dim] = symbol(name)
                self._add(dim, self.named[dim])

    def express(self, dim: Size) -> Size | None:
        """Return a size in terms of the symbols of axes and of `named`, or None if they do not determine it."""
        if isinstance(dim, int) or self._is_known(dim):
            return dim
        if dim not in self._expressed:
            self._expressed[dim] = None  # ends the recursion if an operand of a function leads back to `dim`
            self._expressed[dim] = self.named.get(dim) or self._express(dim)
        return self._expressed[dim]

    def express_type(self, type: TensorType) -> TensorType:
        """Return the type of one of the given tensors with its sizes rewritten."""
        shape = [self.express(dim) for dim in type.shape]
        return TensorType(type.dtype, tuple(dim for dim in shape if dim is not None))

    def _is_known(self, dim: Size) -> bool:
        return symbols(dim).keys() <= self._symbols

    # Equations --------------------------------------------------------------------------------------------

    def _add(self, left: Size, value: Size) -> None:
        """Add the equation of a named axis, and reduce all equations by one another."""
        pending = [(left, value)]
        for _ in range(MOST_STEPS):
            if not pending:
                return
            equation = self._equation(*pending.pop())
            if equation is None:
                continue
            self._equations.append(equation)
            self._expressed.clear()
            for old in self._equations[:-1]:
                others = [own for own in self._equations if own is not old]
                if self._reduced(old.left, others) != old.left:
                    self._equations.remove(old)
                    pending.append((old.left, old.value))

    def _equation(self, left: Size, value: Size) -> _Equation | None:
        """Return the equation of two equal sizes, or None if it has no unknown atoms; `value` is a known size."""
        terms = self._by_unknown(self._reduced(left, self._equations))
        value = value - terms.pop((), 0)
        if not terms:
            return None
        leading = min(terms, key=leading_rank)
        coefficient = terms[leading]
        sign = -1 if (coefficient if isinstance(coefficient, int) else coefficient.terms[0][1]) < 0 else 1
        total: Size = 0
        for unknown, own in terms.items():
            total = total + _as_size(unknown) * own * sign
        assert isinstance(total, SymbolicDim), "the sum has unknown atoms"
        return _Equation(total, leading, coefficient * sign, value * sign)

    # Reduction --------------------------------------------------------------------------------------------

    def _express(self, dim: Size) -> Size | None:
        divisor: Size = 1
        for _ in range(MOST_STEPS):
            dim = self._reduced(dim, self._equations)
            terms = self._by_unknown(dim)
            terms.pop((), None)
            if not terms:
                return floor_divide(dim, divisor)
            leading = min(terms, key=leading_rank)
            found = self._multiple_reduced(dim, leading, terms[leading])
            if found is None:
                return None
            dim, factor = found
            divisor = divisor * factor
        return None

    def _multiple_reduced(self, dim: Size, leading: Unknown, coefficient: Size) -> tuple[Size, Size] | None:
        """Multiply a size by a factor for which an equation can eliminate the leading term of the product.

        For example, the size is `A`, and an equation is `2*A + B = S1`.  The factor 2 gives the product `2*A`.  The
        equation rewrites this product as `S1 - B`.

        Args:
            leading, coefficient: the leading term of the size.

        Returns:
            The rewritten product and the factor, such as `S1 - B` and 2; None if no equation has a leading monomial
            that divides `leading`.  A symbolic factor is assumed to be at least 1.
        """
        for equation in self._equations:
            rest = divide(_as_size(leading), _as_size(equation.leading))
            if rest is not None:
                factor = equation.coefficient
                if isinstance(factor, int) and isinstance(coefficient, int):
                    common = gcd(factor, coefficient)
                    factor, coefficient = factor // common, coefficient // common
                return dim * factor + (equation.value - equation.left) * rest * coefficient, _at_least_1(factor)
        return None

    def _reduced(self, dim: Size, equations: Iterable[_Equation]) -> Size:
        """Replace all terms of a size that are multiples of the leading term of an equation."""
        dim = self._with_known_functions(dim)
        for _ in range(MOST_STEPS):
            terms = self._by_unknown(dim)
            steps = (self._step(dim, unknown, terms[unknown], equations) for unknown in sorted(terms, key=leading_rank))
            found = next((step for step in steps if step is not None), None)
            if found is None:
                break
            dim = found
        return dim

    def _step(self, dim: Size, unknown: Unknown, coefficient: Size, equations: Iterable[_Equation]) -> Size | None:
        """Replace one term of a size by smaller terms; return None if no equation can replace the term."""
        product = _as_size(unknown)
        dividing = [(own, divide(product, _as_size(own.leading))) for own in equations]
        for equation, rest in dividing:
            quotient = None if rest is None else divide(coefficient, equation.coefficient)
            if rest is not None and quotient is not None:
                return dim + (equation.value - equation.left) * rest * quotient
        for equation, rest in dividing:
            if rest is not None and equation.single:
                factor = floor_divide(equation.value, _at_least_1(equation.coefficient))
                return dim + (factor * rest - product) * coefficient
        return None

    def _with_known_functions(self, dim: Size) -> Size:
        """Rewrite functions in a size as functions of known symbols, if the axes determine their operands."""
        if isinstance(dim, int) or self._is_known(dim):
            return dim
        total: Size = 0
        for monomial, coefficient in dim.terms:
            product: Size = coefficient
            for atom, power in monomial:
                factor = self._function(atom)
                for _ in range(power):
                    product = product * factor
            total = total + product
        return total

    def _function(self, atom: Atom) -> Size:
        size = _as_size(((atom, 1),))
        if isinstance(atom, Symbol) or self._is_known(size):
            return size
        if isinstance(atom, Scaled):
            inner = self.express(atom.size)
            return size if inner is None else dims.scaled(inner, atom.factor)
        left, right = self.express(atom.left), self.express(atom.right)
        return size if left is None or right is None else dims.apply(atom.name, left, right)

    def _by_unknown(self, dim: Size) -> dict[Unknown, Size]:
        """Return the coefficient of each product of unknown atoms in a size; the key () is the empty product."""
        found: dict[Unknown, Size] = {}
        for monomial, coefficient in () if isinstance(dim, int) else dim.terms:
            known = {atom for atom, _ in monomial if self._is_known(_as_size(((atom, 1),)))}
            unknown = tuple(factor for factor in monomial if factor[0] not in known)
            product = _as_size(tuple(factor for factor in monomial if factor[0] in known)) * coefficient
            found[unknown] = found.get(unknown, 0) + product
        return found if isinstance(dim, SymbolicDim) else {(): dim}


def _as_size(monomial: Unknown) -> Size:
    return SymbolicDim(((monomial, 1),)) if monomial else 1


def _at_least_1(size: Size) -> Size:
    return dims.maximum(size, 1)
