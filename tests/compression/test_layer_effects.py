"""Measured effects of the quantization of each layer on its result and on the outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.analysis.layers import layers_with_weights
from archc.compression.calibration.layer_effects import layer_effects, original_weights
from archc.compression.calibration.output_error import OutputError
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Node

ATTENTION = """
model m {
    input x: f32[N, 6, 16]
    q = x -> query: linear(16)
    k = x -> key: linear(16)
    v = x -> value: linear(16)
    a = (q, k, v) -> attention(2) -> proj: linear(16)
    output y = x + a -> up: linear(32) -> gelu -> head: linear(4)
}
"""
CONVOLUTIONS = """
model m {
    input x: f32[N, 3, 8, 8]
    output y = x -> a: conv2d(8, 3, padding = 1) -> relu -> b: conv2d(8, 3) -> relu -> flatten -> fc: linear(5)
}
"""
RECURRENT = "model m { input x: f32[N, 5, 8]  output y = x -> r: lstm(12) -> head: linear(3) }"
TOKENS = "model m { input t: i64[N, 6 ]  output y = t -> e: embedding(20, 8) -> gelu -> mean(1) -> head: linear(3) }"

SCALAR = """
model m {
    input x: f32[N, 16]
    h = x -> up: linear(32) -> gelu
    output level = h -> mean
    output y = h -> head: linear(4)
}
"""


def data(graph: Graph) -> dict[str, Any]:
    """64 samples for each input."""
    generator = np.random.default_rng(0)
    (value,) = graph.inputs
    shape = (64, *(int(dim) for dim in value.type.shape[1:]))  # type: ignore[arg-type]
    if value.type.dtype.integral:
        return {value.name: generator.integers(0, 20, shape)}
    return {value.name: generator.standard_normal(shape, np.float32)}


def batches(arrays: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.from_numpy(array[k : k + 32]) for name, array in arrays.items()} for k in (0, 32)]


def by_path(found: dict[Node, Any]) -> dict[str | None, Any]:
    return {node.path: effect for node, effect in found.items()}


@pytest.mark.parametrize("text", [ATTENTION, CONVOLUTIONS, RECURRENT, TOKENS, SCALAR])
@pytest.mark.parametrize("passes", ['quant(scheme = "weight", method = "rtn")', 'quant(int4, method = "rtn")'])
def test_the_effect_of_weights_is_the_error_of_the_outputs_with_them(text: str, passes: str) -> None:
    before = archc.compile(text).graph
    arrays = data(before)
    made = archc.compile(text, passes=passes, calib=arrays).graph
    floats = {layer.path: layer.node for layer in layers_with_weights(before)}
    originals = {
        layer.node: original_weights(before, [floats[layer.path]])[floats[layer.path]]
        for layer in layers_with_weights(made)
    }
    found = by_path(layer_effects(made, originals, batches(arrays)))
    error = OutputError(before, batches(arrays))
    for layer in layers_with_weights(made):
        expected = error.of({path: made.weight_values(path) for path in layer.weights.values()})
        assert expected is not None and found[layer.path].output_error == pytest.approx(expected, rel=0.5)
        assert 5 < found[layer.path].snr_db < 60


def test_operands_count() -> None:
    """With weights that int8 holds exactly, the noise of a layer is that of its operand."""
    text = "model m { input x: f32[N, 64]  output y = x -> fc: linear(64, bias = false) }"
    x = np.random.default_rng(0).uniform(0, 1, (64, 64)).astype(np.float32)
    weight = np.random.default_rng(1).integers(-127, 128, (64, 64)).astype(np.float32)
    weight[:, 0] = 127
    made = archc.compile(
        text, weights={"fc.weight": weight}, passes='quant(least = 0, method = "rtn", smooth = 0)', calib={"x": x}
    )
    (node,) = (node for node in made.graph.nodes() if node.path == "fc")
    found = layer_effects(made.graph, {node: {"fc.weight": weight}}, [{"x": torch.from_numpy(x)}])[node]
    exact = x @ weight.T
    noise = evaluate(made.graph, {"x": torch.from_numpy(x)})["y"].numpy() - exact
    assert found.snr_db == pytest.approx(10 * math.log10((exact**2).sum() / (noise**2).sum()), abs=0.01)
    assert found.output_error == pytest.approx((noise**2).mean() / (exact**2).mean(), rel=0.5)


def test_a_layer_without_an_effect_on_the_outputs() -> None:
    text = "model m { input x: f32[N, 8]  a = x -> one: linear(8)  output y = x -> two: linear(8)  output z = a > 0 }"
    x = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    before = archc.compile(text).graph
    made: Compiled = archc.compile(text, passes='quant(scheme = "weight")', calib={"x": x})
    originals = {
        node: {path: before.weight_values(path) for path in node.weights.values()}
        for node in made.graph.nodes()
        if node.path in ("one", "two")
    }
    found = by_path(layer_effects(made.graph, originals, [{"x": torch.from_numpy(x)}]))
    assert found["one"].output_error == 0 < found["two"].output_error


def effects_of(body: str, passes: str = "quant(int4)", samples: int = 64) -> dict[str | None, Any]:
    """Effects of the layers of a model with the input x: f32[N, 8], and its figures in the remarks."""
    x = np.random.default_rng(0).standard_normal((samples, 8), np.float32)
    made = archc.compile(f"model m {{\n input x: f32[N, 8]\n {body}\n}}", passes=passes, calib={"x": x})
    return {each.layer: each.figures for report in made.passes for each in report.remarks if "format" in each.figures}


def test_layers_on_the_results_of_a_scan() -> None:
    found = effects_of(
        """s = x -> unflatten(1, (4, 2))
        scan t in s, h = zeros((N, 6)) { h = (t -> inside: linear(6)) + h -> tanh  yield y = h }
        output a = h -> one: linear(3)
        output b = y -> two: linear(3)"""
    )
    assert {layer for layer, figures in found.items() if figures.get("output_error")} == {"one", "two"}
    assert "snr_db" not in found["inside"]


@pytest.mark.parametrize("scale", ["", " * 1e30", " * 1e-30", " * 1000 -> cast(f16)"])
def test_the_scale_of_an_output_does_not_matter(scale: str) -> None:
    expected = effects_of("output y = x -> fc: linear(4)")["fc"]
    found = effects_of(f"y = x -> fc: linear(4)\n output o = y{scale}")["fc"]
    assert found == {**expected, "output_error": pytest.approx(expected["output_error"], rel=0.01)}


def test_infinite_elements_of_outputs_have_no_part() -> None:
    """For example, masked logits."""
    allowed = effects_of("y = x -> fc: linear(4)\n output o = y[:, :2]")["fc"]
    found = effects_of("y = x -> fc: linear(4)\n output o = (y[:, :2], y[:, 2:] * 0 - inf) -> concat(1)")["fc"]
    assert found["output_error"] == pytest.approx(allowed["output_error"] / 2, rel=0.5)


def test_infinite_gradients() -> None:
    assert "output_error" not in effects_of("y = x -> fc: linear(4)\n output o = (y * 0) -> sqrt")["fc"]


def test_rows_without_an_effect() -> None:
    """The bias absorbs the mean of the rows with an effect, and no row has one."""
    found = effects_of("y = x -> fc: linear(4)\n output o = y * 0")["fc"]
    assert found["output_error"] == 0 and 10 < found["snr_db"] < 60


def test_the_remark_names_the_effect() -> None:
    x = np.random.default_rng(0).standard_normal((64, 8), np.float32)
    text = "model m { input x: f32[N, 8]  output y = x -> fc: linear(4) }"
    (remark,) = archc.compile(text, passes="quant(int4)", calib={"x": x}).passes[0].remarks
    assert f", {remark.figures['output_error']:.1e} squared error of the outputs, " in remark.message


@pytest.mark.parametrize("operator", ["lstm", "gru", "linear"])
def test_a_layer_whose_result_is_quantized_next_has_an_effect(operator: str) -> None:
    text = f"model m {{ input x: f32[N, 6, 32]  output x -> first: {operator}(48) -> fc: linear(16) }}"
    data = {"x": np.random.default_rng(0).normal(size=(40, 6, 32)).astype(np.float32)}
    passes = 'quant(scheme = "dynamic", least = 0{})'
    errors = [
        next(each.figures["output_error"] for each in step.remarks if each.layer == "first" and each.kind == "rewrote")
        for on in ("", ', on = "first"')
        for step in archc.compile(text, passes=passes.format(on), calib=data, emit="onnx").passes
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.2) and float(errors[0]) > 1e-6
