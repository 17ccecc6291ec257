"""Number of the weights of a model of which single ones can be masked."""

from __future__ import annotations

from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph


def prunable_weights(graph: Graph) -> int:
    """Number of elements of the weights that are contracted with data, such as those of linear layers."""
    paths = {path for node in graph.nodes() if not node.op.has(SELECTS_ROWS) for path in node.weights.values()}
    return sum(graph.weights[path].size for path in paths if len(graph.weights[path].shape) > 1)
