"""The graph: operators, the values between them, and the weights that they own.

Nodes hold their operands, in order; who uses them is kept in `archc.ir.graph`.  Nodes come in a fixed order: the order
of the text as far as the data allows, so that whatever is made from a graph is the same on every run.

A graph is read through this class and changed through `archc.ir.rewriter.Rewriter` alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from archc.diagnostics import Span
from archc.types.storage import Weight
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

    from archc.operator.base import Operator
    from archc.weights.tensor import Weights

Order = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scope:
    """One use of a block, or the model itself: where a node stands in the text's own structure.

    A layer of type block that is used twice gives two scopes of one path.

    Attributes:
        path: the module's path (`h.0`, `h.0.attn`); empty for the model.
        definition: the name of the block or model.
        parent: the scope that uses it; None for the model.
        arguments: the block's attributes by name, as evaluated here.
        defaults: those of them that this use leaves to their defaults.
        sizes: the sizes that the block's inputs bound (`D`).
        doc: the comment above the definition.
        inputs: the tensors that this use receives, in the order of the block's inputs; passes may leave some unused.
        axes: for each of them, the sizes that its type gives names to, axis by axis (None for another); None for one
            without a type.
        names: what this definition calls tensors that it did not make itself: its inputs, and what its blocks return.
    """

    path: str
    definition: str
    parent: Scope | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    inputs: list[Value] = field(default_factory=list)
    axes: list[tuple[str | None, ...] | None] = field(default_factory=list)
    names: dict[Value, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)

    def within(self, path: str) -> str:
        """The path in the model of a path in this scope: `h.0.attn` for `attn` in `h.0`."""
        return f"{self.path}.{path}" if self.path else path

    def ancestors(self) -> list[Scope]:
        """This scope and all around it, the model first."""
        chain: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            chain.append(scope)
            scope = scope.parent
        return chain[::-1]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor in the graph: a result of a node, or an input (whose `producer` is None).

    `name` is the user's name for it, where the text has one; it means nothing to the graph.
    """

    type: TensorType
    producer: Node | None = None
    index: int = 0
    name: str | None = None

    def __repr__(self) -> str:
        return f"<{self.name or 'value'}: {self.type}>"


@dataclass(eq=False, slots=True)
class Node:
    """An operator at its place.

    Attributes:
        op: the operator with its attributes.
        operands: the values it uses, in order.
        results: the values it makes.
        weights: the path of each parameter, by the parameter's name.
        transposed: the parameters that are the transpose of the weight at their path, which another layer owns.
        name: the layer's name within its scope (`conv1`, `h.0`), or None for one that nobody named.
        scope: the use of a block that it belongs to.
        span: where the text has it; None for what a pass made out of nothing in the text.
        origin: the passes that made or changed it, the last one last.
        order: its place among the nodes, as far as the data allows.
    """

    op: Operator
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    weights: Mapping[str, str]
    name: str | None
    scope: Scope
    span: Span | None
    origin: tuple[str, ...]
    order: Order
    transposed: frozenset[str] = frozenset()

    @property
    def path(self) -> str | None:
        """The layer's whole path, or None for a node without a name."""
        if self.name is None:
            return None
        return self.scope.within(self.name)

    @property
    def bindings(self) -> tuple[tuple[str, str, bool], ...]:
        """Which weights it has: each parameter with its path, and whether it is transposed; comparable."""
        return tuple((name, path, name in self.transposed) for name, path in sorted(self.weights.items()))

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def types(self) -> tuple[TensorType, ...]:
        """The types of the operands."""
        return tuple(value.type for value in self.operands)

    @property
    def title(self) -> str:
        """What to call it in a message: its path, or its operator and line."""
        if self.path is not None:
            return self.path
        where = f" (line {self.span.line})" if self.span is not None else ""
        return f"{self.op.name}{where}"

    def __repr__(self) -> str:
        return f"<{self.title}: {self.op}>"


