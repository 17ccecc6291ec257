"""Layers whose result is a product with one weight matrix, or a selection of its rows."""

from __future__ import annotations

from archc.analysis.layers import Layer
from archc.declaration.base import Operator
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph
from archc.ir.scans import schedule

MOST_COLUMNS = 12_288
"""Largest number of columns of a matrix whose second moments are computed.

They have 1.2 GB in f64, and GPTQ needs a few matrices of this size.
"""


def matrix_obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why the calibration data give no second-order loss of a layer's weight, or None.

    A layer without an obstacle has one use, outside scans, and multiplies the rows of its operand by its only matrix,
    which is not too wide, or selects rows of it.
    """
    obstacle = use_obstacle(graph, layer)
    if obstacle is not None:
        return obstacle
    weight = graph.weights[layer.weights["weight"]]
    if type(layer.op).weight_rows is Operator.weight_rows and not layer.op.has(SELECTS_ROWS):
        return f"`{layer.op.name}` is no product of rows with its weight"
    if not layer.op.has(SELECTS_ROWS) and (columns := weight.size // max(1, weight.shape[0])) > MOST_COLUMNS:
        return f"the second moments of its {columns:,} inputs would need too much memory"
    if layer.node.types[0].rank < (1 if layer.op.has(SELECTS_ROWS) else 2):
        return "its operand has no axis of samples"
    return None


def use_obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why a layer has no operand of its own, or has no single matrix, or None."""
    if set(layer.weights) != {"weight"}:
        return f"`{layer.op.name}` has {len(layer.weights)} weights" if layer.weights else "its weight is a vector"
    if len(layer.nodes) != 1:
        return f"it has {len(layer.nodes)} uses"
    weight = graph.weights[layer.weights["weight"]]
    if not weight.storage.elementwise:
        return f"its weight is stored as {weight.storage}"
    return None if layer.node in set(schedule(graph)) else "it is in a scan"
