"""Replacement of a region of a graph by a linear layer, a 1x1 convolution, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from archc.analysis.regions import Region
from archc.compression.pruning.ridge_map import AffineMap
from archc.declaration.base import Operator
from archc.declaration.registry import make_operator
from archc.ir.graph import Graph, Node, Value
from archc.ir.rewriter import Rewriter

from ._layers import LayerNames

NAME = "shortcut"
"""Name of new layers (He et al. 2016, "Deep Residual Learning", section 3.3: projection shortcuts)."""


def replacing_operator(region: Region) -> Operator | None:
    """The operator that maps the channels of a region's entry; None if there is none for their axis."""
    rank = region.entry.type.rank
    if region.axis == rank - 1:
        return make_operator("linear", region.channels)
    if region.axis == 1 and rank in (3, 4, 5):
        return make_operator(f"conv{rank - 2}d", region.channels, 1)
    return None


def add_layer(graph: Graph, rewriter: Rewriter, entry: Value, exit: Value, op: Operator, fitted: AffineMap) -> Node:
    """Add a layer that computes a fitted map of the entry, in the scope of the exit."""
    near = exit.producer
    assert near is not None, "an exit is the result of a node"
    node = rewriter.add(op, [entry], name=LayerNames(graph).free(near.scope, NAME), near=near)
    for parameter, tensor in (("weight", fitted.weight), ("bias", fitted.bias)):
        weight = graph.weights[node.weights[parameter]]
        rewriter.set_weight(weight.path, tensor.numpy().reshape(weight.shape))
    return node


def remove_nodes(rewriter: Rewriter, exit: Value, made: Value, nodes: Sequence[Node]) -> None:
    """Replace the exit of a region by another value, and remove the nodes of the region.

    Args:
        nodes: the nodes, in topological order.
    """
    rewriter.replace_value(exit, made)
    for node in reversed(nodes):
        rewriter.remove(node)
