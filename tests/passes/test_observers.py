"""Quantization ranges of constant, zero, tiny, huge and non-finite data: scales are never 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archc.compression.quantization.observers import OBSERVERS, Observer, observe
from archc.compression.quantization.ranges import Range
from archc.interpreter.evaluate import evaluate
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.types.storage import Int8
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp, remarks, run

CONSTANTS = [0.0, -0.0, 3.0, -3.0, 1e-45, -1e-45, 1e-38, 1e-30, 3.4e38, -3.4e38]


def seen(data: np.ndarray, observer: Observer, percentile: float = 100.0) -> Range:
    build = Build()
    x = build.input(data.shape[1])
    graph = build.done(build.layer("relu", x))
    return observe(graph, [x], Calibration(graph, {"x": data}).batches, observer, percentile)[x]


@pytest.mark.parametrize(("observer", "percentile"), [("minmax", 100.0), ("percentile", 99.9), ("percentile", 100.0)])
@pytest.mark.parametrize("other", [None, *CONSTANTS])
@pytest.mark.parametrize("constant", CONSTANTS)
def test_the_scale_of_a_few_numbers_is_normal_and_holds_them(
    constant: float, other: float | None, observer: Observer, percentile: float
) -> None:
    data = np.full((70, 3), constant, np.float32)
    data[::2] = data[::2] if other is None else other
    span = seen(data, observer, percentile)
    assert span.finite and span.low <= 0 <= span.high
    assert span.empty == (not data.any())
    scale, zero_point = span.affine()
    assert np.finfo(np.float32).tiny <= np.float32(scale) < np.inf and 0 <= zero_point <= 255
    steps = np.clip(np.rint(data.astype(np.float64) / scale) + zero_point, 0, 255) - zero_point
    assert (np.abs(steps * scale - data) <= 0.51 * scale + 1e-6 * np.abs(data)).all()


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 40, 69])
def test_one_number_that_is_not_finite_makes_the_range_not_finite(row: int, broken: float, observer: Observer) -> None:
    data = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float32)
    data[row, 1] = broken
    assert not seen(data, observer, 99.0).finite


@pytest.mark.parametrize("observer", [None, *OBSERVERS])
def test_a_layer_whose_operands_are_all_zero_is_not_quantized(observer: Observer | None) -> None:
    graph = mlp(256, 512, 256)
    data = np.zeros((8, 256), np.float32)
    (report,) = run(graph, Quant(least=0, observer=observer), data={"x": data})
    assert "all zero" in remarks(report, "note")["fc1"]
    assert [node.path for node in graph.nodes() if node.op.name == "quantize"] == ["fc2_in"]
    assert graph.weights["fc1.weight"].storage == Int8(axis=0)
    x = torch.randn((4, 256), generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(evaluate(graph, {"x": x})["y0"]).all()


@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1.0, 3e38])
def test_no_scale_of_a_weight_is_zero(size: float, axis: int | None) -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, (3, 5)).astype(np.float32)
    weight[1] *= np.float32(size)
    weight[2] = 0
    stored = Int8(axis).encode("w", weight)
    assert (stored["w_scale"] > 0).all() and np.isfinite(stored["w_scale"]).all()
    largest = np.abs(weight).max(1 if axis == 0 else None, keepdims=True)
    step = np.maximum(largest / 127, stored["w_scale"].max() if size < 1e-43 else 0)
    assert (np.abs(Int8(axis).decode("w", stored, weight.shape, DType.f32) - weight) <= 0.51 * step).all()
    assert not stored["w"][2].any()


def test_a_weight_of_zeros_alone_is_stored_as_zeros() -> None:
    stored = Int8(0).encode("w", np.zeros((2, 3), np.float32))
    assert stored["w_scale"].tolist() == [1, 1] and not stored["w"].any()
