"""Integer biases of quantized layers: the emitted programs agree with the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run, to_model
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from tests.codegen.torch_modules import imported

Array = np.ndarray[Any, Any]

DEAD = """
model dead() {
    input x: f32[N, 4, 8, 8]
    h = x -> c1: conv2d(32, 3, padding = 1, bias = false) -> bn1: batch_norm -> relu
          -> c2: conv2d(32, 3, padding = 1, bias = false) -> bn2: batch_norm -> relu
    output y = h -> max_pool2d(2) -> flatten -> f1: linear(32) -> relu -> f2: linear(10)
}
"""
CHAIN = "model chain { input x: f32[N, 24]  output y = x -> a: linear(16) -> relu -> b: linear(8) }"
SHARED = """
model shared {
    input x: f32[N, 16]
    layer a = linear(16)
    output y = x -> a -> relu -> b: linear(16, weight = a.weight) -> relu -> a
}
"""


def compiled(text: str, passes: str, changes: dict[str, Any], x: Array, folder: Path) -> tuple[Compiled, Array]:
    """Compile a text after changing elements of its weights; return also its outputs without passes."""
    plain = archc.compile(text)
    values = {path: plain.graph.weight_values(path).copy() for path in plain.graph.weights}
    for place, number in changes.items():
        path, _, row = place.partition("[")
        values[path][int(row.rstrip("]"))] = number
    np.savez(folder / "weights.npz", **values)
    given: dict[str, Any] = {"weights": folder / "weights.npz"}
    wanted = evaluate(archc.compile(text, **given).graph, {"x": torch.from_numpy(x)})["y"].numpy()
    return archc.compile(text, passes=passes, calibration={"x": x}, **given), wanted


def error(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("passes", [
    "fold, quant(least = 0)",
    "fold, quant(least = 0), partition(stages = 2)",
    'fold, quant(least = 0, granularity = "tensor")',
    'fold, quant(least = 0, scheme = "dynamic")',
    'fold, lowrank(rank = 4, on = "f1"), prune(0.2), quant(least = 0)',
    'fold, prune(0.2, scheme = "channel"), quant(least = 0, observer = "percentile")',
])  # fmt: skip
def test_a_channel_with_a_tiny_batch_norm_scale_keeps_its_bias(passes: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((16, 4, 8, 8)).astype(np.float32)
    made, wanted = compiled(DEAD, passes, {"bn2.weight[5]": 1e-5, "bn2.bias[5]": 2.0}, x, tmp_path)
    graph = made.graph
    y = evaluate(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    if "prune" not in passes:
        assert error(y, wanted) < 0.1
    assert error(run(to_model(graph), {"x": x}, exact=True)["y"], y) < 0.02
    with torch.no_grad():
        assert error(imported(graph, tmp_path).load()(torch.from_numpy(x)).numpy(), y) < 0.02


def integer_biases(graph: Graph) -> list[str]:
    """Names of the values of an ONNX model that are biases in int32."""
    return [node.output[0] for node in to_model(graph).graph.node if "bias/Cast" in node.output[0]]


def test_the_scale_of_a_channel_is_raised_until_int32_holds_the_bias(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(0, 255, (8, 24)).astype(np.float32)
    x.flat[:2] = 0, 255
    changes = {
        "a.weight[0]": 0,
        "a.bias[0]": 0.3,
        "a.weight[1]": 1e-12,
        "a.bias[1]": 2.0,
        "a.weight[2]": 0,
        "a.bias[2]": 0,
    }
    graph = compiled(CHAIN, "quant(least = 0, smooth = 0)", changes, x, tmp_path)[0].graph
    assert graph.tensors is not None
    scales, grid = graph.tensors["a.weight_scale"].numpy(), graph.weight_values("a_in.scale")
    np.testing.assert_allclose(scales[:2] * grid * 2.0**30, [0.3, 2.0], rtol=1e-6)
    assert scales[2] == scales[3:].max()
    assert integer_biases(graph) == ["a.bias/Cast", "b.bias/Cast"]


def test_a_weight_of_two_layers_has_scales_for_both_biases(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (8, 16)).astype(np.float32)
    changes = {"a.weight[3]": 1e-10, "a.bias[3]": 0.5, "b.bias[3]": 40.0}
    made, wanted = compiled(SHARED, "quant(least = 0)", changes, x, tmp_path)
    y = evaluate(made.graph, {"x": torch.from_numpy(x)})["y"].numpy()
    assert error(y, wanted) < 0.02
    assert sorted(integer_biases(made.graph)) == ["a.bias/Cast", "a.bias/Cast_1", "b.bias/Cast"]
