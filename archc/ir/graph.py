"""The graph of a network: nodes, the values between them, and the weights that nodes own.

Nodes are in the order of the source text, except where the data flow requires another order.  So the order is
deterministic, and all emitted files are the same on every run.

This module reads graphs.  Only `archc.ir.rewriter.Rewriter` changes them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from archc.diagnostics import Span
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.use_lists import UseLists
from archc.types.storage import Weight
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

    from archc.declaration.base import Operator
    from archc.weights.tensor import LazyTensor, Weights

Order = tuple[int, ...]

_UNBOUND = "no weights are bound to this graph: use `archc.compile(...).graph`, which has weights"


@frozen_by_identity
class Scope:
    """An instance of a block, or the model; each node belongs to one scope.

    If the text declares a layer that is a block, and uses the layer twice, each use has its own scope.  Both scopes
    have the same path.

    Attributes:
        path: path of the module (`h.0`, `h.0.attn`); empty for the model.
        definition: name of the block or model.
        parent: scope that contains this one; None for the model.
        arguments: values of the block's attributes by name.
        sizes: values of the named sizes in the types of the block's inputs, by name, such as `D`.
        doc: comment before the definition.
        inputs: operands of the instance, in the order of the block's inputs; passes may leave some of them unused.
        axes: for each input with a type, the name of each axis's size, or None for an unnamed size.  The entry of an
            input without a type is None.
        names: names that this definition gives to values of other scopes: to inputs, and to results of inner blocks.
        defaults: the part of `arguments` that comes from the defaults of attributes.
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
        """Convert a path in this scope to a path in the model: `attn` in `h.0` becomes `h.0.attn`."""
        return f"{self.path}.{path}" if self.path else path

    def ancestors(self) -> list[Scope]:
        """Return this scope and all scopes that contain it, outermost first."""
        chain: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            chain.append(scope)
            scope = scope.parent
        return chain[::-1]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor in the graph: a result of a node, or an input of the model.

    Attributes:
        producer: node that produces the value; None for an input.
        index: position among the results of `producer`.
        name: name in the text, or None.  Names of values have no effect on the meaning of the graph.
    """

    type: TensorType
    producer: Node | None = None
    index: int = 0
    name: str | None = None

    def __repr__(self) -> str:
        return f"<{self.name or 'value'}: {self.type}>"


@dataclass(eq=False, slots=True)
class Node:
    """An operator in a graph, with its operands and results.

    Attributes:
        op: operator with its attributes.
        operands: used values, in order.
        results: produced values, in order.
        weights: path of the weight of each parameter, by the parameter's name.
        name: name of the layer in its scope (`conv1`, `h.0`); None for an unnamed node.
        scope: instance of a block that contains the node.
        span: position in the text; None for a node that a pass inserted and that corresponds to no single position.
        origin: names of the passes that inserted or changed the node, the latest last.
        order: sort key among nodes that the data flow does not order.
        transposed: parameters that use the transpose of a weight of another layer.
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
        """Path of the layer in the model; None for an unnamed node."""
        if self.name is None:
            return None
        return self.scope.within(self.name)

    @property
    def bindings(self) -> tuple[tuple[str, str, bool], ...]:
        """Name, path and transposition of each parameter's weight, as a comparable value."""
        return tuple((name, path, name in self.transposed) for name, path in sorted(self.weights.items()))

    @property
    def kind(self) -> str:
        """Name of the operator; patterns compare it (`archc.ir.match`)."""
        return self.op.name

    def attribute(self, name: str) -> Any:
        """Return the value of an attribute of the operator; None if the operator has no such attribute."""
        return getattr(self.op, name, None)

    @property
    def result(self) -> Value:
        """Result of a node with one result."""
        (value,) = self.results
        return value

    @property
    def types(self) -> tuple[TensorType, ...]:
        """Types of the operands."""
        return tuple(value.type for value in self.operands)

    @property
    def title(self) -> str:
        """Name in messages: the path, or the operator and its line."""
        if self.path is not None:
            return self.path
        where = f" (line {self.span.line})" if self.span is not None else ""
        return f"{self.op.name}{where}"

    def __repr__(self) -> str:
        return f"<{self.title}: {self.op}>"


