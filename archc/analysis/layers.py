"""Layers of a graph that have trained parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archc.declaration.base import Operator
from archc.declaration.traits import Quantizable
from archc.ir.graph import Graph, Node


@dataclass(frozen=True, eq=False)
class Layer:
    """Layer with trained parameters, with all its nodes.

    Attributes:
        nodes: one node for each use, in order; all have the same operator and weights.
        weights: paths of the trained parameters of two or more axes, by name: one for
            `linear`, all `weight_ih_*` and `weight_hh_*` for `lstm`, none for `layer_norm`.
        sharing: the other layers that use one of these weights.
        tied_to: another layer that shares a parameter of any rank with this layer, or None.
    """

    path: str
    nodes: tuple[Node, ...]
    weights: Mapping[str, str]
    sharing: tuple[str, ...]
    tied_to: str | None

    @property
    def node(self) -> Node:
        """First node of the layer."""
        return self.nodes[0]

    @property
    def op(self) -> Operator:
        """Operator of the layer."""
        return self.nodes[0].op

    @property
    def quantizable(self) -> Quantizable:
        """Quantization that the operator supports; without schemes if it supports none."""
        return self.op.trait(Quantizable) or Quantizable()


def layers_with_weights(graph: Graph) -> list[Layer]:
    """Layers with trained parameters, in order; `Layer.weights` is empty if all parameters are vectors."""
    uses: dict[str, list[Node]] = {}
    users: dict[str, dict[str, None]] = {}
    for node in graph.nodes():
        if node.path is None:
            continue
        for weight in node.weights.values():
            users.setdefault(weight, {})[node.path] = None
        if any(graph.weights[weight].trainable for weight in node.weights.values()):
            uses.setdefault(node.path, []).append(node)
    layers = []
    for path, nodes in uses.items():
        weights = _weights(graph, nodes[0])
        layers.append(Layer(path, tuple(nodes), weights, _users(nodes[0], weights, users), _tied_to(nodes[0], users)))
    return layers


def _weights(graph: Graph, node: Node) -> dict[str, str]:
    weights = ((name, graph.weights[path]) for name, path in node.weights.items())
    return {name: weight.path for name, weight in weights if weight.trainable and len(weight.shape) > 1}


def _users(node: Node, parameters: Iterable[str], users: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Other layers that have any of these parameters of a node."""
    paths = dict.fromkeys(path for name in parameters for path in users[node.weights[name]])
    return tuple(path for path in paths if path != node.path)


def _tied_to(node: Node, users: Mapping[str, Iterable[str]]) -> str | None:
    owners = (weight.rpartition(".")[0] for weight in node.weights.values())
    others = (*_users(node, node.weights, users), *(owner for owner in owners if owner != node.path))
    return others[0] if others else None
