"""Quantization ranges that clip: percentiles, and ranges with the least error or divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from archc.compression.quantization.histograms import Histogram
from archc.compression.quantization.ranges import LEVELS, Range

Array: TypeAlias = npt.NDArray[np.float64]
Loss: TypeAlias = Callable[[Array, Array, float, float, float], float]
"""Loss of a range, from the centers and counts of bins, the width of a bin, and the ends of the range."""

SHARES = np.linspace(1, 1 / 64, 64)
"""Candidates for an end of a range, as shares of the extreme."""
ROUNDS = 2
"""Number of times that each end is chosen, with the other end fixed."""


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """Range between two percentiles: for 99, from the 1st to the 99th percentile.

    The range contains both percentiles, and extends beyond each by at most one bin.  (Wu et al. 2020, "Integer
    Quantization for Deep Learning Inference", section 3.)
    """
    shares = histogram.counts.cumsum() / histogram.counts.sum()
    first = int(np.searchsorted(shares, 1 - percentile / 100, side="right"))
    last = min(int(np.searchsorted(shares, percentile / 100)), len(shares) - 1)
    return Range.around(histogram.low + first * histogram.width, histogram.low + (last + 1) * histogram.width)


def least_error_range(histogram: Histogram) -> Range:
    """Range with the least squared error of quantization: of rounding and of clipping."""
    return _search(histogram, _squared_error)


def least_divergence_range(histogram: Histogram) -> Range:
    """Range with the least Kullback-Leibler divergence of the quantized from the clipped distribution.

    (Migacz 2017, "8-bit Inference with TensorRT", extended to ranges that are not symmetric.)
    """
    return _search(histogram, _divergence)


def _search(histogram: Histogram, loss: Loss) -> Range:
    """Range with the least loss.

    The search starts at the whole range, and moves one end at a time.  Elements that are exactly 0 have no part in the
    loss.
    """
    whole = Range.around(histogram.low, histogram.high)
    centers, counts = histogram.centers, histogram.nonzero_counts
    low, high = whole.low, whole.high
    for _ in range(ROUNDS):
        if whole.high > 0:
            high = min(SHARES * whole.high, key=lambda end: loss(centers, counts, histogram.width, low, float(end)))
        if whole.low < 0:
            low = min(SHARES * whole.low, key=lambda end: loss(centers, counts, histogram.width, float(end), high))
    return Range(float(low), float(high))


def _squared_error(centers: Array, counts: Array, width: float, low: float, high: float) -> float:
    """Sum of squared errors, with rounding errors that are uniform between -step/2 and step/2."""
    step = (high - low) / (LEVELS - 1)
    clipped = centers - centers.clip(low, high)
    inside = counts[clipped == 0].sum()
    return float(inside * step**2 / 12 + counts @ clipped**2)


def _divergence(centers: Array, counts: Array, width: float, low: float, high: float) -> float:
    inside = (centers > low - width / 2) & (centers < high + width / 2)
    kept = counts[inside]
    if not kept.any():
        return float("inf")
    clipped = kept.copy()  # elements outside the range become its ends
    clipped[0] += counts[centers <= low - width / 2].sum()
    clipped[-1] += counts[centers >= high + width / 2].sum()
    places = ((centers[inside] - low) / (high - low) * LEVELS).astype(int).clip(0, LEVELS - 1)
    occupied = (clipped > 0).astype(float)
    sums, bins = np.bincount(places, kept, LEVELS), np.bincount(places, occupied, LEVELS)
    spread = occupied * (sums / np.maximum(bins, 1))[places]  # each level, spread over its occupied bins
    p, q = clipped / clipped.sum(), np.maximum(spread / spread.sum(), np.finfo(float).tiny)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())
