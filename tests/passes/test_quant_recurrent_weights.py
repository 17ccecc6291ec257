"""Rounding of the weights of recurrent layers with calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.types.storage import Int8, NarrowFloat
from archc.types.tensor_type import DType

PASS = 'quant(scheme = "weight")'


def correlated(seed: int) -> np.ndarray[Any, Any]:
    """Sequences of 16 columns that are mixtures of 4 sources."""
    mixture = np.random.default_rng(0).standard_normal((4, 16))
    sources = np.random.default_rng(seed).standard_normal((32, 12, 4)) + 1
    return (sources @ mixture).astype(np.float32)


def error(graph: Graph, exact: Graph, x: np.ndarray[Any, Any]) -> float:
    found, expected = (evaluate(each, {"x": torch.from_numpy(x)})["y"] for each in (graph, exact))
    return float((found - expected).norm())


def norm(graph: Graph, x: np.ndarray[Any, Any]) -> float:
    return float(evaluate(graph, {"x": torch.from_numpy(x)})["y"].norm())


@pytest.mark.parametrize(
    "layer", ["lstm(24, 2)", "lstm(24, bidirectional = true)", "rnn(24, 2)", "lstm(24, bias = false)"]
)
def test_calibration_data_reduce_the_error_on_other_data(layer: str) -> None:
    text = f"model m {{ input x: f32[N, T, 16]  output y = x -> r: {layer} }}"
    exact, plain = archc.compile(text).graph, archc.compile(text, passes=PASS).graph
    fitted = archc.compile(text, passes=PASS, calib={"x": correlated(1)}).graph
    assert {path: weight.storage for path, weight in fitted.weights.items()} == {
        path: weight.storage for path, weight in plain.weights.items()
    }
    assert error(fitted, exact, correlated(2)) < 0.8 * error(plain, exact, correlated(2))


@pytest.mark.parametrize(
    ("layer", "fit"), [("gru(24)", PASS), ("lstm(24)", 'quant(scheme = "weight", method = "rtn")')]
)
def test_the_weights_of_gru_and_of_the_plain_method_are_rounded_to_nearest(layer: str, fit: str) -> None:
    text = f"model m {{ input x: f32[N, T, 16]  output y = x -> r: {layer} }}"
    plain = archc.compile(text, passes=PASS).graph
    fitted = archc.compile(text, passes=fit, calib={"x": correlated(1)}).graph
    for path in plain.weights:
        np.testing.assert_array_equal(fitted.weight_values(path), plain.weight_values(path))


def of_large_elements(seed: int) -> np.ndarray[Any, Any]:
    """Sequences whose first column is far larger than the others."""
    x = np.random.default_rng(seed).standard_normal((32, 12, 128)).astype(np.float32)
    x[:, :, 0] *= 1000
    return x


@pytest.mark.parametrize("layer", ["lstm(128, 2)", "lstm(128, bidirectional = true)"])
def test_weights_that_need_a_finer_resolution_are_f16(layer: str, tmp_path: Path) -> None:
    text = f"model m {{ input x: f32[N, T, 128]  output y = x -> r: {layer} }}"
    exact = archc.compile(text).graph
    made = archc.compile(text, passes='quant(scheme = "dynamic")', calib={"x": of_large_elements(1)})
    stored = {path: weight.storage for path, weight in made.graph.weights.items() if "weight" in path}
    assert {path for path, storage in stored.items() if storage == NarrowFloat(DType.f16)} == {
        path for path in stored if "_ih_l0" in path
    }
    assert error(made.graph, exact, of_large_elements(2)) < 0.02 * norm(exact, of_large_elements(2))
    (report,) = made.passes
    (note,) = (remark.message for remark in report.remarks if "is f16" in remark.message)
    assert note.startswith("`weight_ih_l0` is f16: with int8 weights the result of the layer would change by ")
    (rewritten,) = (remark.message for remark in report.remarks if remark.kind == "rewrote")
    assert "f16, int8 by GPTQ" in rewritten
    assert archc.parse(archc.print_graph(made.graph)) == made.graph
    check = made.write(tmp_path, emit=("torch", "onnx"), check=True)["check"]
    assert max(check["errors"].values()) < check["tolerance"]


def test_layers_with_f16_weights_keep_float_operands() -> None:
    text = "model m { input x: f32[N, T, 128]  output y = x -> r: lstm(128, 2) }"
    x = of_large_elements(1)
    made = archc.compile(text, passes='quant(scheme = "dynamic", for = "onnx")', calib={"x": x})
    (node,) = made.graph.nodes()
    assert getattr(node.op, "dynamic", None) == (1,)


def test_weights_beyond_the_range_of_f16_stay_int8() -> None:
    text = "model m { input x: f32[N, T, 128]  output y = x -> r: lstm(128) }"
    graph = archc.compile(text).graph
    weights = {path: graph.weight_values(path).copy() for path in graph.weights}
    weights["r.weight_ih_l0"][0, 0] = 1e5
    made = archc.compile(text, weights=weights, passes='quant(scheme = "weight")', calib={"x": of_large_elements(1)})
    assert {path: weight.storage for path, weight in made.graph.weights.items() if "weight" in path} == {
        "r.weight_ih_l0": Int8(0),
        "r.weight_hh_l0": Int8(0),
    }
