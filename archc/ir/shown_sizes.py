"""Sizes in terms of the axes that show them: what `2*((L - 10)//5 + 1)` is where an axis of size `(L - 10)//5 + 1` is.

A stage of a pipeline receives tensors whose sizes are expressions in symbols that none of its axes shows alone.  Such
an axis becomes a symbol of its own, and other sizes become expressions in that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from archc.ir import dims
from archc.ir.dims import Atom, Function, Scaled, Symbol, SymbolicDim, as_linear, divide, floor_divide, symbol, symbols
from archc.ir.types import TensorType

Size = int | SymbolicDim
_Known = Mapping[SymbolicDim, SymbolicDim]


class ShownSizes:
    """Sizes that follow from the shapes of tensors.

    Args:
        types: the types of the tensors.
        fresh: gives a new name for the symbol of an axis.

    Attributes:
        named: the symbols of axes whose sizes are known by nothing else.
    """

    def __init__(self, types: Iterable[TensorType], fresh: Callable[[], str]):
        sizes = dict.fromkeys(dim for type in types for dim in type.shape if isinstance(dim, SymbolicDim))
        parts = (as_linear(dim) for dim in sizes)
        self._symbols = {part[0].name for part in parts if part is not None}
        self.named: dict[SymbolicDim, SymbolicDim] = {}
        for dim in sorted(sizes, key=lambda dim: len(str(dim))):  # what others are computed from comes first
            if self.express(dim) is None:
                self.named[dim] = symbol(fresh())

    def express(self, dim: Size) -> Size | None:
        """A size in terms of the symbols that are shown and of `named`; None where it does not follow from them."""
        return self._express(dim, self.named)

    def express_type(self, type: TensorType) -> TensorType:
        """The type of a tensor that is among those given."""
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
        """A product of atoms: by an axis that is a part of it, by its factors, or as a factor of an axis."""
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
        """An axis divided by its other factors; at least 1, so that an empty axis does not divide by 0."""
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
    """`(a * axis + c) / b` for a size that is that, with the name of the axis."""
    monomial, b = axis.terms[0]
    a = dict(dim.terms).get(monomial, 0)
    if not a or not monomial:
        return None
    rest = dim * b - axis * a
    return floor_divide(name * a + rest, b) if isinstance(rest, int) else None
