"""The tree of block uses of a graph, each with its nodes in an order of execution.

A pass may move nodes so that a chain of edges leaves a block and returns to it.  Such a block can no longer run as a
single step, so it is inlined into the block around it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from archc.ir.graph import Graph, Node, Order, Scope, Value

Item = "Node | Scope"


@dataclass(eq=False)
class BlockUse:
    """A use of a block that runs as one step, or the whole model.

    Attributes:
        scope: the scope of the use.
        items: the nodes and inner uses, in the order of execution.
        escaping: the values from inside that have uses outside, or are outputs of the model.
    """

    scope: Scope
    items: list[Node | BlockUse] = field(default_factory=list)
    escaping: set[Value] = field(default_factory=set)


def fold(graph: Graph, order: Mapping[Node, Order], apart: Collection[str]) -> list[BlockUse]:
    """Block uses of a graph in the order of their first nodes, outer ones first; the first is the model.

    Args:
        order: the execution order of some nodes; the other nodes have `Node.order`.
        apart: the paths of the block uses to inline.
    """
    return _Folding(graph, order, apart).run()


def levels(uses: Sequence[BlockUse]) -> Iterator[list[BlockUse]]:
    """Block uses grouped by height, lowest first; the height is the number of block levels inside a use."""
    heights: dict[BlockUse, int] = {}
    found: dict[int, list[BlockUse]] = defaultdict(list)
    for use in reversed(uses):
        inner = (heights[item] for item in use.items if isinstance(item, BlockUse))
        heights[use] = max(inner, default=-1) + 1
    for use in uses:
        found[heights[use]].append(use)
    return (found[height] for height in sorted(found))


class _Folding:
    def __init__(self, graph: Graph, order: Mapping[Node, Order], apart: Collection[str]):
        self.graph = graph
        self.order, self.apart = order, apart
        self.root = graph.scope
        self.parents: dict[Scope, Scope] = {}
        self.depths: dict[Scope, int] = {self.root: 0}
        self.items: dict[Scope, list[Node | Scope]] = {self.root: []}
        self.first: dict[Node | Scope, tuple[Order, int]] = {}
        self.edges: dict[Scope, list[tuple[Node, Node]]] = defaultdict(list)
        self.escaping: dict[Scope, set[Value]] = defaultdict(set)
        self.inlined: set[Scope] = set()
        self._place_nodes()
        self._place_edges()

    def run(self) -> list[BlockUse]:
        uses: list[BlockUse] = []
        waiting = [BlockUse(self.root)]
        while waiting:
            use = waiting.pop()
            uses.append(use)
            for item in self._body(use.scope):
                use.items.append(BlockUse(item, escaping=self.escaping[item]) if isinstance(item, Scope) else item)
            waiting += (item for item in reversed(use.items) if isinstance(item, BlockUse))
        return uses

    # The tree of scopes -----------------------------------------------------------------------------------

    def _place_nodes(self) -> None:
        for position, node in enumerate(self.graph.nodes()):
            scope = self._known(node.scope)
            self.items[scope].append(node)
            self.first[node] = first = (self.order.get(node, node.order), position)
            while scope is not self.root and first < self.first.get(scope, (first[0], position + 1)):
                self.first[scope] = first
                scope = self.parents[scope]

    def _known(self, scope: Scope) -> Scope:
        """Add a scope and its parents to the tree; return the scope."""
        missing: list[Scope] = []
        above: Scope | None = scope
        while above is not None and above not in self.depths:
            missing.append(above)
            above = above.parent
        parent = above or self.root
        for inner in reversed(missing):
            self.parents[inner] = parent
            self.depths[inner] = self.depths[parent] + 1
            self.items[inner] = []
            self.items[parent].append(inner)
            # A block use that runs as one step has a path below the path of its parent: `enc.attn` in `enc`.
            not_below = not inner.path.startswith(_prefix(parent)) or inner.path == parent.path
            if not_below or inner.path in self.apart:
                self.inlined.add(inner)
            parent = inner
        return scope

    def _place_edges(self) -> None:
        """Add each edge to the innermost scope with both ends.

        The value of the edge escapes from each scope that contains the producer but not the consumer.
        """
        for consumer in self.graph.nodes():
            for value in consumer.operands:
                producer = value.producer
                if producer is None:
                    continue
                source, target = producer.scope, consumer.scope
                while source is not target:
                    if self.depths[source] >= self.depths[target]:
                        self.escaping[source].add(value)
                        source = self.parents[source]
                    else:
                        target = self.parents[target]
                self.edges[source].append((producer, consumer))
        for value in self.graph.outputs.values():
            scope = value.producer.scope if value.producer is not None else self.root
            while scope is not self.root:
                self.escaping[scope].add(value)
                scope = self.parents[scope]

    # The order within one scope ---------------------------------------------------------------------------

    def _body(self, scope: Scope) -> list[Node | Scope]:
        """The items of a scope in an order of execution; scopes on a cycle are inlined."""
        while True:
            inside = [scope]
            items: list[Node | Scope] = []
            for current in inside:  # grows during the loop
                for item in self.items[current]:
                    if isinstance(item, Scope) and item in self.inlined:
                        inside.append(item)
                    else:
                        items.append(item)
            following: dict[Node | Scope, list[Node | Scope]] = {item: [] for item in items}
            for current in inside:
                for producer, consumer in self.edges[current]:
                    following[self._item(producer, scope)].append(self._item(consumer, scope))
            ordered = _ordered(items, following, self.first)
            if len(ordered) == len(items):
                return ordered
            done = set(ordered)
            self._inline_cycles({item: users for item, users in following.items() if item not in done})

    def _item(self, node: Node, scope: Scope) -> Node | Scope:
        """The item of a scope's body that contains a node: the node itself, or an inner scope."""
        item: Node | Scope = node
        current = node.scope
        while current is not scope:
            if current not in self.inlined:
                item = current
            current = self.parents[current]
        return item

    def _inline_cycles(self, following: dict[Node | Scope, list[Node | Scope]]) -> None:
        remaining: nx.DiGraph[Node | Scope] = nx.DiGraph(following)
        for component in nx.strongly_connected_components(remaining):
            if len(component) > 1:
                self.inlined |= {item for item in component if isinstance(item, Scope)}


def _ordered(
    items: Iterable[Node | Scope],
    following: dict[Node | Scope, list[Node | Scope]],
    first: dict[Node | Scope, tuple[Order, int]],
) -> list[Node | Scope]:
    """The items in topological order; items that edges do not order are sorted by `first`.

    Items on a cycle and their consumers are omitted.
    """
    missing = dict.fromkeys(items, 0)
    for users in following.values():
        for user in users:
            missing[user] += 1
    ready = [(*first[item], item) for item, count in missing.items() if not count]
    heapq.heapify(ready)
    ordered: list[Node | Scope] = []
    while ready:
        item = heapq.heappop(ready)[-1]
        ordered.append(item)
        for user in following[item]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (*first[user], user))
    return ordered


def _prefix(scope: Scope) -> str:
    return f"{scope.path}." if scope.path else ""
