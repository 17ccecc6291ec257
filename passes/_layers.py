"""What several passes ask about a graph's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from archc.ir.cost import Costs
from archc.ir.graph import Graph, Node, Scope
from archc.ops.operator import Operator


@dataclass(frozen=True)
class Layer:
    """A layer with a `weight`, and all its uses.

    Attributes:
        nodes: one for each use, in order; all have one operator and the same weights.
        sharing: the other layers that use its weight.
        tied_to: a layer that has one of its parameters too, or None where all are its own.
    """

    path: str
    nodes: tuple[Node, ...]
    sharing: tuple[str, ...]
    tied_to: str | None

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def op(self) -> Operator:
        return self.nodes[0].op

    @property
    def weight(self) -> str:
        """The path of its weight."""
        return self.nodes[0].weights["weight"]


def layers_with_weight(graph: Graph) -> list[Layer]:
    """The layers that have a trainable parameter `weight`, in order."""
    uses: dict[str, list[Node]] = {}
    users: dict[str, dict[str, None]] = {}
    for node in graph.nodes():
        if node.path is None:
            continue
        for weight in node.weights.values():
            users.setdefault(weight, {})[node.path] = None
        if "weight" in node.weights and graph.weights[node.weights["weight"]].trainable:
            uses.setdefault(node.path, []).append(node)
    return [
        Layer(path, tuple(nodes), _users(nodes[0], ["weight"], users), _tied_to(nodes[0], users))
        for path, nodes in uses.items()
    ]


def _users(node: Node, parameters: Iterable[str], users: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The other layers that have any of these parameters of a node."""
    paths = dict.fromkeys(path for name in parameters for path in users[node.weights[name]])
    return tuple(path for path in paths if path != node.path)


def _tied_to(node: Node, users: Mapping[str, Iterable[str]]) -> str | None:
    owners = (weight.rpartition(".")[0] for weight in node.weights.values())
    others = (*_users(node, node.weights, users), *(owner for owner in owners if owner != node.path))
    return others[0] if others else None


class Names:
    """The names of a graph's layers, to find free ones."""

    def __init__(self, graph: Graph):
        self._taken = {node.path for node in graph.nodes() if node.path is not None}

    def free(self, scope: Scope, wanted: str) -> str:
        """A name for a new layer of a scope: the one wanted, with a number where another layer has it.

        `fc_in` becomes `fc_in2`, and `h_in.0`, an element of a list, `h_in2.0`.
        """
        prefix = f"{scope.path}." if scope.path else ""
        stem, dot, element = wanted.rpartition(".") if wanted.rpartition(".")[2].isdigit() else (wanted, "", "")
        name, number = wanted, 1
        while prefix + name in self._taken:
            number += 1
            name = f"{stem}{number}{dot}{element}"
        self._taken.add(prefix + name)
        return name


Work = Callable[[Node], int]
"""The multiply-adds of a node."""


def work_at(graph: Graph, sizes: Mapping[str, int]) -> Work:
    """The multiply-adds of each node in one run at these sizes."""
    return Costs(graph, sizes).multiply_adds
