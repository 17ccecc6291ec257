"""Who uses whom: the edges of a graph, kept in a networkx `DiGraph` that nobody else sees.

An edge says that one node uses another's result; which operand that is stands on the node.  A graph makes its edges
when somebody first asks for them: to check a text takes none, and importing networkx takes a quarter of that time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from archc.ir.graph import Node, Value


class Edges:
    """The edges between nodes, and from inputs to nodes."""

    def __init__(self, nodes: Iterable[Node]):
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
