"""Sensitivity of the outputs of a model to the rounding of each weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.gptq import quantize_matrix
from archc.compression.grids import Grid, find_grid
from archc.compression.moments import Moments
from archc.compression.output_metric import OutputMetric
from archc.frozen_dataclass import frozen_by_identity
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node, Value
from archc.types.storage import Dense, Int4, Integers, NarrowFloat, Storage
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import torch

PRIOR = 0.3
"""Share of the frequencies of `row_frequencies` that is spread evenly over all rows.

Ids that are rare in the calibration data would otherwise count as never used.
"""
LEVELS_OF_INT8 = 254
"""Number of steps of int8 weights, which are rounded to nearest: GPTQ gains nothing there."""


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


class RoundingLoss:
    """The expected squared error of the outputs when one weight is rounded, for a layer with statistics.

    For the rounding error ΔW, the metric G of the result and the second moments H of the operand, the loss is
    tr(G ΔW H ΔWᵀ).  (Frantar and Alistarh 2022, "Optimal Brain Compression", equation 1, with the metric of the outputs
    for the identity.)

    Args:
        weight: the weight, as an array of its shape.
        metric: the matrix of the `output_metric` of the layer.
    """

    def __init__(self, weight: torch.Tensor, statistics: LayerStatistics, metric: torch.Tensor):
        self._weight, self._statistics, self._metric = weight, statistics, metric.float()
        self._hessians = [each.hessian.float() for each in statistics.moments]

    def of(self, storage: Storage) -> float:
        """Loss of a storage format; for integers of few bits, an estimate of the loss after GPTQ."""
        if isinstance(storage, Dense):
            return 0.0
        if isinstance(storage, NarrowFloat):
            values = self._weight.numpy()
            rounded = storage.decode("w", storage.encode("w", values), values.shape, DType.f32)
            return self._loss(torch_from(rounded - values).flatten(1))
        assert isinstance(storage, Integers), f"no rounding loss for {storage}"
        rows, grid = self._grid(storage)
        loss = self._loss(grid.values(grid.nearest(rows)) - rows)
        return loss * (self._gain if grid.high - grid.low < LEVELS_OF_INT8 else 1.0)

    @cached_property
    def _gain(self) -> float:
        """Loss after GPTQ as a share of that after rounding to nearest, at 4 bits."""
        import torch

        rows, grid = self._grid(Int4(group=32))
        nearest = self._loss(grid.values(grid.nearest(rows)) - rows)
        hessians = self._hessians or [self._metric if self._metric.dim() == 2 else self._metric.diag()]
        channels = len(rows) // len(hessians)
        q = [
            quantize_matrix(part, each.double(), grid.of_channels(number * channels, channels))
            for number, (each, part) in enumerate(zip(hessians, torch.split(rows, channels)))
        ]
        return min(1.0, self._loss(grid.values(torch.cat(q)) - rows) / nearest) if nearest else 1.0

    def _grid(self, storage: Integers) -> tuple[torch.Tensor, Grid]:
        """The weight as a matrix, and its grid in a format."""
        import torch

        rows = torch_from(storage.rows(self._weight.numpy()))
        if not self._hessians:
            return rows, find_grid(storage, rows, _diagonal(self._metric))
        channels = len(rows) // len(self._hessians)
        importance = torch.cat([each.diagonal().expand(channels, -1) for each in self._hessians])
        return rows, find_grid(storage, rows, importance)

    def _loss(self, error: torch.Tensor) -> float:
        """Loss of an error of shape [channels, columns]."""
        import torch

        frequencies = self._statistics.frequencies
        if frequencies is not None:
            squares = (_product(self._metric, error.T).T * error).sum(1)
            return max(0.0, float(squares.double() @ frequencies))
        channels, total = len(error) // len(self._hessians), 0.0
        for number, (part, hessian) in enumerate(zip(torch.split(error, channels), self._hessians)):
            own = slice(number * channels, (number + 1) * channels)
            metric = self._metric[own, own] if self._metric.dim() == 2 else self._metric[own]
            total += float(((_product(metric, part) @ hessian) * part).sum())
        return max(0.0, total)


def torch_from(array: np.ndarray) -> torch.Tensor:
    """A copy of an array as a tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array).copy())


def _diagonal(metric: torch.Tensor) -> torch.Tensor:
    return metric.diagonal() if metric.dim() == 2 else metric


def _product(metric: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Product of a metric, or of the diagonal matrix with this diagonal, and a matrix."""
    return metric @ matrix if metric.dim() == 2 else metric[:, None] * matrix
