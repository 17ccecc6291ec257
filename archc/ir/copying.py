"""Copies of graphs, for passes that try a rewrite, and for comparisons with the original."""

from __future__ import annotations

from dataclasses import replace

from archc.ir.graph import Graph, Node, Scope, Value
from archc.weights.tensor import Weights


def copied(graph: Graph) -> Graph:
    """A copy of a graph with nodes, values and scopes of its own.

    The copies share the stored tensors, which never change: a rewrite of one graph has no effect on the other.
    """
    copier = _Copier()
    copy = Graph(graph.name, copier.scope(graph.scope))
    copy.inputs = [copier.value(value) for value in graph.inputs]
    for node in graph.nodes():
        copy._add(copier.node(node))
    for name, value in graph.outputs.items():
        copy._set_output(name, copier.value(value))
    copy.weights = dict(graph.weights)
    copy.tensors = None if graph.tensors is None else Weights(graph.tensors)
    copy.dead_weights = graph.dead_weights
    copier.finish_scopes()
    return copy


class _Copier:
    """Copies by original, so that each value and each scope is copied once."""

    def __init__(self) -> None:
        self._values: dict[Value, Value] = {}
        self._scopes: dict[Scope, Scope] = {}

    def node(self, node: Node) -> Node:
        """Copy a node whose operands are copied already."""
        operands = tuple(map(self.value, node.operands))
        copy = replace(node, operands=operands, results=(), scope=self.scope(node.scope))
        copy.results = tuple(replace(value, producer=copy) for value in node.results)
        self._values.update(zip(node.results, copy.results, strict=True))
        return copy

    def value(self, value: Value) -> Value:
        """The copy of a value; a value of a removed node is copied without its producer."""
        if value not in self._values:
            self._values[value] = replace(value, producer=None)
        return self._values[value]

    def scope(self, scope: Scope) -> Scope:
        """The copy of a scope; `finish_scopes` copies the values that it names."""
        if scope not in self._scopes:
            parent = None if scope.parent is None else self.scope(scope.parent)
            self._scopes[scope] = replace(scope, parent=parent, inputs=[], names={})
        return self._scopes[scope]

    def finish_scopes(self) -> None:
        """Fill the inputs and names of all scopes, which refer to values of nodes that are copied later."""
        for scope, copy in self._scopes.items():
            copy.inputs.extend(map(self.value, scope.inputs))
            copy.names.update((self.value(value), name) for value, name in scope.names.items())
