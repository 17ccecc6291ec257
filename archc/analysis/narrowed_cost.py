"""Cost of a graph while channel groups are removed, without a change of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from archc.analysis.cost import NodeCosts, multiply_adds
from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.shrinkable_axes import AxisUse, NodeIndex
from archc.ir.graph import Node
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Index
from archc.types.storage.weight import Weight

Left = Mapping[NodeIndex, int]
"""Number of elements of each index that can shrink."""


class NarrowedCost:
    """Multiply-adds of a graph, or a sum over its weights, while channel groups are removed.

    Args:
        sizes: values of symbolic sizes, for multiply-adds.
        weigh: the cost of a weight, such as its parameters; None for multiply-adds.

    Attributes:
        left: number of elements of each index that are left.
        total: the cost that is left.
    """

    def __init__(self, coupling: Coupling, sizes: Mapping[str, int], weigh: Callable[[Weight], int] | None = None):
        self.left = dict(coupling.sizes)
        self._coupling, self._sizes, self._weigh = coupling, sizes, weigh
        graph = coupling.graph
        self._times = NodeCosts(graph, sizes).times
        self._nodes: dict[NodeIndex, list[Node]] = {}
        for use in coupling.shrinkable.uses:
            for index in use.indices():
                nodes = self._nodes.setdefault(index, [])
                if use.node not in nodes:
                    nodes.append(use.node)
        self._axes = {
            (path, axis): size for path, weight in graph.weights.items() for axis, size in enumerate(weight.shape)
        }
        self._found: dict[tuple[Node, tuple[tuple[str, Extent], ...]], int] = {}
        if weigh is not None:
            self.total = sum(weigh(weight) for weight in graph.weights.values())
        else:
            self.total = sum(self._of_node(node, self.left) for node in graph.nodes())

    def saving(self, groups: Sequence[ChannelGroup]) -> int:
        """Reduction of the cost by the removal of groups that are not removed yet."""
        if self._weigh is not None:
            return self._saving_of_weights(groups)
        after = self.without(groups)
        spots = {spot for group in groups for spot in group.index_counts}
        nodes = dict.fromkeys(node for spot in spots for node in self._nodes.get(spot, ()))
        return sum(self._of_node(node, self.left) - self._of_node(node, after) for node in nodes)

    def remove(self, groups: Sequence[ChannelGroup]) -> None:
        """Remove groups."""
        self.total -= self.saving(groups)
        self.left = self.without(groups)
        for group in groups:
            for spot, elements in group.slices.items():
                self._axes[spot] -= len(elements)

    def without(self, groups: Sequence[ChannelGroup]) -> dict[NodeIndex, int]:
        """Number of elements of each index that are left after the removal of groups."""
        left = dict(self.left)
        for group in groups:
            for spot, count in group.index_counts.items():
                left[spot] -= count
        return left

    def _saving_of_weights(self, groups: Sequence[ChannelGroup]) -> int:
        assert self._weigh is not None
        gone: dict[str, dict[int, int]] = {}
        for group in groups:
            for (path, axis), elements in group.slices.items():
                counts = gone.setdefault(path, {})
                counts[axis] = counts.get(axis, 0) + len(elements)
        saved = 0
        for path, counts in gone.items():
            weight = self._coupling.graph.weights[path]
            before = tuple(self._axes[path, axis] for axis in range(len(weight.shape)))
            after = tuple(size - counts.get(axis, 0) for axis, size in enumerate(before))
            saved += self._weigh(replace(weight, shape=before)) - self._weigh(replace(weight, shape=after))
        return saved

    def _of_node(self, node: Node, left: Left) -> int:
        """Multiply-adds of all executions of a node with fewer elements of its indices."""
        uses = self._coupling.shrinkable.of_node(node)
        extents = dict(uses[0].extents) if uses else {}
        extents.update({name: left[uses[0].owner, name] for name in extents if (uses[0].owner, name) in left})
        key = node, tuple(extents.items())
        if key not in self._found:
            self._found[key] = self._times(node) * multiply_adds(_narrowed(node, uses, extents), self._sizes)
        return self._found[key]


def _narrowed(node: Node, uses: Sequence[AxisUse], extents: Mapping[str, Extent]) -> Node:
    """A node that is in no graph, with other extents of its indices."""
    if not uses or extents == uses[0].extents:
        return node
    op = node.op.with_extents(node.types, extents)
    shapes = {value: list(value.type.shape) for value in node.operands}
    for use in uses:
        value, number = use.tensor_axis
        if use.is_operand and not isinstance(value, str):
            shapes[value][number] = _size(use.axis, extents, shapes[value][number])
    values = {value: replace(value, type=replace(value.type, shape=tuple(shape))) for value, shape in shapes.items()}
    return replace(node, op=op, operands=tuple(values[value] for value in node.operands))


def _size(axis: Axis, extents: Mapping[str, Extent], before: Extent) -> Extent:
    """Size of an axis with other extents; an axis with a function, such as `conv(h)`, keeps its size."""
    if any(isinstance(factor, Apply) for factor in axis.factors):
        return before
    return sum(
        math.prod(extents[factor.name] if isinstance(factor, Index) else factor for factor in term)  # type: ignore
        for term in axis.terms
    )