class Graph:
    """A network: inputs, nodes, outputs and weights.

    Attributes:
        name: name of the model.
        scope: scope of the model.
        inputs: input values, each with its name, in order.
        outputs: output values by name, in order.
        weights: declarations of the weights by path.
        tensors: stored tensors of the weights by path; None until weights are bound.
        dead_weights: paths of the stored tensors of removed dead layers; a weights file may contain these tensors.
    """

    renderer: ClassVar[Callable[[Graph], str] | None] = None
    """Function that draws a graph as SVG.

    `archc.driver.graph_views` sets it, because this module must not import `archc.drawing`.
    """

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
        # True while `_nodes` needs no sort: nodes were appended in ascending order, and no operands were replaced.
        self._in_order = True
        self._last: Order | None = None

    # Reading ----------------------------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """Return all nodes in topological order.

        Nodes that the data flow does not order are in the order of the text.
        """
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
        """Return an SVG of the graph, for notebooks."""
        return None if Graph.renderer is None else Graph.renderer(self)

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    def consumers(self, value: Value) -> list[Node]:
        """Return the nodes that use a value, in the order in which their uses were added."""
        return self._index().uses.consumers(value)

    def only_consumer(self, value: Value) -> Node | None:
        """Return the node that has the only use of a value; None if there is no use, or more than one."""
        return self._index().uses.only_consumer(value)

    def users(self, node: Node) -> list[Node]:
        """Return the nodes that use any result of a node."""
        return self._index().users(node)

    def is_output(self, value: Value) -> bool:
        """Return True if a value is an output of the model."""
        return self._index().uses.is_output(value)

    def layers(self) -> dict[str, Node]:
        """Return the named nodes by path, in order; for a layer with several uses, the node of its first use."""
        found: dict[str, Node] = {}
        for node in self.nodes():
            if node.path is not None:
                found.setdefault(node.path, node)
        return found

    def stored_tensors(self) -> dict[str, LazyTensor]:
        """Return the stored tensors in the order of the layers.

        The order does not depend on the order in which passes created the tensors.

        Raises:
            ValueError: no weights are bound to the graph.
        """
        if self.tensors is None:
            raise ValueError(_UNBOUND)
        weights = {path: self.weights[path] for node in self.nodes() for path in node.weights.values()}
        return {stored: self.tensors[stored] for weight in weights.values() for stored in weight.tensors}

    def weight_values(self, path: str) -> np.ndarray:
        """Read the stored tensors of a weight and return the decoded values.

        Raises:
            ValueError: no weights are bound to the graph.
            KeyError: the graph has no such weight.
        """
        if self.tensors is None:
            raise ValueError(_UNBOUND)
        weight = self.weights[path]
        return weight.decode({stored: self.tensors[stored].numpy() for stored in weight.tensors})

    def __eq__(self, other: object) -> bool:
        """Compare two networks by their canonical forms; see `canonical`."""
        if not isinstance(other, Graph):
            return NotImplemented
        return self.canonical() == other.canonical()

    __hash__ = None  # type: ignore[assignment]  # graphs are mutable

    def canonical(self) -> tuple[Any, ...]:
        """Return a tuple that is equal for two graphs of the same network.

        For each live node, the tuple contains the operator, path, operands (as numbers), result types and weights.  It
        does not depend on the order of independent nodes, names of intermediate values, spans, or values of
        weights.
        """
        return canonical_form(self)

    # Changing: only for the rewriter ----------------------------------------------------------------------

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

    def _set_output(self, name: str, value: Value) -> None:
        if self._edges is not None:
            if name in self.outputs:
                self._edges.uses.remove_output(self.outputs[name])
            self._edges.uses.add_output(value)
        self.outputs[name] = value

    def _index(self) -> _Edges:
        if self._edges is None:
            self._edges = _Edges(self._nodes, self.outputs.values())
        return self._edges


class _Edges:
    """Edges between nodes, and use lists.

    An edge from one node to another means that the second uses a result of the first.  A graph creates its edges at the
    first query, because `archc check` queries no edges, and the import of networkx would take a quarter of the time
    of `archc check`.

    Attributes:
        uses: the nodes that use each value.
    """

    def __init__(self, nodes: Iterable[Node], outputs: Iterable[Value]):
        import networkx as nx

        self._graph: nx.DiGraph[Node] = nx.DiGraph()
        self.uses: UseLists[Node, Value] = UseLists()
        for node in nodes:
            self.add(node)
        for value in outputs:
            self.uses.add_output(value)

    def add(self, node: Node) -> None:
        """Add a node and the edges from its operands."""
        self._graph.add_node(node)
        self.connect(node)

    def remove(self, node: Node) -> None:
        """Remove a node and all its edges."""
        self.disconnect(node)
        self._graph.remove_node(node)

    def connect(self, node: Node) -> None:
        """Add the edges from a node's operands."""
        self.uses.connect(node, node.operands)
        for value in node.operands:
            if value.producer is not None:
                self._graph.add_edge(value.producer, node)

    def disconnect(self, node: Node) -> None:
        """Remove the edges from a node's operands."""
        self.uses.disconnect(node, node.operands)
        self._graph.remove_edges_from([(value.producer, node) for value in node.operands if value.producer is not None])

    def users(self, node: Node) -> list[Node]:
        """Return the nodes that use any result of a node."""
        return list(self._graph.successors(node))

    def sort(self) -> Iterator[Node]:
        """Yield the nodes in topological order, by Kahn's algorithm with a heap on `Node.order`.

        Raises:
            ValueError: the graph has a cycle.
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
    """Return the canonical form of a graph; see `Graph.canonical`."""
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
    """Yield the live nodes in a topological order that depends only on the data flow."""
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
