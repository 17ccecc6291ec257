"""Histograms of values in a graph over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archc.compression.quantization.ranges import Range
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch

BINS = 2048
"""Number of bins of a histogram."""

Batches = Callable[[], Iterable[Mapping[str, "torch.Tensor"]]]
"""Function that iterates over the calibration data: batches of the inputs of a graph by name."""


@dataclass(frozen=True)
class Histogram:
    """Elements of a value, counted in `BINS` bins of equal width between the extremes.

    Attributes:
        zeros: number of elements that are exactly 0, such as those that a relu has clipped.  Every quantization range
            represents them without error.
    """

    low: float
    high: float
    counts: npt.NDArray[np.float64]
    zeros: float

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """Centers of the bins."""
        return np.asarray(self.low + (np.arange(len(self.counts)) + 0.5) * self.width, np.float64)

    @property
    def nonzero_counts(self) -> npt.NDArray[np.float64]:
        """Counts of the elements other than 0."""
        counts = self.counts.copy()
        if self.low <= 0 <= self.high:
            place = min(int(-self.low / self.width), len(counts) - 1)
            counts[place] = max(counts[place] - self.zeros, 0)
        return counts


def extremes(graph: Graph, wanted: Collection[Value], batches: Batches) -> dict[Value, tuple[float, float]]:
    """Minimum and maximum of values over all batches; both are NaN if an element is NaN.

    One batch of activations is alive at a time.
    """
    from archc.interpreter.evaluate import evaluate_all

    found: dict[Value, tuple[float, float]] = {}
    for batch in batches():
        for value, tensor in evaluate_all(graph, batch):
            if value not in wanted or not tensor.numel():
                continue
            low, high = (float(end) for end in tensor.aminmax())
            before = found.get(value, (low, high))
            ends = min(low, before[0]), max(high, before[1])
            found[value] = ends if low == low and before[0] == before[0] else (nan, nan)  # `min` may drop a NaN
    return found


def histograms(graph: Graph, ends: Mapping[Value, tuple[float, float]], batches: Batches) -> dict[Value, Histogram]:
    """Histograms of the values with two different, finite extremes.

    One batch of activations is alive at a time, and the bins are fixed, so memory does not grow with the data.

    Args:
        ends: extremes of the values over the same batches; see `extremes`.
    """
    import torch

    from archc.interpreter.evaluate import evaluate_all

    spread = {value: pair for value, pair in ends.items() if Range(*pair).finite and pair[0] < pair[1]}
    counts = {value: torch.zeros(BINS, dtype=torch.float64) for value in spread}
    zeros: dict[Value, float] = dict.fromkeys(spread, 0.0)
    for batch in batches() if spread else ():
        for value, tensor in evaluate_all(graph, batch):
            if value in counts and tensor.numel():
                counts[value] += torch.histc(tensor.double(), BINS, *spread[value])
                zeros[value] += tensor.numel() - int(tensor.count_nonzero())
    return {value: Histogram(*spread[value], counts[value].numpy(), zeros[value]) for value in spread}
