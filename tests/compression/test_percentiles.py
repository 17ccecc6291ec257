"""Percentile ranges of calibration data, compared with the quantiles of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from archc.compression.quantization.histograms import BINS
from archc.compression.quantization.observers import observe
from archc.passmanager.calibration import Calibration
from tests.passes.graphs import Build


@pytest.mark.parametrize("percentile", [99.99, 99.9, 99.0, 90.0, 75.0])
@pytest.mark.parametrize("draw", ["normal", "uniform", "skewed", "two values"])
def test_percentiles_are_quantiles_up_to_a_bin(percentile: float, draw: str) -> None:
    """The range contains both quantiles and extends beyond each by at most one bin."""
    generator = np.random.default_rng(0)
    draws = {
        "normal": generator.standard_normal((64, 200)),
        "uniform": generator.uniform(-1, 1, (64, 200)),
        "skewed": generator.exponential(1, (64, 200)) - 0.5,
        "two values": np.where(generator.random((64, 200)) < 0.3, -1.0, 2.0),
    }
    data = draws[draw].astype(np.float32)
    build = Build()
    graph = build.done(build.layer("relu", build.input(200)))
    (x,) = graph.inputs
    found = observe(graph, [x], Calibration(graph, {"x": data}).batches, "percentile", percentile)[x]
    shares = (1 - percentile / 100, percentile / 100)
    low, high = (float(np.quantile(data, share, method="inverted_cdf")) for share in shares)
    width = 1.01 * float(data.max() - data.min()) / BINS
    assert low - width <= found.low <= low + 1e-6
    assert high - 1e-6 <= found.high <= high + width