class Graph:
    """A network: inputs, nodes, outputs and weights.

    Attributes:
        name: the model's name.
        inputs: the input values, each with its name, in order.
        outputs: the output values by name, in order.
        weights: what is known of each weight, by path.
        tensors: the values of the stored tensors, once they are bound; None before.
        scope: the scope of the model itself.
        dead_weights: paths of the stored tensors of dead layers, which were removed; a weights file may hold them.
    """

    renderer: ClassVar[Callable[[Graph], str] | None] = None
    """Function that draws a graph as SVG for notebooks; `archc.driver.graph_views` sets it."""

    def __init__(self, name: str, scope: Scope | None = None):
        self.name = name
        self.scope = scope or Scope("", name)
        self.inputs: list[Value] = []
        self.outputs: dict[str, Value] = {}
        self.weights: dict[str, Weight] = {}
        self.tensors: Weights | None = None
        self.dead_weights: frozenset[str] = frozenset()
        self._nodes: dict[Node, None] = {}
        self._edges: _Edges | None = None
        self._sorted: list[Node] | None = None
        # Nodes that were only ever appended, each after those it uses, need no sorting.
        self._in_order = True
        self._last: Order | None = None

    # Reading ----------------------------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """All nodes, each after those it uses; otherwise in the order of the text."""
        if self._sorted is None:
            self._sorted = list(self._nodes if self._in_order else self._index().sort())
        return list(self._sorted)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        inputs = ", ".join(str(value.name) for value in self.inputs)
        bound = "" if self.tensors is None else ", bound"
        counts = f"{len(self)} nodes, {len(self.weights)} weights{bound}"
        return f"<Graph {self.name}: {inputs} -> {', '.join(self.outputs)}; {counts}>"

    def _repr_svg_(self) -> str | None:
        """SVG of the graph, for notebooks."""
        return None if Graph.renderer is None else Graph.renderer(self)

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    def consumers(self, value: Value) -> list[Node]:
        """The nodes that use a value, in the order in which they came to; outputs are not among them."""
        return self._index().consumers(value)

    def users(self, node: Node) -> list[Node]:
        """The nodes that use any result of a node."""
        return self._index().users(node)

    def is_output(self, value: Value) -> bool:
        """Whether a value is an output of the model."""
        return any(output is value for output in self.outputs.values())

    def layers(self) -> dict[str, Node]:
        """The named nodes by path, in order; a layer used twice stands once, at its first use."""
        found: dict[str, Node] = {}
        for node in self.nodes():
            if node.path is not None:
                found.setdefault(node.path, node)
        return found

    def weight_values(self, path: str) -> np.ndarray:
        """Values of a weight as layers compute with them, decoded from its stored tensors, which are read now.

        Raises:
            ValueError: no weights are bound to the graph.
            KeyError: the graph has no such weight.
        """
        if self.tensors is None:
            raise ValueError("no weights are bound to this graph: `archc.compile(...).graph` has some")
        weight = self.weights[path]
        return weight.storage.decode(path, {stored: self.tensors[stored].numpy() for stored in weight.tensors})

    def __eq__(self, other: object) -> bool:
        """Equality as a network: what feeds the outputs is the same, by the same names.

        The order of unrelated nodes, names of intermediate values, spans and the weights' values do not count.
        """
        if not isinstance(other, Graph):
            return NotImplemented
        return self.canonical() == other.canonical()

    __hash__ = None  # type: ignore[assignment]  # graphs change

    def canonical(self) -> tuple[Any, ...]:
        """A comparable form of the network, without the values of its weights; see `archc.ir.graph`."""
        return canonical_form(self)

    # Changing: for the rewriter alone ---------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        self._in_order = self._in_order and (self._last is None or self._last < node.order)
        self._last = node.order
        self._nodes[node] = None
        if self._edges is not None:
            self._edges.add(node)
        self._sorted = None

    def _remove(self, node: Node) -> None:
        del self._nodes[node]
        if self._edges is not None:
            self._edges.remove(node)
        self._sorted = None

    def _set_operands(self, node: Node, operands: tuple[Value, ...]) -> None:
        edges = self._index()
        edges.disconnect(node)
        node.operands = operands
        edges.connect(node)
        self._in_order = False
        self._sorted = None

    def _index(self) -> _Edges:
        if self._edges is None:
            self._edges = _Edges(self._nodes)
        return self._edges


