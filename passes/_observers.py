"""Observers: the ranges of values in a graph over the calibration data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from archc.ir.graph import Graph, Value
from archc.passmanager.calibration import Calibration

if TYPE_CHECKING:
    import torch

BINS = 2048
"""Number of bins of the histograms for percentiles."""
LARGEST = (2 - 2.0**-23) * 2.0**127
"""Largest float32."""
SMALLEST = 2.0**-126
"""Smallest normal float32; processors may flush smaller numbers to 0."""


@dataclass(frozen=True, slots=True)
class Range:
    """Quantization range of a value; it always contains 0, so that 0 has an exact integer."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        """Smallest range that contains both numbers and 0; an end is NaN if its number is NaN."""
        return cls(min(low, 0.0), max(high, 0.0))  # `min` and `max` return a NaN in the first argument

    @property
    def finite(self) -> bool:
        """Return whether both ends are finite in float32."""
        return max(abs(self.low), abs(self.high)) <= LARGEST  # False for a NaN

    @property
    def empty(self) -> bool:
        """Return whether only zeros were observed, so that there is no quantization range."""
        return self.low == self.high == 0

    def affine(self, levels: int = 256) -> tuple[float, int]:
        """Scale and zero point of unsigned integers that cover the range: x ≈ scale · (q - zero_point).

        (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1.)
        """
        if self.empty:
            return 1.0, 0
        scale = max((self.high - self.low) / (levels - 1), SMALLEST)
        return scale, min(levels - 1, max(0, round(-self.low / scale)))


def observe(
    graph: Graph, wanted: Iterable[Value], calibration: Calibration, percentile: float | None
) -> dict[Value, Range]:
    """Ranges of values over all calibration data: minimum to maximum, or between two percentiles.

    One batch of activations is alive at a time.  Percentiles take a second run, which counts the elements in `BINS`
    bins between the extremes, so memory does not grow with the data.

    Args:
        percentile: 99 for the range from the 1st to the 99th percentile; None for the minimum to the maximum.
    """
    extremes = _extremes(graph, set(wanted), calibration)
    if percentile is None:
        return {value: Range.around(*ends) for value, ends in extremes.items()}
    spread = {value: ends for value, ends in extremes.items() if Range(*ends).finite and ends[0] < ends[1]}
    counts = _histograms(graph, spread, calibration)
    return {
        value: _between(counts[value], *ends, percentile / 100) if value in spread else Range.around(*ends)
        for value, ends in extremes.items()
    }


def _extremes(graph: Graph, wanted: set[Value], calibration: Calibration) -> dict[Value, tuple[float, float]]:
    from archc.interpreter.evaluate import evaluate_all

    found: dict[Value, tuple[float, float]] = {}
    for batch in calibration.batches():
        for value, tensor in evaluate_all(graph, batch):
            if value not in wanted or not tensor.numel():
                continue
            low, high = (float(end) for end in tensor.aminmax())
            before = found.get(value, (low, high))
            ends = min(low, before[0]), max(high, before[1])
            found[value] = ends if low == low and before[0] == before[0] else (nan, nan)  # `min` may drop a NaN
    return found


def _histograms(
    graph: Graph, extremes: dict[Value, tuple[float, float]], calibration: Calibration
) -> dict[Value, torch.Tensor]:
    import torch

    from archc.interpreter.evaluate import evaluate_all

    counts = {value: torch.zeros(BINS, dtype=torch.float64) for value in extremes}
    for batch in calibration.batches():
        for value, tensor in evaluate_all(graph, batch):
            if value in counts and tensor.numel():
                low, high = extremes[value]
                counts[value] += torch.histc(tensor.double(), BINS, low, high)
    return counts


def _between(counts: torch.Tensor, low: float, high: float, share: float) -> Range:
    """Range between the percentiles 1 - share and share of a histogram from `low` to `high`."""
    import torch

    shares = counts.cumsum(0) / counts.sum()
    width = (high - low) / BINS
    first = int(torch.searchsorted(shares, 1 - share, right=True))
    last = int(torch.searchsorted(shares, share))
    return Range.around(low + first * width, low + (min(last, BINS - 1) + 1) * width)
