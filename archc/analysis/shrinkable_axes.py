"""Which axes of a graph can shrink at all, and by which of their factors.

An index of a node is held where something needs all its elements: an input or output of the model, a softmax, a
window that slides over it, an attribute that cannot follow.  An axis all of whose indices are held is held itself,
and holds the indices that other nodes see in it, and so on through the graph.

What is left is free.  Where a product has several free factors (heads times width), only one of them may shrink, for
what is left must be a product again; `_settle` chooses it and holds the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archc.ir.graph import Graph, Node, Value
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Factor, Index, Pattern, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

Tensor = Value | str
"""A value, or the path of a weight."""
TensorAxis = tuple[Tensor, int]
"""An axis of a tensor, by number."""
NodeIndex = tuple[Hashable, str]
"""An index of a node.  Nodes that are one layer, and must stay it, have their indices in common."""


@dataclass(frozen=True, eq=False)
class AxisUse:
    """How a node sees an axis of a tensor.

    Attributes:
        owner: what the node's indices are filed under; see `NodeIndex`.
        made: whether the tensor is a result of the node; data: whether it is a data operand.
    """

    node: Node
    owner: Hashable
    place: TensorAxis
    axis: Axis
    extents: Mapping[str, Extent]
    made: bool
    data: bool

    def wide(self, term: tuple[Factor, ...]) -> list[str]:
        """The indices of a term that have more than one element."""
        return [factor.name for factor in term if isinstance(factor, Index) and self.extents[factor.name] != 1]

    def indices(self) -> list[NodeIndex]:
        """All its indices that have more than one element."""
        return [(self.owner, name) for term in self.axis.terms for name in self.wide(term)]


class ShrinkableAxes:
    """What can shrink in a graph, and why the rest cannot.

    Attributes:
        uses: how nodes see axes, in the order of the nodes.
        held: for each index that cannot shrink the reason.
        fixed: the same for axes.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.fixed_indices: dict[NodeIndex, str] = {}
        self.fixed_axes: dict[TensorAxis, str] = {}
        self._by_node = {node: list(_uses(node)) for node in graph.nodes()}
        self.uses = [use for uses in self._by_node.values() for use in uses]
        self._at: dict[TensorAxis, list[AxisUse]] = {}
        self._of: dict[NodeIndex, list[AxisUse]] = {}
        for use in self.uses:
            self._at.setdefault(use.place, []).append(use)
            for spot in use.indices():
                self._of.setdefault(spot, []).append(use)
        self._torn = _torn(self.uses)
        self._hold_ends()
        self._hold_weights()
        for use in self.uses:
            if not use.indices() and self.size(use.place) != 1:
                self._fix(use.place, f"`{use.node.title}` needs each of them")
        for node in graph.nodes():
            self._hold_rigid(node)
        for node in graph.nodes():
            self._settle(node)

    def size(self, place: TensorAxis) -> Extent:
        """The extent of an axis."""
        tensor, number = place
        shape = self.graph.weights[tensor].shape if isinstance(tensor, str) else tensor.type.shape
        return shape[number]

    def of_node(self, node: Node) -> list[AxisUse]:
        """How a node sees the axes of its operands, weights and results."""
        return self._by_node[node]

    def free(self, use: AxisUse, term: tuple[Factor, ...]) -> list[str]:
        """The indices of a term that can shrink; one at most, once all is settled."""
        return [name for name in use.wide(term) if (use.owner, name) not in self.fixed_indices]

    # Holding ----------------------------------------------------------------------------------------------

    def _fix(self, place: TensorAxis, reason: str) -> None:
        """Hold a whole axis, and all that follows from it."""
        stack: list[TensorAxis | NodeIndex] = [place]
        while stack:
            at = stack.pop()
            if isinstance(at[1], int):
                if at in self.fixed_axes:
                    continue
                self.fixed_axes[at] = reason  # type: ignore[index]  # the number says that it is a place
                uses = self._at.get(at, ())  # type: ignore[call-overload]  # a place, as above
                stack += [spot for use in uses for spot in use.indices()]
            elif at not in self.fixed_indices:
                self.fixed_indices[at] = reason  # type: ignore[index]  # a spot, as it has a name and no number
                for use in self._of.get(at, ()):  # type: ignore[call-overload]  # a spot, as above
                    if all(spot in self.fixed_indices for spot in use.indices()):
                        stack.append(use.place)

    def _hold(self, spot: NodeIndex, reason: str) -> None:
        """Hold an index, and all that follows from it."""
        if spot in self.fixed_indices:
            return
        self.fixed_indices[spot] = reason
        for use in self._of.get(spot, ()):
            if all(other in self.fixed_indices for other in use.indices()):
                self._fix(use.place, reason)

    def _hold_ends(self) -> None:
        ends = [(value, f"the input `{value.name}` has them") for value in self.graph.inputs]
        ends += [(value, f"the output `{name}` has them") for name, value in self.graph.outputs.items()]
        for value, reason in ends:
            for number in range(value.type.rank):
                self._fix((value, number), reason)
        for place in self._at:
            if not isinstance(self.size(place), int):
                self._fix(place, "how many there are is known when the model runs")

    def _hold_weights(self) -> None:
        for path, weight in self.graph.weights.items():
            if not weight.storage.elementwise:
                for number in range(len(weight.shape)):
                    self._fix((path, number), f"`{path}` is stored as {weight.storage}: prune before that")

    def _hold_rigid(self, node: Node) -> None:
        """Hold the indices that the operator needs whole, or cannot say otherwise of."""
        uses = self._by_node[node]
        if not uses:
            return
        owner, extents = uses[0].owner, uses[0].extents
        flexible, given = node.op.flexible(node.types), node.op.extents(node.types)
        rigid = node.op.rigid_for(node.types)
        for name in extents:
            if name in rigid or name.rpartition(".")[0] in rigid:
                self._hold((owner, name), f"`{node.title}` works on all of them together")
            elif name in given and (name not in flexible or node.path in self._torn):
                self._hold((owner, name), f"`{node.title}` says how many there are")
        for name in _applied(uses):
            self._hold((owner, name), f"`{node.title}` makes another number of them")
        for name in _absorbed(uses):
            if name not in node.op.ignored(node.types):
                self._hold((owner, name), f"`{node.title}` takes them together")

    # Choosing ---------------------------------------------------------------------------------------------

    def _settle(self, node: Node) -> None:
        """Leave one free factor to every product of a node, and hold the others."""
        uses = self._by_node[node]
        alone = {names[0] for use in uses for term in use.axis.terms if len(names := use.wide(term)) == 1}
        for use in uses:
            for term in use.axis.terms:
                free = self.free(use, term)
                if len(free) > 1:
                    # What the operator calls a block; what other nodes shrink the axis by; then a factor that is an
                    # axis of its own elsewhere, the slowest of those, for it is no mere detail of a layout.
                    agreed = self._agreed(use)
                    chosen = next((name for name in node.op.blocks if name in free), None)
                    chosen = chosen or next((name for name in free if _stride(use, term, name) in agreed), None)
                    chosen = chosen or next((name for name in free if name in alone), free[-1])
                    for name in free:
                        if name != chosen:
                            self._hold((use.owner, name), f"`{node.title}` keeps them whole, and drops blocks of them")

    def _agreed(self, use: AxisUse) -> set[tuple[Extent, Extent]]:
        """By which factors other nodes can shrink the same axis, where it is a single product for them too."""
        others = [other for other in self._at[use.place] if other.node is not use.node and len(other.axis.terms) == 1]
        products = [(other, other.axis.terms[0]) for other in others if len(other.indices()) > 1]
        frees = [(other, term, self.free(other, term)) for other, term in products]
        return {_stride(other, term, free[0]) for other, term, free in frees if len(free) == 1}


