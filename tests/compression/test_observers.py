"""Observers: ranges with the least error, and the choice between observers by the error of layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.compression.quantization.histograms import BINS, Batches, Histogram, extremes, histograms
from archc.compression.quantization.observers import OBSERVERS, Observer, observe, observe_by_error
from archc.compression.quantization.ranges import Range
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Value
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from tests.passes.graphs import Build, mlp, run

DRAWS = ("normal", "skewed", "outlier", "clipped")


def draw(kind: str, seed: int, rows: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    data = generator.standard_normal((rows, width))
    if kind == "skewed":
        data = generator.exponential(1, (rows, width)) - 0.2
    if kind == "outlier":
        data[generator.integers(rows), generator.integers(width)] = 10.0 ** generator.integers(1, 3)
    if kind == "clipped":
        data = np.maximum(data - 0.5, 0)
    return data.astype(np.float32)


def batches_of(data: np.ndarray, size: int) -> Batches:
    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(data), size):
            yield {"x": torch.from_numpy(data[start : start + size])}

    return batches


def layer(width: int, weight: np.ndarray) -> tuple[Graph, Value]:
    graph = mlp(width, len(weight), weights={"fc1.weight": weight})
    return graph, graph.inputs[0]


def histogram_of(data: np.ndarray, batch: int = 32) -> Histogram:
    build = Build()
    graph = build.done(build.layer("relu", build.input(data.shape[1])))
    (x,) = graph.inputs
    batches = batches_of(data, batch)
    return histograms(graph, extremes(graph, [x], batches), batches)[x]


def squared_error(span: Range, data: np.ndarray) -> float:
    """Independent formula of the squared error of quantized data."""
    step = (span.high - span.low) / 255
    zero = round(-span.low / step)
    q = np.clip(np.rint(data.astype(np.float64) / step) + zero, 0, 255)
    return float(np.square((q - zero) * step - data).sum())


@given(st.integers(0, 10_000), st.sampled_from(DRAWS), st.floats(0.01, 30))
@settings(max_examples=40, deadline=None)
def test_the_default_is_never_worse_than_minmax(seed: int, kind: str, large: float) -> None:
    """The error of the layer's result with the chosen range is at most that with the whole range."""
    data = draw(kind, seed, 40, 16)
    weight = np.random.default_rng(seed).standard_normal((8, 16))
    weight[:, np.unravel_index(np.abs(data).argmax(), data.shape)[1]] *= large
    graph, x = layer(16, weight.astype(np.float32))
    (fc,) = graph.nodes()
    batches = batches_of(data, 32)
    _, found = observe_by_error(graph, {x: [fc]}, batches)[x]
    whole = observe(graph, [x], batches, "minmax")[x]

    def error(span: Range) -> float:
        wanted, bias = data @ weight.T, graph.weight_values("fc1.bias")
        (rounded,) = evaluate(graph, {"x": span.rounded(torch.from_numpy(data))}).values()
        return float(np.square(rounded.numpy() - bias - wanted).sum())

    assert error(found) <= error(whole) * (1 + 1e-4)


@pytest.mark.parametrize(("large", "clips"), [(100.0, False), (0.0, True)])
def test_an_outlier_is_clipped_only_if_its_weights_are_small(large: float, clips: bool) -> None:
    data = draw("normal", 0, 64, 32)
    data[5, 7] = 40
    weight = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    weight[:, 7] *= large
    graph, x = layer(32, weight)
    _, span = observe_by_error(graph, {x: graph.nodes()}, batches_of(data, 32))[x]
    assert (span.high < 35) == clips
    quantized, _ = layer(32, weight)
    run(quantized, Quant(least=0, smooth=0), data={"x": data})
    assert quantized.weight_values("fc1_in.scale") == pytest.approx(span.affine()[0])


def test_random_inputs_get_the_whole_range() -> None:
    graph, x = layer(32, np.ones((16, 32), np.float32))
    whole = observe(graph, [x], Calibration(graph).batches, "minmax")[x]
    run(graph, Quant(least=0))
    assert graph.weight_values("fc1_in.scale") == pytest.approx(whole.affine()[0])


@pytest.mark.parametrize("kind", DRAWS)
def test_mse_has_the_least_error_of_all_shares_of_the_range(kind: str) -> None:
    data = draw(kind, 1, 256, 64)
    histogram = histogram_of(data)
    found = observe(*observed(data), "mse")
    low, high = min(0.0, histogram.low), histogram.high
    others = [Range(low * a, high * b) for a in np.linspace(0.1, 1, 19) for b in np.linspace(0.1, 1, 19)]
    assert squared_error(found[next(iter(found))], data) <= 1.03 * min(squared_error(other, data) for other in others)


def observed(data: np.ndarray) -> tuple[Graph, list[Value], Batches]:
    build = Build()
    graph = build.done(build.layer("relu", build.input(data.shape[1])))
    return graph, graph.inputs, batches_of(data, 32)


def test_entropy_clips_the_tail_of_a_distribution_and_keeps_a_uniform_one() -> None:
    generator = np.random.default_rng(0)
    tailed = generator.laplace(0, 1, (256, 256)).astype(np.float32)
    uniform = generator.uniform(-1, 1, (256, 256)).astype(np.float32)
    (span,) = observe(*observed(tailed), "entropy").values()
    assert span.high < 0.9 * tailed.max() and (np.abs(tailed) < min(span.high, -span.low)).mean() > 0.99
    (span,) = observe(*observed(uniform), "entropy").values()
    assert (span.low, span.high) == pytest.approx((-1, 1), abs=0.05)


def test_elements_that_are_exactly_zero_do_not_count_as_rounding_error() -> None:
    data = draw("clipped", 2, 256, 64)
    dense = data[data > 0][: 64 * (np.count_nonzero(data) // 64)].reshape(-1, 64)
    (sparse,) = observe(*observed(data), "mse").values()
    (alone,) = observe(*observed(np.vstack([dense, dense[-1:] * 0])), "mse").values()
    assert sparse.high == pytest.approx(alone.high, rel=0.05)
    assert histogram_of(data).zeros == np.sum(data == 0)


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_ranges_do_not_depend_on_the_batches(observer: Observer, batch: int) -> None:
    data = draw("outlier", 3, 64, 20)
    graph, values, batches = observed(data)
    assert observe(graph, values, batches_of(data, batch), observer) == observe(graph, values, batches, observer)
    assert len(histogram_of(data, batch).counts) == BINS
