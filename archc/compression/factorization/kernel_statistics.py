"""Second moments of the operands of convolutions, for each axis of their kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archc.compression.factorization.kernel_factors import KernelMetric, kernel_shape
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node, Value

if TYPE_CHECKING:
    import torch


@dataclass
class KernelStatistics:
    """Moments of the operand of a convolution.

    Attributes:
        count: number of positions.
        sums: Σ x, [channels].
        squares: Σ x xᵀ about the mean of a batch, [groups, channels, channels], channels of a group.
        correlations: Σ x[t] x[t + s] for each distance s along each axis of the kernel, about the same mean, over all
            channels.
    """

    count: int = 0
    sums: torch.Tensor | None = None
    squares: torch.Tensor | None = None
    correlations: list[torch.Tensor] = field(default_factory=list)

    def add(self, x: torch.Tensor, groups: int) -> None:
        """Add an operand [samples, channels, *positions]."""
        rows = x.movedim(1, -1).flatten(0, -2).double()
        mean = rows.mean(0)
        by_group = (rows - mean).float().view(len(rows), groups, -1).transpose(0, 1)
        squares = (by_group.mT @ by_group).double()
        centred = x - mean.to(x.dtype).view(-1, *[1] * (x.dim() - 2))
        correlations = [_autocorrelation(centred, axis) for axis in range(2, x.dim())]
        self.count += len(rows)
        self.sums = rows.sum(0) if self.sums is None else self.sums + rows.sum(0)
        self.squares = squares if self.squares is None else self.squares + squares
        earlier = self.correlations or [each * 0 for each in correlations]
        self.correlations = [_sum(*pair) for pair in zip(earlier, correlations, strict=True)]

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the operand, [channels]."""
        assert self.sums is not None, "an operand was added"
        return self.sums / self.count

    def metrics(self, node: Node, outputs: torch.Tensor | None) -> list[KernelMetric]:
        """The metric of each group of channels of a convolution.

        Args:
            outputs: metric of its result, [channels, channels] or [channels]; None if it is not known.
        """

        assert self.squares is not None, "an operand was added"
        groups = len(self.squares)
        kernel = [_toeplitz(node.op.kernel_steps(axis), own) for axis, own in enumerate(self.correlations)]
        results: Sequence[torch.Tensor | None] = [None] * groups
        if outputs is not None:
            size = len(outputs) // groups
            blocks = [slice(number * size, (number + 1) * size) for number in range(groups)]
            results = [outputs[block] if outputs.dim() == 1 else outputs[block, block] for block in blocks]
        return [KernelMetric(own, each / self.count, kernel) for own, each in zip(results, self.squares, strict=True)]


def kernel_statistics(
    graph: Graph, nodes: Iterable[Node], batches: Iterable[Mapping[str, torch.Tensor]]
) -> dict[Node, KernelStatistics]:
    """Statistics of the operands of convolutions; none for an operand that is not finite."""
    wanted: dict[Value, list[Node]] = {}
    for node in nodes:
        wanted.setdefault(node.operands[0], []).append(node)
    found: dict[Node, KernelStatistics] = {}
    for batch in batches:
        for value, tensor in evaluate_all(graph, batch):
            for node in wanted.get(value, ()):
                weight = graph.weights[node.weights["weight"]]
                groups = kernel_shape(node.op, weight.shape)[0]
                found.setdefault(node, KernelStatistics()).add(tensor.float(), groups)
    return {node: own for node, own in found.items() if math.isfinite(float(own.mean.sum())) and _finite(own)}


def _finite(statistics: KernelStatistics) -> bool:
    return statistics.squares is not None and bool(statistics.squares.isfinite().all())


def _autocorrelation(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Σ x[t] x[t + s] for s = 0, 1, …, over all elements, with zeros beyond the ends."""
    import torch

    length = x.shape[axis]
    power = torch.fft.rfft(x, n=2 * length, dim=axis).abs().square().double()
    sums: torch.Tensor = torch.fft.irfft(power.movedim(axis, -1).flatten(0, -2).sum(0), n=2 * length)
    return sums[:length]


def _sum(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The sum of correlations; batches can have different sizes."""
    size = max(len(first), len(second))
    total = first.new_zeros(size)
    for each in (first, second):
        total[: len(each)] += each
    return total


def _toeplitz(steps: Sequence[int | None], correlations: torch.Tensor) -> torch.Tensor:
    """Correlations between the elements of a kernel axis, [size, size], with ones on the diagonal."""
    import torch

    known = [correlations[step] if step is not None and step < len(correlations) else 0 for step in steps]
    row = torch.tensor([float(each) for each in known], dtype=torch.float64) / (float(correlations[0]) or 1.0)
    row[0] = 1
    distances = (torch.arange(len(row))[:, None] - torch.arange(len(row))).abs()
    return row[distances]
