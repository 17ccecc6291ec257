"""Statistics of the operands of layers in the original model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.moments import Moments
from archc.compression.calibration.output_metric import OutputMetric
from archc.frozen_dataclass import frozen_by_identity
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node, Value

if TYPE_CHECKING:
    import torch

PRIOR = 0.3
"""Share of the frequencies of `row_frequencies` that is spread evenly over all rows.

Ids that are rare in the calibration data would otherwise count as never used.
"""


@frozen_by_identity
class LayerStatistics:
    """Statistics of a layer in the original model.

    Attributes:
        moments: second moments of the operand, for each group of channels; empty for a layer that selects rows.
        frequencies: share of each selected row, for a layer that selects rows; else None.
    """

    moments: Sequence[Moments]
    frequencies: torch.Tensor | None = None


def layer_statistics(
    graph: Graph,
    batches: Iterable[Mapping[str, torch.Tensor]],
    metrics: Mapping[Node, OutputMetric],
) -> dict[Node, LayerStatistics]:
    """Statistics of layers that multiply their operand by a weight, or select rows of a weight.

    One batch of activations is alive at a time.  Rows without an effect on the outputs are left out.  Other layers have
    no statistics.
    """
    import torch

    wanted: dict[Value, list[Node]] = {}
    for node in metrics:
        wanted.setdefault(node.operands[0], []).append(node)
    moments: dict[Node, list[Moments]] = {}
    counts: dict[Node, torch.Tensor] = {}
    for number, batch in enumerate(batches):
        for value, tensor in evaluate_all(graph, batch):
            for node in wanted.get(value, ()):
                used = metrics[node].relevant[number]
                if not value.type.dtype.floating:
                    rows = graph.weights[node.weights["weight"]].shape[0]
                    found = torch.bincount(tensor.flatten()[used].clamp(0, rows - 1), minlength=rows).double()
                    counts[node] = counts[node] + found if node in counts else found
                    continue
                for sample in torch.split(tensor, 8):
                    x = node.op.weight_rows(sample)
                    if x is None:
                        break
                    if node not in moments:
                        moments[node] = [Moments(x.shape[2], 0, "bias" in node.weights) for _ in range(len(x))]
                    own, used = used[: x.shape[1]], used[x.shape[1] :]
                    for each, part in zip(moments[node], x):
                        each.add(part[own])
    statistics = {node: LayerStatistics(each) for node, each in moments.items()}
    for node, count in counts.items():
        shares = (1 - PRIOR) * count / count.sum().clamp(min=1) + PRIOR / len(count)
        statistics[node] = LayerStatistics((), shares)
    return statistics
