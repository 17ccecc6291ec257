"""Loss of setting channels of values to zero, by the gradients of the outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.output_gradients import output_gradients, sample_count, watched_run
from archc.compression.calibration.output_metric import DRAWS
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch

Gates = Mapping[Value, tuple[int, np.ndarray]]
"""Axis of each value, and the number of the gate of each of its elements; -1 without a gate."""


def gate_losses(
    graph: Graph, gates: Gates, batches: Iterable[Mapping[str, torch.Tensor]], seed: int = 0
) -> dict[int, float]:
    """Expected squared error of the outputs, relative to their mean squares, if a gate is closed.

    A gate multiplies its channels, and is 1 in the model.  With the gradient g of ⟨v, outputs⟩ for a Gaussian v, the
    gradient for the gate is s = Σ g · x over all positions of its channels x, and the loss is E[s²].
    (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8, without labels.)

    The loss of a gate is the sum over the values that have it.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    totals: dict[int, float] = {int(number): 0.0 for _, numbers in gates.values() for number in numbers if number >= 0}
    samples = 0
    for batch in batches:
        outputs, found = watched_run(graph, batch, gates)
        if not outputs or not found:
            continue
        samples += sample_count(outputs)
        for gradients in output_gradients(outputs, [*found.values()], DRAWS, generator):
            for (value, tensor), gradient in zip(found.items(), gradients):
                if gradient is not None:
                    _add(totals, *gates[value], tensor.detach() * gradient)
    return {number: total / (max(samples, 1) * DRAWS) for number, total in totals.items()}


def _add(totals: dict[int, float], axis: int, numbers: np.ndarray, products: torch.Tensor) -> None:
    """Add the squares of the sums over the channels of each gate, for each sample."""
    import torch

    rows = products.movedim(axis, -1)
    rows = rows.flatten(1, -2).sum(1) if rows.ndim > 2 else rows.reshape(-1, rows.shape[-1])
    kept = torch.from_numpy(numbers >= 0)
    own, places = np.unique(numbers[numbers >= 0], return_inverse=True)
    sums = torch.zeros(len(rows), len(own), dtype=torch.float64)
    sums.index_add_(1, torch.from_numpy(places), rows[:, kept].double())
    for number, square in zip(own.tolist(), sums.square().sum(0).tolist()):
        totals[number] += square
