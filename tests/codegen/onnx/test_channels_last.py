"""Flattening of an integer convolution's result in channels-last order.

ONNX Runtime computes integer convolutions in channels-last layout.  The emitter reorders the weight of the linear layer
after the flattening, so that the result needs no transpose.  The outputs do not change.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import archc
from archc.codegen.onnx import check, run, to_model
from archc.codegen.onnx.int8 import channels_last
from archc.ir.graph import Graph

from .cases import floats

LAYERS = "conv1: conv2d(16, 3) -> relu -> conv2: conv2d(24, 3) -> relu -> max_pool2d(2) -> flatten -> fc: linear(200)"


def quantized(layers: str = LAYERS, image: str = "f32[N, 8, 15, 16]", more: str = "", passes: str = "quant") -> Graph:
    text = f"""
model m {{
    input x: {image}
    output y = x -> {layers}
    {more}
}}
"""
    return archc.compile(text, passes=passes).graph


def is_reordered(model: onnx.ModelProto) -> bool:
    return any(tensor.name.endswith("/channels_last") for tensor in model.graph.initializer)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(
    "layers",
    [
        LAYERS,
        LAYERS.replace(" -> max_pool2d(2)", ""),
        LAYERS.replace("flatten", "rearrange('n c h w -> n (c h w)')"),
        LAYERS.replace("linear(200)", "linear(200, bias = false) -> relu -> fc2: linear(500)"),
    ],
)
def test_outputs_do_not_change(layers: str, granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quantized(layers, passes=f"quant(granularity = '{granularity}')")
    model = to_model(graph)
    check(model)
    assert is_reordered(model)
    assert "fc.weight" not in {tensor.name for tensor in model.graph.initializer}
    monkeypatch.setattr(channels_last, "LARGEST", 0)
    before = to_model(graph)
    assert not is_reordered(before)
    for samples in (0, 1, 3):
        x = floats(samples, 8, 15, 16)
        again, wanted = (run(one, {"x": x}, exact=True)["y"] for one in (model, before))
        np.testing.assert_array_equal(again, wanted)
    found, expected = (ReferenceEvaluator(one).run(None, {"x": x})[0] for one in (model, before))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_nothing_is_transposed_between_the_convolution_and_the_product(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    model = to_model(quantized()).SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ran = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert Counter(ran)["Transpose"] == 1, "of the input"
    assert ran[-3:-1] == ["NhwcMaxPool", "Flatten"] or ran[-2:] == ["Flatten", "QGemm"]


@pytest.mark.parametrize(
    "case",
    [
        {"layers": LAYERS.replace("flatten -> fc", "rearrange('n c h w -> n (h w c)') -> fc")},
        {"layers": LAYERS.replace("max_pool2d(2)", "avg_pool2d(2)")},
        {"layers": LAYERS.replace("max_pool2d(2)", "adaptive_avg_pool2d(1)")},
        {"layers": LAYERS.replace(" -> relu -> max_pool2d(2) ->", " -> tanh ->")},
        {"passes": "quant(keep = 'fc')"},
        {"passes": "quant(keep = 'conv2')"},
        {"passes": "quant(scheme = 'dynamic')"},
        {"passes": "lowrank"},
        {"layers": LAYERS.replace(" -> flatten", "").replace("linear(200)", "linear(6)")},
    ],
    ids=str,
)
def test_other_products_stay_as_they_are(case: dict[str, str]) -> None:
    assert not is_reordered(to_model(quantized(**case)))


def test_a_weight_that_two_products_share_stays_as_it_is() -> None:
    text = """
model m {
    input x: f32[N, 8, 15, 16]
    layer fc = linear(200)
    s = x -> conv1: conv2d(16, 3) -> relu
    output y = s -> conv2: conv2d(24, 3) -> relu -> max_pool2d(2) -> flatten -> fc
    output z = s -> conv3: conv2d(24, 3) -> relu -> max_pool2d(2) -> flatten -> fc
}
"""
    assert not is_reordered(to_model(archc.compile(text, passes="quant").graph))


def test_integers_that_are_an_output_stay_as_they_are() -> None:
    text = """
model m {
    input x: f32[N, 8, 15, 16]
    f = x -> conv1: conv2d(16, 3) -> relu -> conv2: conv2d(24, 3) -> relu -> max_pool2d(2) -> flatten
    output y = f -> fc: linear(200)
    output f
}
"""
    assert not is_reordered(to_model(archc.compile(text, passes="quant").graph))
