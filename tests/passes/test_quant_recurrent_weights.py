"""Rounding of the weights of recurrent layers with calibration data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph

PASS = 'quant(scheme = "weight")'


def correlated(seed: int) -> np.ndarray[Any, Any]:
    """Sequences of 16 columns that are mixtures of 4 sources."""
    mixture = np.random.default_rng(0).standard_normal((4, 16))
    sources = np.random.default_rng(seed).standard_normal((32, 12, 4)) + 1
    return (sources @ mixture).astype(np.float32)


def error(graph: Graph, exact: Graph, x: np.ndarray[Any, Any]) -> float:
    found, expected = (evaluate(each, {"x": torch.from_numpy(x)})["y"] for each in (graph, exact))
    return float((found - expected).norm())


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


def test_the_weights_of_gru_are_rounded_to_nearest() -> None:
    text = "model m { input x: f32[N, T, 16]  output y = x -> r: gru(24) }"
    plain = archc.compile(text, passes=PASS).graph
    fitted = archc.compile(text, passes=PASS, calib={"x": correlated(1)}).graph
    for path in plain.weights:
        np.testing.assert_array_equal(fitted.weight_values(path), plain.weight_values(path))
