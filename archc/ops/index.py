"""Slices and single elements of tensors, at fixed positions or at positions from a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, ClassVar, Self

from archc.declaration.axes import plain_axes, plain_axis
from archc.declaration.base import Inference, Operator, OperatorError, operator
from archc.declaration.dtypes import ANY, INDICES, ONNX_ALL
from archc.declaration.notation import Side
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, atom, method
from archc.declaration.traits import LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible, Rigid, Traits, Unused
from archc.types.attributes import AttributeProblem, attribute, value_text
from archc.types.dim_bounds import never_exceeds
from archc.types.dims import SymbolicDim, as_symbol, floor_divide, minimum
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Index, Pattern, Signature
from archc.types.tensor_type import DType, TensorType

Bounds = tuple[int | SymbolicDim | None, int | SymbolicDim | None, int | None]
Item = int | SymbolicDim | Bounds | EllipsisType | None
_TO_THE_END = 2**63 - 1


@operator
class Slice(Operator):
    """Selected positions of each axis: y = x[:, 0, 1:-1, ::2].

    An integer selects one position and removes the axis; `start:stop:step` selects a range.  `...` selects all
    positions of the axes that have no item; without `...`, these are the last axes.  Negative positions count from the
    end.  A symbolic size is assumed to be at least the number of elements that a slice removes at the two ends of the
    axis.
    """

    signature = "x[*d] -> y[*e]"
    formula = "index"
    symbol = "[]"
    traits = (LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible(), Unused("a", "b"))
    example = "y = x[:, 0]"

    items: tuple[Item, ...] = attribute((), doc="an integer or `start:stop:step` for each axis")

    def __post_init__(self) -> None:
        # `:`, `0:` and `::1` are equal: normalize them to one form.
        object.__setattr__(self, "items", tuple(_normal(item) for item in self.items))

    @classmethod
    def from_arguments(cls, positional: Sequence[Any], named: Mapping[str, Any]) -> Self:
        """Make a slice from the items in brackets; ranges are (start, stop, step)."""
        for name in named:
            raise AttributeProblem("unknown-attribute", f"`slice` has no attribute `{name}`", name)
        return cls(tuple(_item(value, position) for position, value in enumerate(positional)))

    def arguments(self) -> list[str]:
        return [_item_text(item, value_text) for item in self.items]

    def sides(self) -> tuple[Side] | None:
        return (None,) if self.items else None  # the language has no empty brackets

    def per_axis(self, rank: int) -> list[Item]:
        """One item for each axis, with `...` expanded."""
        if self.items.count(...) > 1:
            raise OperatorError("bad-attribute", "an index has at most one `...`", attribute="items")
        given = [item for item in self.items if item is not ...]
        if len(given) > rank:
            raise OperatorError("rank-mismatch", f"the index expects at least {len(given)} axes, got {rank}", operand=0)
        if any(isinstance(item, tuple) and _step(item) < 1 for item in given):
            raise OperatorError("bad-attribute", "a slice expects a step of at least 1", attribute="items")
        split = self.items.index(...) if ... in self.items else len(given)
        return [*given[:split], *[None] * (rank - len(given)), *given[split:]]

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        left, right = plain_axes(types[0].rank), []
        for number, (item, size) in enumerate(zip(self.per_axis(types[0].rank), types[0].shape)):
            if item is None:
                right.append(left[number])
            elif isinstance(item, tuple):
                start, length, rest = _range(item, size)
                if _step(item) != 1:
                    right.append(Axis(((Apply("steps", Index(f"d{number}")),),)))
                    continue
                # The signature writes the axis as a sum, so that analyses know which elements are removed.
                parts = {f"a{number}": start, f"d{number}": length, f"b{number}": rest}
                present = [name for name, part in parts.items() if part != 0 or name == f"d{number}"]
                left[number] = Axis(tuple((Index(name),) for name in present))
                right.append(plain_axis(f"d{number}"))
            else:
                self._check_position(item, number, types[0])
        return Signature((Pattern("x", tuple(left)),), (Pattern("y", tuple(right)),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        found: dict[str, Extent] = {}
        for number, (item, size) in enumerate(zip(self.per_axis(types[0].rank), types[0].shape)):
            if isinstance(item, tuple) and _step(item) == 1:
                start, length, rest = _range(item, size)
                found |= {f"a{number}": start, f"d{number}": length, f"b{number}": rest}
        return found

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Slice:
        items = self.per_axis(types[0].rank)
        for number, (item, size) in enumerate(zip(items, types[0].shape)):
            if isinstance(item, tuple) and _step(item) == 1:
                start, length, rest = (extents[f"{part}{number}"] for part in "adb")
                if (start, length, rest) != _range(item, size):
                    items[number] = (start, start + length if rest != 0 else None, None)
        return Slice(tuple(items))

    def function_extent(self, function: str, index: str, extent: Extent, position: int) -> Extent:
        """Size of an axis after a slice with a step; `position` counts only the axes with a step."""
        stepped = [item for item in self.items if isinstance(item, tuple) and _step(item) != 1]
        item = stepped[position]
        return floor_divide(_range(item, extent)[1] + _step(item) - 1, _step(item))  # rounded up

    def _check_position(self, position: int | SymbolicDim | EllipsisType, number: int, operand: TensorType) -> None:
        assert position is not ..., "an ellipsis is not a position"
        size = operand.shape[number]
        above, below = position - size, position + size
        if (isinstance(above, int) and above >= 0) or (isinstance(below, int) and below < 0):
            raise OperatorError(
                "bad-attribute",
                f"index {position} is out of range for axis {number} of {operand}",
                operand=0,
                attribute="items",
                help="indices start at 0; the last one is `-1`",
            )

    def torch(self, spell: TorchSpelling) -> str:
        items = ", ".join(_item_text(item, spell.size) for item in self.items)
        return f"{atom(spell.operands[0])}[{items}]" if items else spell.operands[0]

    def onnx(self, spell: OnnxSpelling) -> str:
        items = self.per_axis(spell.types[0].rank)
        value = spell.operands[0]
        ranges = {number: item for number, item in enumerate(items) if isinstance(item, tuple)}
        if ranges:
            starts = [item[0] if item[0] is not None else 0 for item in ranges.values()]
            stops = [item[1] if item[1] is not None else _TO_THE_END for item in ranges.values()]
            steps = [_step(item) for item in ranges.values()]
            vectors = [spell.shape(starts), spell.shape(stops), spell.constant(list(ranges)), spell.constant(steps)]
            value = spell.add("Slice", value, *vectors)
        # The loop starts at the last axis, so that the numbers of the remaining axes do not change.
        for number, item in reversed(list(enumerate(items))):
            if isinstance(item, (int, SymbolicDim)):
                value = spell.add("Gather", value, spell.size(item), axis=number)
        return spell.add("Identity", value) if value == spell.operands[0] else value


def _item(value: Any, position: int) -> Item:
    """The item for a value in the brackets.

    Raises:
        AttributeProblem: the value is not valid in brackets.
    """

    def is_size(bound: Any) -> bool:
        return isinstance(bound, (int, SymbolicDim)) and not isinstance(bound, bool)

    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, tuple) and len(value) == 3:
        if all(bound is None or is_size(bound) for bound in value) and not isinstance(value[2], SymbolicDim):
            return value
        raise AttributeProblem("wrong-type", "a slice expects sizes as its ends, and an integer as its step", position)
    if value is None or value is ... or is_size(value):
        return value  # type: ignore[no-any-return]  # an `Item`, by the line above
    raise AttributeProblem("wrong-type", "an index must be an integer, a size, a slice or `...`", position)


def _normal(item: Item) -> Item:
    if not isinstance(item, tuple):
        return item
    start, stop, step = item
    bounds = (None if start == 0 else start, stop, None if step == 1 else step)
    return None if bounds == (None, None, None) else bounds


def _item_text(item: Item, size: Any) -> str:
    if item is None:
        return ":"
    if item is ...:
        return "..."
    if isinstance(item, tuple):
        start, stop, step = ("" if bound is None else size(bound) for bound in item)
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    return str(size(item))


def _step(item: Bounds) -> int:
    return 1 if item[2] is None else item[2]


def _range(item: Bounds, size: Extent) -> tuple[Extent, Extent, Extent]:
    """Number of elements of an axis before, in and after a range; the step is ignored."""
    start = _position(item[0] if item[0] is not None else 0, size)
    stop = size if item[1] is None else _position(item[1], size)
    length = stop - start
    if isinstance(length, int) and length < 0:
        length, stop = 0, start
    return start, length, size - stop


def _position(bound: Extent, size: Extent) -> Extent:
    """A bound as a position from the start of an axis, clamped to the axis."""
    if isinstance(bound, int) and isinstance(size, int):
        return min(max(bound + size if bound < 0 else bound, 0), size)
    if isinstance(bound, int):
        # A symbolic size is assumed to be at least 1, so `x[:1]` and `x[1:]` need no `min`.
        return size + bound if bound < 0 else bound if bound <= 1 else _at_most(bound, size)
    if bound.terms[0][1] < 0 and not isinstance(size - bound, int):
        return size + bound  # `-T`: counted from the end
    return _at_most(bound, size)


def _at_most(bound: Extent, size: Extent) -> Extent:
    """Minimum of a bound and a size; simplified if one is known not to exceed the other."""
    if never_exceeds(bound, size):
        return bound
    if never_exceeds(size, bound):
        return size
    symbol = as_symbol(bound)
    if symbol is not None and symbol.maximum is not None and isinstance(size, int) and symbol.maximum <= size:
        return bound
    return minimum(bound, size)


@operator
class IndexedByTensor(Operator, abstract=True):
    """Base of operators with a tensor of positions along an axis."""

    dtypes = {"x": ANY, "index": INDICES}
    onnx_dtypes = ONNX_ALL
    onnx_name: ClassVar[str] = "Gather"
    traits: ClassVar[Traits] = (LAYOUT_ONLY,)

    dim: int = attribute(axis="x", doc="axis of the positions")

    def axis(self, types: Sequence[TensorType]) -> int:
        """The axis, counted from 0."""
        return self.axis_number("dim", types)

    def operand_range(self, types: Sequence[TensorType], position: int) -> tuple[int, Extent] | None:
        return (0, types[0].shape[self.axis(types)]) if position == 1 else None

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add(self.onnx_name, *spell.operands, axis=self.axis(spell.types))


@operator
class IndexSelect(IndexedByTensor):
    """Elements of an axis at the positions in a vector: y[..., k, ...] = x[..., index[k], ...]."""

    signature = "x[*a, n, *b], index[k] -> y[*a, k, *b]"
    example = "(x, index) -> index_select(1)"

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 2:
            return _two_operands()
        axis, axes = self.axis(types), plain_axes(types[0].rank)
        result = (*axes[:axis], plain_axis("k"), *axes[axis + 1 :])
        return Signature((Pattern("x", tuple(axes)), Pattern("index", (plain_axis("k"),))), (Pattern("y", result),))

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "index_select", self.dim, spell.operands[1])


@operator
class Gather(IndexedByTensor):
    """Elements of an axis, each at its own position: y[i, j] = x[index[i, j], j] for `dim` 0."""

    signature = "x[*a], index[*b] -> y[*b]"
    onnx_name = "GatherElements"
    example = "(x, index) -> gather(1)"
    traits = (Rigid("a", "b"),)

    def check(self, types: Sequence[TensorType]) -> None:
        if types[0].rank != types[1].rank:
            raise OperatorError(
                "rank-mismatch", f"`gather` expects indices of rank {types[0].rank}, got {types[1]}", operand=1
            )
        if any(isinstance(surplus, int) and surplus < 0 for surplus, _ in self.minimum_sizes(types)):
            raise OperatorError(
                "shape-mismatch",
                f"`gather` expects an index tensor no larger than {types[0]} along all axes except `dim`, "
                f"got {types[1]}",
                operand=1,
            )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        axis = self.axis(types)
        pairs = enumerate(zip(types[0].shape, types[1].shape))
        return [(size - count, 0) for number, (size, count) in pairs if number != axis]

    def torch(self, spell: TorchSpelling) -> str:
        index = spell.operands[1]
        if spell.types[1].dtype is not DType.i64:
            index = method(index, "long")
        return method(spell.operands[0], "gather", self.dim, index)


def _two_operands() -> Signature:
    return Signature((Pattern("x", ()), Pattern("index", ())), (Pattern("y", ()),))


@operator
class Scatter(IndexedByTensor):
    """Copy of x with elements written to positions of an axis: y[index[i, j], j] = src[i, j] for `dim` 0.

    If two elements of `src` have the same position, the backend determines which one is written.
    """

    signature = "x[*a], index[*b], src[*b] -> y[*a]"
    family = "index"
    dtypes = {"x": ANY, "index": INDICES, "src": "x"}
    onnx_name = "ScatterElements"
    example = "(x, index, src) -> scatter(1)"
    traits = (Rigid("a", "b"),)

    def check(self, types: Sequence[TensorType]) -> None:
        axis = self.axis(types)
        for position, operand in enumerate(types[1:], start=1):
            if operand.rank != types[0].rank:
                raise OperatorError(
                    "rank-mismatch",
                    f"`scatter` expects rank {types[0].rank}, got {operand}",
                    operand=position,
                )
        for number, (count, size) in enumerate(zip(types[1].shape, types[0].shape)):
            if number != axis and isinstance(count, int) and isinstance(size, int) and count > size:
                raise OperatorError(
                    "shape-mismatch",
                    f"`scatter` expects an index tensor no larger than {types[0]} along axis {number}, got {types[1]}",
                    operand=1,
                    help="`dim` is the axis of the positions; along the other axes each element keeps its position",
                )
        if types[1].shape != types[2].shape:
            raise OperatorError(
                "shape-mismatch",
                f"`scatter` expects an index for each element of {types[2]}, got {types[1]}",
                operand=2,
            )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        axis = self.axis(types)
        pairs = enumerate(zip(types[0].shape, types[1].shape))
        return [(size - count, 0) for number, (size, count) in pairs if number != axis]

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        # In the signature, `index` and `src` have common indices, like operands of a product, but are not multiplied.
        return 0

    def torch(self, spell: TorchSpelling) -> str:
        index = spell.operands[1]
        if spell.types[1].dtype is not DType.i64:
            index = method(index, "long")
        return method(spell.operands[0], "scatter", self.dim, index, spell.operands[2])