class _Edges:
    """The edges between nodes, and from inputs to nodes."""

    def __init__(self, nodes: Iterable[Node]):
        import networkx as nx

        self._graph: nx.DiGraph[Node] = nx.DiGraph()
        self._input_users: dict[Value, dict[Node, None]] = {}
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Enter a node with the edges from what it uses."""
        self._graph.add_node(node)
        self.connect(node)

    def remove(self, node: Node) -> None:
        """Take a node out, with all its edges."""
        self.disconnect(node)
        self._graph.remove_node(node)

    def connect(self, node: Node) -> None:
        """Draw the edges from a node's operands."""
        for value in node.operands:
            if value.producer is not None:
                self._graph.add_edge(value.producer, node)
            else:
                self._input_users.setdefault(value, {})[node] = None

    def disconnect(self, node: Node) -> None:
        """Erase the edges from a node's operands."""
        for value in node.operands:
            if value.producer is None:
                self._input_users.get(value, {}).pop(node, None)
            elif self._graph.has_edge(value.producer, node):
                self._graph.remove_edge(value.producer, node)

    def consumers(self, value: Value) -> list[Node]:
        """The nodes that use a value, in the order in which they came to."""
        if value.producer is None:
            return list(self._input_users.get(value, {}))
        return [node for node in self._graph.successors(value.producer) if value in node.operands]

    def users(self, node: Node) -> list[Node]:
        """The nodes that use any result of a node."""
        return list(self._graph.successors(node))

    def sort(self) -> Iterator[Node]:
        """Kahn's algorithm with a heap on `order`: linear but for the heap, and the same on every run.

        Raises:
            ValueError: the nodes form a cycle.
        """
        missing = {node: self._graph.in_degree(node) for node in self._graph}
        ready = [(node.order, number, node) for number, node in enumerate(self._graph) if not missing[node]]
        heapq.heapify(ready)
        number = len(self._graph)
        count = 0
        while ready:
            _, _, node = heapq.heappop(ready)
            yield node
            count += 1
            for user in self._graph.successors(node):
                missing[user] -= 1
                if not missing[user]:
                    number += 1
                    heapq.heappush(ready, (user.order, number, user))
        if count != len(self._graph):
            raise ValueError("the graph has a cycle")


def canonical_form(graph: Graph) -> tuple[Any, ...]:
    """A form of a graph that equals another's where both are the same network.

    It holds what feeds the outputs: operators, layers' paths, types and weights, operands by number.  It leaves out
    the order of unrelated nodes, the names of intermediate values, spans, and the weights' values.
    """
    numbers: dict[Value, int] = {value: -1 - position for position, value in enumerate(graph.inputs)}
    rows = []
    used: set[str] = set()
    for node in _upstream_first(graph):
        operands = tuple(numbers[value] for value in node.operands)
        for value in node.results:
            numbers[value] = len(numbers)
        used.update(node.weights.values())
        types = tuple(value.type for value in node.results)
        rows.append((node.op, operands, node.bindings, node.path, types))
    weights = sorted((weight for path, weight in graph.weights.items() if path in used), key=lambda weight: weight.path)
    return (
        graph.name,
        tuple((value.name, value.type) for value in graph.inputs),
        tuple(rows),
        tuple((name, numbers[value]) for name, value in graph.outputs.items()),
        tuple((weight.path, weight.shape, weight.dtype, weight.storage, weight.trainable) for weight in weights),
    )


def _upstream_first(graph: Graph) -> Iterator[Node]:
    """The nodes that feed the outputs, each after its operands, in an order that depends on the data flow alone."""
    stack = [value.producer for value in reversed(graph.outputs.values()) if value.producer is not None]
    done: set[Node] = set()
    while stack:
        node = stack[-1]
        waiting = [v.producer for v in node.operands if v.producer is not None and v.producer not in done]
        if node not in done and waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if node not in done:
            done.add(node)
            yield node
