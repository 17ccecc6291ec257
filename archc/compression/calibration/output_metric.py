"""Output metric: the effect of an error in the result of a layer on the outputs of the model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.output_gradients import output_gradients, sample_count, watched_run
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node

if TYPE_CHECKING:
    import torch

LARGEST_METRIC = 4096
"""Number of channels up to which a metric is a matrix; above, it is the diagonal of the matrix."""
LARGEST_MODEL = 1 << 30
"""Most bytes of weights for which passes compute gradients, which keep all weights in memory."""
DRAWS = 2
"""Number of random directions for each batch of samples."""


@frozen_by_identity
class OutputMetric:
    """The effect of errors in the result of a node on the outputs.

    Attributes:
        matrix: the metric G, of shape [channels, channels], or its diagonal, of shape [channels]; f64.
        relevant: for each batch, the rows of the result that have an effect, as Booleans of shape [rows].  For
            example, the positions after the end of a text have none.
    """

    matrix: torch.Tensor
    relevant: Sequence[torch.Tensor]


def output_metric(
    graph: Graph, nodes: Collection[Node], batches: Iterable[Mapping[str, torch.Tensor]], seed: int = 0
) -> dict[Node, OutputMetric]:
    """Metric G = Σ E[g gᵀ] of the result of each node.

    g is the gradient of ⟨v, outputs⟩ for a Gaussian v, and the sum is over the rows of the result in a sample.  For
    errors e of the rows that are independent of g, E[eᵀ G e] is the expected squared error of the outputs.  Every
    output is divided by its root mean square, so errors are relative.  No labels are needed: with the Gaussian
    log-likelihood as loss, G is the Fisher information (Martens and Grosse 2015, "Optimizing Neural Networks with
    Kronecker-factored Approximate Curvature", section 2).

    A node without a floating-point result, without a path to an output, or with gradients that are infinite or NaN has
    no metric.  Likewise a node in a scan, whose result has several values.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    wanted = {node.results[0]: node for node in nodes if node.results[0].type.dtype.floating}
    metrics: dict[Node, torch.Tensor] = {}
    relevant: dict[Node, list[torch.Tensor]] = {}
    samples = 0
    for batch in batches:
        outputs, found = watched_run(graph, batch, wanted)
        if not outputs or not found:
            continue
        samples += sample_count(outputs)
        for draw, gradients in enumerate(output_gradients(outputs, [*found.values()], DRAWS, generator)):
            for value, gradient in zip(found, gradients):
                if gradient is None:
                    continue
                node = wanted[value]
                rows = node.op.result_rows(gradient).float()
                square = rows.T @ rows if rows.shape[1] <= LARGEST_METRIC else rows.square().sum(0)
                total = square.double() / DRAWS
                metrics[node] = metrics[node] + total if node in metrics else total
                effective = (rows != 0).any(1)
                seen = relevant.setdefault(node, [])
                if draw:
                    seen[-1] |= effective
                else:
                    seen.append(effective)
    return {
        node: OutputMetric(metric / samples, relevant[node])
        for node, metric in metrics.items()
        if metric.isfinite().all()
    }
