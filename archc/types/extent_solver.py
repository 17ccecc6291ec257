"""Computation of the extents of a signature's indices from the shapes of the operands.

This is the shape check and the shape inference of every operator.  It takes the extents that attributes give and the
shapes of the operands, and returns the extents of all indices or raises the first contradiction.  An index that
remains undetermined is a contradiction, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import SymbolicDim, divide
from archc.types.signature import UNIT, Apply, Axis, Index, Pattern, Signature, Spread, broadcasts, expand

Extent = int | SymbolicDim
ExtentFunctions = Callable[[str, str, Extent, int], Extent]
"""Function (name, index, extent, position) -> extent of `name(index)`.

`position` counts the functions in the results from 0: in conv2d, `conv(h)` has position 0 and `conv(w)` has position 1.
"""


@frozen_dataclass
class Solution:
    """An expanded signature, the extents of its indices, and the shapes of the results.

    Axes of size 1 that are broadcast are `UNIT` in `signature`, because they have no index.
    """

    signature: Signature
    extents: Mapping[str, Extent]
    results: tuple[tuple[Extent, ...], ...]

    def shape(self, pattern: Pattern) -> tuple[Extent, ...]:
        """Return the shape of an operand or parameter of `signature`."""
        return tuple(_extent(axis, self.extents) for axis in pattern.axes)

    @property
    def contracted(self) -> tuple[str, ...]:
        """Indices of operands that are in no result, such as `i` of `linear`.

        The tuple is empty if no two operands share such an index, as in a reduction: then nothing is multiplied.
        """
        kept = {name for pattern in self.signature.results for name in _indices(pattern)}
        places: dict[str, int] = {}
        for pattern in self.signature.operands:
            for name in dict.fromkeys(_indices(pattern)):
                places[name] = places.get(name, 0) + 1
        absent = [name for name in places if name not in kept]
        return tuple(absent) if any(places[name] > 1 for name in absent) else ()

    @property
    def multiply_adds(self) -> Extent:
        """Multiply-accumulates: size of the first result times contracted extents; 0 without contraction."""
        contracted = self.contracted
        if not contracted:
            return 0
        total: Extent = 1
        for size in self.results[0]:
            total = total * size
        for name in contracted:
            total = total * self.extents[name]
        return total


class Misfit(Exception):
    """Error of type inference for operands or attributes that do not fit, with a message for users."""


class Contradiction(Exception):
    """Error for shapes that do not fit a signature.

    Attributes:
        operand: pattern of the operand.
        axis: number of the axis in the pattern.
        index: name of the contradictory index, or None.
        expected: extent from attributes or other axes; None if the axis remains undetermined.  If the axis is a product
            such as `h*d` and only `h` is unknown, `expected` is the known factor d, which does not divide `actual`.
        actual: extent of the operand's axis.
    """

    def __init__(self, operand: Pattern, axis: int, index: str | None, expected: Extent | None, actual: Extent | None):
        super().__init__(f"{operand}: axis {axis} is {actual}, expected {expected}")
        self.operand, self.axis, self.index = operand, axis, index
        self.expected, self.actual = expected, actual


def solve_extents(
    signature: Signature,
    shapes: Mapping[str, Sequence[Extent]],
    known: Mapping[str, Extent],
    functions: ExtentFunctions,
) -> Solution:
    """Compute the extents of all indices of a signature for operands of given shapes.

    Args:
        shapes: shapes of the data operands by their names in the signature, without parameters.
        known: extents that the attributes give.
        functions: computes the extents of functions in the results.

    Raises:
        RankMismatch: an operand has the wrong number of axes.
        Contradiction: an index has two different extents, a product does not divide an extent, or an extent remains
            unknown.
    """
    broadcast = broadcasts(signature)
    expanded = expand(signature, {name: len(shape) for name, shape in shapes.items()})
    extents: dict[str, Extent] = dict(known)
    operands = [pattern for pattern in expanded.operands if pattern.name in shapes]
    pending = [
        (pattern, number, axis, size)
        for pattern in operands
        for number, (axis, size) in enumerate(zip(pattern.axes, shapes[pattern.name]))
    ]
    # Each iteration solves the axes with at most one unknown index, until no axis is left or none can be solved.
    while pending:
        waiting = []
        for entry in pending:
            pattern, number, axis, size = entry
            if _is_broadcast(axis, broadcast):
                _broadcast(pattern, number, axis, size, extents)
            elif not _settle(pattern, number, axis, size, extents):
                waiting.append(entry)
        if len(waiting) == len(pending):
            pattern, number, axis, size = waiting[0]
            raise Contradiction(pattern, number, None, None, size)
        pending = waiting

    def written(pattern: Pattern) -> Pattern:
        sizes = shapes.get(pattern.name)
        if sizes is None or not broadcast:
            return pattern
        axes = (
            UNIT if _is_broadcast(axis, broadcast) and size == 1 and _extent(axis, extents) != 1 else axis
            for axis, size in zip(pattern.axes, sizes)
        )
        return Pattern(pattern.name, tuple(axes), pattern.optional)

    position = 0
    results = []
    for pattern in expanded.results:
        shape = []
        for axis in pattern.axes:
            applied = next((factor for factor in axis.factors if isinstance(factor, Apply)), None)
            if applied is not None:
                name = applied.index.name
                shape.append(functions(applied.function, name, extents[name], position))
                position += 1
            else:
                shape.append(_extent(axis, extents))
        results.append(tuple(shape))
    signature = Signature(tuple(written(pattern) for pattern in expanded.operands), expanded.results)
    return Solution(signature, extents, tuple(results))


def _is_broadcast(axis: Axis, broadcast: frozenset[str]) -> bool:
    index = axis.index
    return index is not None and "." in index.name and index.name.split(".")[0] in broadcast


def _broadcast(pattern: Pattern, number: int, axis: Axis, size: Extent, extents: dict[str, Extent]) -> None:
    name = axis.index.name  # type: ignore[union-attr]  # `_is_broadcast` has checked the index
    have = extents.get(name, 1)
    if have == 1 or have == size:
        extents[name] = size
    elif size != 1:
        raise Contradiction(pattern, number, name, have, size)


def _settle(pattern: Pattern, number: int, axis: Axis, size: Extent, extents: dict[str, Extent]) -> bool:
    """Solve an axis for its only unknown index, or check the size of the axis if all indices are known.

    Return False if several indices are unknown.
    """
    unknown = [f.name for f in axis.factors if isinstance(f, Index) and f.name not in extents]
    if len(unknown) > 1:
        return False
    if not unknown:
        expected = _extent(axis, extents)
        if expected != size:
            index = axis.index
            raise Contradiction(pattern, number, index.name if index else None, expected, size)
        return True
    rest: Extent = size
    scale: Extent = 1
    for term in axis.terms:
        names = [factor.name for factor in term if isinstance(factor, Index)]
        if unknown[0] in names:
            for factor in term:
                if factor != Index(unknown[0]):
                    scale = scale * _factor_extent(factor, extents)
        else:
            rest = rest - _extent(Axis((term,)), extents)
    quotient = divide(rest, scale)
    if quotient is None or (isinstance(quotient, int) and quotient < 0):
        raise Contradiction(pattern, number, unknown[0], scale, size)
    extents[unknown[0]] = quotient
    return True


def _extent(axis: Axis, extents: Mapping[str, Extent]) -> Extent:
    total: Extent = 0
    for term in axis.terms:
        product: Extent = 1
        for factor in term:
            product = product * _factor_extent(factor, extents)
        total = total + product
    return total


def _factor_extent(factor: Index | Apply | int | Spread, extents: Mapping[str, Extent]) -> Extent:
    if isinstance(factor, int):
        return factor
    assert isinstance(factor, Index), f"{factor} has no extent"
    return extents[factor.name]


def _indices(pattern: Pattern) -> list[str]:
    names = []
    for axis in pattern.axes:
        for factor in axis.factors:
            if isinstance(factor, Index):
                names.append(factor.name)
            elif isinstance(factor, Apply):
                names.append(factor.index.name)
    return names
