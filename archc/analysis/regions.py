"""Regions of a graph that one layer can replace: their result has the type of their operand.

Examples are a layer of a Transformer, its attention with the residual addition, and a residual block of a convolutional
network.  Regions follow from the data flow alone: the exit of a region post-dominates its nodes, which means that every
path from them to an output contains the exit (Cooper, Harvey and Kennedy 2001, "A Simple, Fast Dominance Algorithm").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from archc.analysis.cost import NodeCosts
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, results_of, schedule
from archc.types.signature import Axis, Index
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import networkx as nx

    Item = Node | Scan


@frozen_by_identity
class Region:
    """Operators that compute a value, the exit, from another value of its type, the entry.

    They may use further values, such as a mask.

    Attributes:
        nodes: the operators that become dead code if something else computes `exit` from `entry`, in topological order.
        axis: the axis of the channels of both values.
        steps: number of steps with multiply-adds; see `Regions`.
    """

    entry: Value
    exit: Value
    nodes: tuple[Node, ...]
    axis: int
    steps: int

    @property
    def channels(self) -> int:
        """Number of channels of both values."""
        size = self.exit.type.shape[self.axis]
        assert isinstance(size, int), "`Regions` checks that it is constant"
        return size

    @property
    def layers(self) -> list[str]:
        """Paths of the layers, in topological order."""
        return list(dict.fromkeys(node.path for node in self.nodes if node.path is not None))

    @property
    def title(self) -> str:
        """Name in messages: the first and the last layer."""
        first, *_, last = (self.layers * 2) or ["a block"] * 2
        return first if first == last else f"{first} to {last}"


class Regions:
    """The regions of a graph, outside scans.

    A step leads from a value to the nearest value of the same type that post-dominates it, or one of its users.  A
    region is a sequence of steps, of which the first and the last contain multiply-adds: normalizations and activations
    at the ends of a region cost little, and stay in the model.

    In each step, all operands derive from the entry, or there is a skip connection: a path from the entry to the exit
    without multiply-adds.  Else the memory of a decoder would be a candidate to replace the states of the decoder.
    Steps within a step with a skip connection are left out.  Layers of a region have no weights that are used outside
    the region.

    Attributes:
        steps: the regions of one step, in topological order.
    """

    def __init__(self, graph: Graph, sizes: Mapping[str, int]):
        self._graph, self._costs = graph, NodeCosts(graph, sizes)
        items = schedule(graph)
        self._makers = {value: item for item in items for value in results_of(item)}
        self._users: dict[Value, list[Item]] = {}
        for item in items:
            for value in dict.fromkeys(item.operands):
                self._users.setdefault(value, []).append(item)
        self._by_number: dict[object, tuple[Value, ...]] = {id(item): tuple(item.operands) for item in items}
        self._position = {node: number for number, node in enumerate(graph.nodes())}
        self._weight_users: dict[str, set[Node]] = {}
        for node in graph.nodes():
            for path in node.weights.values():
                self._weight_users.setdefault(path, set()).add(node)
        self._steps: dict[Value, Region] = {}
        for value, exits in self._exits().items():
            step = self._step(value, exits)
            if step is not None:
                self._steps[value] = step
        steps = [step for step in self._steps.values() if step.steps]
        skipped = [{*step.nodes} for step in steps if self._has_skip(step.nodes, step.entry, step.exit)]
        self.steps = sorted(
            (step for step in steps if not any({*step.nodes} < other for other in skipped)), key=self._place
        )

    def runs(self, longest: int) -> list[Region]:
        """The regions of at most `longest` steps with multiply-adds, in topological order."""
        return sorted((run for step in self.steps for run in self._runs_from(step, longest)), key=self._place)

    def _runs_from(self, first: Region, longest: int) -> Iterator[Region]:
        """The regions that begin with a step, the shortest one first."""
        yield first
        steps, last = 1, self._steps.get(first.exit)
        while last is not None and steps < longest:
            if last.steps and last.axis == first.axis:
                steps += 1
                nodes = self._nodes_between(first.entry, last.exit)
                if {*first.nodes} < {*nodes} and self._owns_weights(nodes):
                    yield Region(first.entry, last.exit, nodes, first.axis, steps)
            last = self._steps.get(last.exit)

    def _place(self, region: Region) -> tuple[int, int]:
        """Sort key of a region: the places of its last and its first node."""
        return self._position[region.nodes[-1]], self._position[region.nodes[0]]

    # Steps ------------------------------------------------------------------------------------------------

    def _step(self, entry: Value, exits: Mapping[Value, bool]) -> Region | None:
        """The step from a value; None if one layer cannot replace any.

        Args:
            exits: possible exits, with True for the one that post-dominates the entry.
        """
        found: list[tuple[bool, bool, Region]] = []
        for exit, dominates in exits.items():
            nodes = self._nodes_between(entry, exit)
            skip = bool(nodes) and self._has_skip(nodes, entry, exit)
            if not nodes or not (skip or self._is_closed(nodes, entry)):
                continue
            work = any(self._costs.multiply_adds(node) for node in nodes)
            axis = _channel_axis(nodes, entry.type)
            if work and (axis is None or not isinstance(entry.type.shape[axis], int) or not self._owns_weights(nodes)):
                continue
            if work or dominates:
                found.append((skip, dominates, Region(entry, exit, nodes, axis or 0, int(work))))
        return max(found, key=lambda each: each[:2])[2] if found else None

    def _nodes_between(self, entry: Value, exit: Value) -> tuple[Node, ...]:
        """The nodes that are dead if another layer computes `exit` from `entry`.

        All users of their results are dead.  There are none if the node of `exit` has another result that is used.
        """
        maker = self._makers[exit]
        if any(value is not exit and self._is_used(value) for value in results_of(maker)):
            return ()
        dead: dict[int, Item] = {}
        left: dict[int, int] = {}
        stack = [maker]
        while stack:
            item = stack.pop()
            dead[id(item)] = item
            for value in dict.fromkeys(item.operands):
                producer = self._makers.get(value)
                if producer is None or value is entry:
                    continue
                key = id(producer)
                left[key] = left.get(key, self._use_count(producer)) - 1
                if not left[key]:
                    stack.append(producer)
        nodes = [node for item in dead.values() for node in (item.nodes if isinstance(item, Scan) else (item,))]
        return tuple(sorted(nodes, key=self._position.__getitem__))

    def _use_count(self, item: Item) -> int:
        """Number of uses of an item's results by other items and as outputs."""
        return sum(len(self._users.get(value, ())) + self._graph.is_output(value) for value in results_of(item))

    def _is_used(self, value: Value) -> bool:
        return bool(self._users.get(value)) or self._graph.is_output(value)

    def _is_closed(self, nodes: tuple[Node, ...], entry: Value) -> bool:
        """Return whether the nodes use no values from outside except the entry."""
        inside = {value for node in nodes for value in node.results} | {entry}
        return all(value in inside for node in nodes for value in node.operands)

    def _has_skip(self, nodes: tuple[Node, ...], entry: Value, exit: Value) -> bool:
        """Return whether the entry reaches the exit element by element, without multiply-adds."""
        reached = {entry}
        for node in nodes:
            if not self._costs.multiply_adds(node) and any(
                value in reached and _keeps_axes(node, position) for position, value in enumerate(node.operands)
            ):
                reached.update(value for value in node.results if value.type == entry.type)
        return exit in reached

    def _owns_weights(self, nodes: tuple[Node, ...]) -> bool:
        """Return whether no other node uses a weight of these nodes."""
        own = set(nodes)
        return all(self._weight_users[path] <= own for node in nodes for path in node.weights.values())

    # Post-dominators --------------------------------------------------------------------------------------

    def _exits(self) -> dict[Value, dict[Value, bool]]:
        """Possible exits for each value: the nearest post-dominators of its type.

        They are those of the value and of its users, which differ for a value with a use outside the region, such as an
        output.

        Returns:
            For each value, the exits, with True for the post-dominator of the value itself.
        """
        tree, root = self._post_dominators(), self._graph.name
        found: dict[Value, dict[Value, bool]] = {}
        nearest: dict[TensorType, list[Value]] = {}
        stack: list[tuple[object, bool]] = [(root, False)] if root in tree else []
        while stack:
            vertex, done = stack.pop()
            if done:
                assert isinstance(vertex, Value), "only values are put back"
                nearest[vertex.type].pop()
                continue
            entries = [vertex] if isinstance(vertex, Value) else self._by_number.get(vertex, ())
            for entry in filter(_may_be_entry, entries):
                own = nearest.get(entry.type)
                if own:
                    exits = found.setdefault(entry, {})
                    exits[own[-1]] = exits.get(own[-1], False) or entry is vertex
            if isinstance(vertex, Value) and _may_be_entry(vertex):
                nearest.setdefault(vertex.type, []).append(vertex)
                stack.append((vertex, True))
            stack.extend((child, False) for child in tree.successors(vertex))
        return found

    def _post_dominators(self) -> nx.DiGraph[object]:
        """The tree of immediate post-dominators of values and items; its root is the graph, for the outputs."""
        import networkx as nx

        flow: nx.DiGraph[object] = nx.DiGraph()  # against the data flow
        flow.add_node(self._graph.name)
        flow.add_edges_from((self._graph.name, value) for value in self._graph.outputs.values())
        flow.add_edges_from((value, id(item)) for value, item in self._makers.items())
        flow.add_edges_from((id(item), value) for value, items in self._users.items() for item in items)
        found = nx.immediate_dominators(flow, self._graph.name)
        return nx.DiGraph((parent, child) for child, parent in found.items() if child != parent)


def _may_be_entry(value: Value) -> bool:
    return value.type.dtype.floating and value.type.rank >= 2


def _keeps_axes(node: Node, position: int) -> bool:
    """Return whether an operand of a node and its result have the same axes, by the signature."""
    signature = node.op.infer(node.types).solution.signature
    return bool(signature.results) and signature.operands[position].axes == signature.results[0].axes


def _channel_axis(nodes: tuple[Node, ...], type: TensorType) -> int | None:
    """The axis of operands of a type that weights of nodes have, too; None if there is none."""
    for node in nodes:
        if not node.weights or type not in node.types:
            continue
        signature = node.op.infer(node.types).solution.signature
        names = {name for parameter in node.weights for name in signature.operand(parameter).indices}
        axes = signature.operands[node.types.index(type)].axes
        found = [number for number, axis in enumerate(axes) if _names(axis) & names]
        if len(found) == 1:
            return found[0]
    return None


def _names(axis: Axis) -> set[str]:
    return {factor.name for factor in axis.factors if isinstance(factor, Index)}
