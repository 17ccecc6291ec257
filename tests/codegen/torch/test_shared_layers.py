"""Layers that several stages call, of every kind, and with every storage of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archc
from archc.codegen.pipeline import split
from archc.codegen.torch.load import load_module
from archc.interpreter.evaluate import evaluate

LAYERS = {
    "linear": ("f32[N, 7, 8]", "linear(8)", "x -> sh", "x -> tanh -> to_stage(1) -> sh"),
    "conv2d": ("f32[N, 8, 32, 32]", "conv2d(8, 3, padding = 1)", "x -> sh", "x -> relu -> to_stage(1) -> sh"),
    "lstm": ("f32[N, 7, 8]", "lstm(8)", "x -> sh", "x -> to_stage(1) -> sh"),
    "norm": ("f32[N, 7, 8]", "layer_norm", "x -> sh", "x -> to_stage(1) -> sh -> linear(8)"),
}
TWICE = """
model twice {{
    input x: {type}
    layer sh = {layer}
    x = {first}
    y = {second}
    output z = y -> t: {last}
}}
"""
TIED = """
model tied {
    input x: f32[N, 7, 16]
    y = x -> a: linear(16) -> relu -> to_stage(1) -> b: linear(16, weight = a.weight)
    output z = y -> relu -> to_stage(2) -> c: linear(16, weight = a.weight.T) -> to_stage(3) -> d: linear(16)
}
"""
PASSES = [
    "",
    "quant",
    "quant(least = 1)",
    'quant(least = 1, scheme = "dynamic")',
    'quant(scheme = "weight")',
    "prune(0.5)",
]


def text_of(name: str) -> str:
    if name == "tied":
        return TIED
    type, layer, first, second = LAYERS[name]
    last = "conv2d(4, 3)" if name == "conv2d" else "linear(4)"
    return TWICE.format(type=type, layer=layer, first=first, second=second, last=last)


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("name", [*LAYERS, "tied"])
def test_shared_layers_compute_in_each_stage(name: str, passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(text_of(name), passes=passes)
    compiled.write(tmp_path, emit=("torch", "onnx"), check=True)  # whole and in stages, in both runtimes
    module = load_module(tmp_path / f"{compiled.name}.py")
    shape = [2 if not isinstance(dim, int) else dim for dim in compiled.graph.inputs[0].type.shape]
    x = torch.randn(shape, generator=torch.manual_seed(0))
    (expected,) = evaluate(compiled.graph, {"x": x}).values()
    with torch.no_grad():
        found = module.load()(x)
    spread = (found - expected).norm() / expected.norm()
    assert spread < (0.05 if "quant" in passes else 1e-5)
    assert len(split(compiled.graph)) == (4 if name == "tied" else 2)


MIXED = {
    "a quantizer whose integers are an output": """
        layer q = quantize(u8)
        i, s, z = x -> q
        y = (i, s, z) -> dequantize
        j, _, _ = x -> q
        output y
        output j""",
    "a layer that also has a float operand": """
        layer q = quantize(u8)
        layer sh = linear(8, weight = int8(axis = 0))
        y = x -> q -> dequantize -> sh -> relu -> sh
        output y
        output x -> q -> dequantize -> sh""",
    "blocks of a list": """
        for k in 0..3 { x, v = x -> l[k]: B }
        output x
        output v""",
    "a layer after a quantizer whose integers are an output": """
        layer q = quantize(u8)
        layer sh = linear(8, weight = int8(axis = 0))
        y = x -> q -> dequantize -> sh
        i, _, _ = y -> q
        output y -> r: quantize(u8) -> dequantize -> sh
        output i""",
}
BLOCK = """
block B {
    input x: f32[N, D]
    layer q = quantize(u8)
    d = x -> q -> dequantize
    e, _, _ = d -> q
    output d
    output e
}
"""


@pytest.mark.parametrize("body", MIXED.values(), ids=MIXED)
def test_a_shared_layer_may_have_integer_and_float_operands(body: str, tmp_path: Path) -> None:
    """A module has one form, for integers or floats, in all of its uses."""
    compiled = archc.compile(f"{BLOCK}model m {{ input x: f32[N, 8] {body} }}")
    compiled.write(tmp_path, emit=("torch", "onnx"), check=True)
