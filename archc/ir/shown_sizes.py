"""Sizes in terms of given axes: `2*((L - 10)//5 + 1)` is `2*K` if an axis has the size `(L - 10)//5 + 1`, named `K`.

A stage of a pipeline may receive tensors whose sizes are expressions of symbols, none of which is the size of an axis.
Such an axis becomes a symbol of its own, and other sizes become expressions of that symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from archc.ir import dims
from archc.ir.dims import Atom, Function, Scaled, Symbol, SymbolicDim, as_linear, divide, floor_divide, symbol, symbols
from archc.ir.types import TensorType

Size = int | SymbolicDim
_Known = Mapping[SymbolicDim, SymbolicDim]


class ShownSizes:
    """Rewrites sizes as expressions of the axes of given tensors.

    Args:
        types: the types of the tensors.
        fresh: returns a new name for the symbol of an axis.

    Attributes:
        named: new symbols by the sizes of their axes, which no other axis determines.
    """

    def __init__(self, types: Iterable[TensorType], fresh: Callable[[], str]):
        sizes = dict.fromkeys(dim for type in types for dim in type.shape if isinstance(dim, SymbolicDim))
        parts = (as_linear(dim) for dim in sizes)
        self._symbols = {part[0].name for part in parts if part is not None}
        self.named: dict[SymbolicDim, SymbolicDim] = {}
        for dim in sorted(sizes, key=lambda dim: len(str(dim))):  # longer sizes may follow from shorter ones
            if self.express(dim) is None:
                self.named[dim] = symbol(fresh())

    def express(self, dim: Size) -> Size | None:
        """A size in terms of the symbols of axes and of `named`; None where they do not determine it."""
        return self._express(dim, self.named)

    def express_type(self, type: TensorType) -> TensorType:
        """The type of one of the given tensors, with its sizes rewritten."""
        shape = [self.express(dim) for dim in type.shape]
        return TensorType(type.dtype, tuple(dim for dim in shape if dim is not None))

    def _express(self, dim: Size, known: _Known) -> Size | None:
        if isinstance(dim, int) or symbols(dim).keys() <= self._symbols:
            return dim
        for axis, name in known.items():
            found = _linear_in(dim, axis, name)
            if found is not None:
                return found
        total: Size = 0
        for monomial, coefficient in dim.terms:
            product = self._product(SymbolicDim(((monomial, 1),)), known) if monomial else 1
            if product is None:
                return None
            total = total + product * coefficient
        return total

    def _product(self, dim: SymbolicDim, known: _Known) -> Size | None:
        """Rewrite a product of atoms by an axis that divides it, by its factors, or as a factor of an axis."""
        if symbols(dim).keys() <= self._symbols:
            return dim
        for axis, name in known.items():
            rest = divide(dim, axis)
            rest = None if rest is None else self._express(rest, known)
            if rest is not None:
                return name * rest
        ((monomial, _),) = dim.terms
        if len(monomial) > 1 or monomial[0][1] > 1:
            total: Size = 1
            for atom, power in monomial:
                factor = self._express(SymbolicDim(((((atom, 1),), 1),)), known)
                if factor is None:
                    return None
                for _ in range(power):
                    total = total * factor
            return total
        return self._atom(monomial[0][0], known) or self._factor(dim, known)

    def _atom(self, atom: Atom, known: _Known) -> Size | None:
        if isinstance(atom, Symbol):
            return None
        if isinstance(atom, Scaled):
            size = self._express(atom.size, known)
            return None if size is None else dims.scaled(size, atom.factor)
        left, right = self._express(atom.left, known), self._express(atom.right, known)
        return None if left is None or right is None else _applied(atom, left, right)

    def _factor(self, dim: SymbolicDim, known: _Known) -> Size | None:
        """Rewrite a factor of an axis: the axis divided by its other factors, which count as at least 1, never 0."""
        for axis, name in known.items():
            rest = divide(axis, dim)
            others = {other: its for other, its in known.items() if other != axis}
            rest = None if rest is None else self._express(rest, others)
            if rest is not None:
                return floor_divide(name, dims.maximum(rest, 1))
        return None


def _applied(atom: Function, left: Size, right: Size) -> Size:
    return dims.apply(atom.name, left, right)


def _linear_in(dim: SymbolicDim, axis: SymbolicDim, name: SymbolicDim) -> Size | None:
    """Rewrite a size of the form `(a * axis + c) / b` with the symbol of the axis; None for any other form."""
    monomial, b = axis.terms[0]
    a = dict(dim.terms).get(monomial, 0)
    if not a or not monomial:
        return None
    rest = dim * b - axis * a
    return floor_divide(name * a + rest, b) if isinstance(rest, int) else None
