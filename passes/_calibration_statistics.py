"""Statistics of layers on the calibration data, which later passes on an equal graph use again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.layer_statistics import LayerStatistics, layer_statistics
from archc.compression.calibration.output_metric import OutputMetric, output_metric
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

if TYPE_CHECKING:
    import torch

    Batches = Sequence[Mapping[str, torch.Tensor]]

MOST_KEPT = 1 << 27
"""Most f64 elements of the matrices of a graph that are kept; larger ones are computed anew."""


def output_metrics(
    graph: Graph, context: Context, nodes: Collection[Node], batches: Batches
) -> dict[Node, OutputMetric]:
    """Output metrics of nodes; see `output_metric`.

    Args:
        batches: evenly distributed batches of the calibration data, as `bounded_batches` returns them.
    """
    question = ("output metric", len(batches))
    if sum(graph.weights[node.weights["weight"]].shape[0] ** 2 for node in nodes) > MOST_KEPT:
        return output_metric(graph, nodes, batches)
    return context.calibration.findings.of_nodes(graph, question, nodes, lambda: output_metric(graph, nodes, batches))


def operand_statistics(
    graph: Graph, context: Context, batches: Batches, metrics: Mapping[Node, OutputMetric]
) -> dict[Node, LayerStatistics]:
    """Statistics of the operands of layers; see `layer_statistics`.

    Args:
        batches: those of `output_metrics`.
        metrics: metrics of the layers, by `output_metrics` on these batches.
    """
    question = ("operand statistics", len(batches))
    weights = [graph.weights[node.weights["weight"]] for node in metrics if not node.op.has(SELECTS_ROWS)]
    if sum((weight.size // max(weight.shape[0], 1)) ** 2 for weight in weights) > MOST_KEPT:
        return layer_statistics(graph, batches, metrics)
    return context.calibration.findings.of_nodes(
        graph, question, metrics, lambda: layer_statistics(graph, batches, metrics)
    )