def _stride(use: AxisUse, term: tuple[Factor, ...], name: str) -> tuple[Extent, Extent]:
    """The extent of a factor of a product, and how far apart its elements are; none of the factors is a function."""
    names = use.wide(term)
    inner: Extent = 1
    for other in names[names.index(name) + 1 :]:
        inner = inner * use.extents[other]
    return use.extents[name], inner


def _uses(node: Node) -> Iterator[AxisUse]:
    """How a node sees the axes of its operands, weights and results."""
    solution = node.op.infer(node.types).solution
    owner = _owner(node, solution.extents)
    for pattern, tensor, made in _patterns(node, solution.signature):
        for number, axis in enumerate(pattern.axes):
            data = not made and not isinstance(tensor, str)
            yield AxisUse(node, owner, (tensor, number), axis, solution.extents, made, data)


def _owner(node: Node, extents: Mapping[str, Extent]) -> Hashable:
    """Nodes of one path are one layer, with one set of attributes: where these say sizes, they shrink as one.

    Those with weights do so by the weights that they share.
    """
    if node.path is None or node.weights or not node.op.extents(node.types):
        return node
    return node.path, tuple(sorted((name, str(size)) for name, size in extents.items()))


def _patterns(node: Node, signature: Signature) -> Iterator[tuple[Pattern, Tensor, bool]]:
    data = [pattern for pattern in signature.operands if pattern.name not in node.op.parameters]
    for pattern, operand in zip(data, node.operands):
        yield pattern, operand, False
    for pattern in signature.operands:
        if pattern.name in node.weights:
            axes = pattern.axes[::-1] if pattern.name in node.transposed else pattern.axes
            yield replace(pattern, axes=axes), node.weights[pattern.name], False
    for pattern, result in zip(signature.results, node.results):
        yield pattern, result, True


def _applied(uses: list[AxisUse]) -> list[str]:
    """The indices that stand within a function, which hides their elements."""
    return [factor.index.name for use in uses for factor in use.axis.factors if isinstance(factor, Apply)]


def _absorbed(uses: list[AxisUse]) -> list[str]:
    """The indices that no result has, and one tensor alone: reduced, picked from, looked up."""
    made = {name for use in uses if use.made for _, name in use.indices()}
    taken = Counter(name for use in uses if not use.made for _, name in use.indices())
    return [name for name, count in taken.items() if name not in made and count < 2]


def _torn(uses: list[AxisUse]) -> set[str | None]:
    """The paths of layers whose uses differ in sizes, so that attributes that fit one may not fit another."""
    owners: dict[str | None, set[Hashable]] = {}
    for use in uses:
        if use.owner is not use.node:
            owners.setdefault(use.node.path, set()).add(use.owner)
    return {path for path, different in owners.items() if len(different) > 1}
