"""Observers: quantization ranges of values in a graph over calibration data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from archc.compression.quantization.clipping import least_divergence_range, least_error_range, percentile_range
from archc.compression.quantization.histograms import Batches, Histogram, extremes, histograms
from archc.compression.quantization.layer_error import errors_of_ranges
from archc.compression.quantization.ranges import Range
from archc.ir.graph import Graph, Node, Value

Observer = Literal["minmax", "percentile", "entropy", "mse"]
OBSERVERS: tuple[Observer, ...] = ("minmax", "percentile", "entropy", "mse")
"""All observers; the first one does not clip."""
PERCENTILE = 99.99
"""Default percentile."""
LEAST_GAIN = 0.8
"""Largest ratio of the error with clipping to the error without, for which `observe_by_error` clips.

Gains of a few percent at a layer are within the noise of the model's output: in ResNet-18, clipping that reduced the
errors of most layers by 5 to 15 % changed the error of the output by -4 % to +4 %, depending on the weights' rounding.
"""


def observe(
    graph: Graph, wanted: Collection[Value], batches: Batches, observer: Observer, percentile: float = PERCENTILE
) -> dict[Value, Range]:
    """Ranges of values over all calibration data.

    Memory does not grow with the data: one batch of activations is alive at a time.  The observer `minmax` takes one
    run of the graph, and the others take a second one, which counts the elements of each value in a histogram.
    """
    ends = extremes(graph, wanted, batches)
    counted = {} if observer == "minmax" else histograms(graph, ends, batches)
    return {
        value: _range(counted[value], observer, percentile) if value in counted else Range.around(*pair)
        for value, pair in ends.items()
    }


def observe_by_error(
    graph: Graph, users: Mapping[Value, Sequence[Node]], batches: Batches
) -> dict[Value, tuple[Observer, Range]]:
    """The observer with the least error of each value, with its range.

    The error is that of the results of the layers that use the quantized value, since clipped outliers may have large
    weights there.  It is measured on some of the batches, with float weights.  The range is the whole range unless
    clipping reduces the error to a share of `LEAST_GAIN`.

    Args:
        users: the layers that use each value; without layers, the error is that of the value itself.
    """
    ends = extremes(graph, users, batches)
    counted = histograms(graph, ends, batches)
    candidates = {
        value: {observer: _range(histogram, observer, PERCENTILE) for observer in OBSERVERS}
        for value, histogram in counted.items()
    }
    distinct = {value: tuple(dict.fromkeys(ranges.values())) for value, ranges in candidates.items()}
    errors = errors_of_ranges(graph, distinct, users, batches)
    chosen: dict[Value, tuple[Observer, Range]] = {
        value: ("minmax", Range.around(*pair)) for value, pair in ends.items()
    }
    for value, ranges in candidates.items():
        best = min(ranges, key=lambda observer: errors[value][ranges[observer]])
        if errors[value][ranges[best]] <= LEAST_GAIN * errors[value][ranges["minmax"]]:
            chosen[value] = best, ranges[best]
    return chosen


def _range(histogram: Histogram, observer: Observer, percentile: float) -> Range:
    match observer:
        case "minmax":
            return Range.around(histogram.low, histogram.high)
        case "percentile":
            return percentile_range(histogram, percentile)
        case "entropy":
            return least_divergence_range(histogram)
        case "mse":
            return least_error_range(histogram)
