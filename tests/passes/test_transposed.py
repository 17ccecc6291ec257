"""Passes on layers that share a transposed weight: the graph, its text and its programs agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate

AUTOENCODER = """
model autoencoder(hidden = 24) {
    input x: f32[N, 40]
    y = x -> wide: linear(32) -> bn: batch_norm -> relu
    code = y -> encode: linear(hidden) -> relu
    output y = code -> decode: linear(32, weight = encode.weight.T) -> bn2: batch_norm -> relu -> last: linear(8)
}
"""
STORED = """
model stored {{
    input x: f32[N, 40]
    layer encode = linear(24, weight = {storage})
    output y = x -> encode -> tanh -> decode: linear(40, weight = encode.weight.T)
    output z = y -> turned: linear(24, bias = false, weight = decode.weight.T)
}}
"""
SQUARE = """
model square {
    input x: f32[N, 40]
    layer s = linear(40, bias = false)
    for i in 0..2 { x = x -> s -> tanh }
    x = x -> h[0]: linear(40, bias = false, weight = s.weight) -> h[1]: linear(40, bias = false, weight = s.weight.T)
    output y = x -> tanh -> a: linear(40, weight = s.weight) -> tanh -> b: linear(40, weight = s.weight.T)
}
"""
ROUNDED = """
model rounded {
    input x: f32[N, 40]
    layer encode = linear(40, weight = int8(axis = 0))
    output y = x
        -> encode_in: quantize(u8) -> dequantize -> encode -> tanh
        -> decode_in: quantize(u8) -> dequantize -> decode: linear(40, weight = encode.weight.T)
}
"""
PIPELINES = [
    "simplify",
    "fold",
    "lowrank(rank = 4)",
    'prune(0.5, scheme = "channel")',
    "prune(0.5)",
    "quant(least = 0)",
    'quant(scheme = "dynamic", least = 0)',
    'quant(scheme = "weight")',
    "partition(stages = 2)",
    'fold, lowrank(rank = 4), prune(0.3, scheme = "channel"), quant(least = 0), partition(stages = 3)',
]


def check_all_forms(compiled: Compiled, folder: Path) -> None:
    """Check that the printed text reads back, and that PyTorch and ONNX Runtime agree with the graph."""
    graph = compiled.graph
    assert archc.parse(archc.print_graph(graph)) == graph
    compiled.write(folder, emit=("torch", "onnx"))
    x = torch.randn((5, 40), generator=torch.Generator().manual_seed(0))
    expected = evaluate(graph, {"x": x})
    with torch.no_grad():
        found = load_module(folder / f"{compiled.name}.py").load()(x)
    found = found if isinstance(found, tuple) else (found,)
    for result, wanted in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)
    results = run(folder / f"{compiled.name}.onnx", {"x": x.numpy()}, exact=True)
    for name, wanted in expected.items():
        np.testing.assert_allclose(results[name], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("passes", PIPELINES)
def test_a_transposed_weight_stays_tied(passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(AUTOENCODER, passes=passes)
    check_all_forms(compiled, tmp_path)
    (decode,) = (node for node in compiled.graph.nodes() if node.path == "decode")
    assert decode.weights["weight"] == "encode.weight" and decode.transposed == {"weight"}


@pytest.mark.parametrize("storage", ["masked", "int8", "int8(axis = 0)", "int8(axis = 1)"])
def test_other_storages_are_transposed_after_decoding(storage: str, tmp_path: Path) -> None:
    compiled = archc.compile(STORED.format(storage=storage))
    check_all_forms(compiled, tmp_path)
    (turned,) = (node for node in compiled.graph.nodes() if node.path == "turned")
    assert turned.weights["weight"] == "encode.weight" and not turned.transposed


def test_integers_are_decoded_before_they_are_transposed(tmp_path: Path) -> None:
    check_all_forms(archc.compile(ROUNDED), tmp_path)


def test_layers_that_differ_in_the_transpose_are_not_merged(tmp_path: Path) -> None:
    compiled = archc.compile(SQUARE)
    check_all_forms(compiled, tmp_path)
    assert archc.parse(SQUARE.replace("s.weight.T", "s.weight")) != compiled.graph


def test_the_owner_may_be_a_layer_that_nothing_uses(tmp_path: Path) -> None:
    check_all_forms(
        archc.compile("""
            model lent {
                input x: f32[N, 40]
                layer owner = linear(40, weight = masked)
                output y = x -> turned: linear(24, weight = owner.weight.T)
            }
        """),
        tmp_path,
    )


def test_channels_are_removed_from_both_uses(tmp_path: Path) -> None:
    compiled = archc.compile(AUTOENCODER, passes='prune(0.5, scheme = "channel")')
    shapes = {path: weight.shape for path, weight in compiled.graph.weights.items()}
    assert shapes["encode.weight"] == (len(compiled.graph.weight_values("encode.bias")), shapes["wide.weight"][0])
    assert shapes["last.weight"][1] == shapes["decode.bias"][0] == shapes["wide.weight"][0] < 32


@pytest.mark.parametrize("passes", ["lowrank(rank = 4)", "fold", "quant(least = 0)"])
def test_a_remark_says_why_both_layers_stay(passes: str) -> None:
    compiled = archc.compile(AUTOENCODER, passes=passes)
    (report,) = compiled.passes
    said = " ".join(remark.message for remark in report.remarks)
    assert "`decode`" in said or "the transpose of `encode.weight`" in said
    assert str(compiled.graph.weights["encode.weight"].storage) == "dense"
