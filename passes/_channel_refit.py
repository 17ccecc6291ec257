"""Refit of weights to the channels that stay, on the calibration data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from archc.analysis.coupling import ChannelGroup
from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.output_metric import OutputMetric
from archc.compression.calibration.sequential import (
    Approximation,
    CompressedMatrix,
    LayerProblem,
    compress_sequentially,
)
from archc.compression.pruning.column_removal import DAMPING, kept_columns_refitted
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

from ._channel_losses import columns_of, masked_values

if TYPE_CHECKING:
    import numpy as np
    import torch


def refit(
    graph: Graph,
    context: Context,
    batches: Sequence[Mapping[str, torch.Tensor]],
    metrics: Mapping[Node, OutputMetric],
    groups: Collection[ChannelGroup],
    gated: Iterable[ChannelGroup],
) -> None:
    """Set the columns of removed channels to zero, and fit the others to the original results.

    The layers are fitted in the order of the data flow, each on the operand that it gets in the pruned model.  Layers
    without removed columns are not changed.

    Args:
        metrics: output metrics of the layers to fit.
        gated: the groups that other layers use; all their weights are set to zero.
    """
    columns = columns_of(graph, metrics, groups)
    steps = Lockstep(graph, batches)
    for path, values in masked_values(graph, gated, columns).items():
        context.rewriter.set_weight(path, values)
        steps.changed(path)

    def store(node: Node, found: CompressedMatrix[np.ndarray]) -> None:
        context.progress(f"fit {node.path}")
        context.rewriter.set_weight(node.weights["weight"], found.result)
        if found.bias is not None:
            context.rewriter.set_weight(node.weights["bias"], found.bias)

    solvers = {node: partial(_without_columns, [*own.values()]) for node, own in columns.items()}
    if solvers:
        compress_sequentially(graph, steps, solvers, metrics, store)


def _without_columns(removed: Sequence[torch.Tensor], problem: LayerProblem) -> Approximation[np.ndarray]:
    """The best weight that is zero in some columns.

    The other columns may differ much from the original ones, so they are regularized less than the target.
    """
    import torch

    weight = torch.from_numpy(problem.weight.copy()).flatten(1)
    kept = torch.ones(weight.shape[1], dtype=torch.bool)
    kept[torch.cat([*removed])] = False
    if problem.target is None:
        return Approximation((weight * kept).numpy().reshape(problem.weight.shape), None)
    parts = [
        kept_columns_refitted(part, each, kept, DAMPING)
        for part, each in zip(problem.parts, problem.moments, strict=True)
    ]
    values = torch.cat(parts)
    return Approximation(values.to(weight.dtype).numpy().reshape(problem.weight.shape), values)
