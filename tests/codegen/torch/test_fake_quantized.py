"""Modules with fake quantization: their layers, and their gradients in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archc.codegen.torch.load import load_module
from archc.compiler import compile as compile_text
from tests.codegen.torch.test_source import assert_well_formed
from tests.codegen.torch_modules import assert_agrees, graph_of, source_of

LAYERS = {
    "f32[N, 8]": {
        "linear(6, weight = fake_quantized(int8(axis = 0)))": "FakeQuantizedLinear(8, 6, bits=8)",
        "linear(6, weight = fake_quantized(int8))": "FakeQuantizedLinear(8, 6, bits=8, axis=None)",
        "linear(6, weight = fake_quantized(int4(group = 3)))": "FakeQuantizedLinear(8, 6, bits=4, group=3)",
        "linear(6, bias = fake_quantized(int8))": "fake_quantized(self.bias, bits=8, axis=None)",
    },
    "f32[N, 4, 9]": {
        "conv1d(6, 3, weight = fake_quantized(int3(group = 5)))": "FakeQuantizedConv1d(4, 6, 3, bits=3, group=5)",
        "conv_transpose1d(6, 3, weight = fake_quantized(int8(axis = 1)))": (
            "FakeQuantizedConvTranspose1d(4, 6, 3, bits=8, axis=1)"
        ),
        "lstm(5, weight_hh_l0 = fake_quantized(int8(axis = 0)))": "class FakeInt8WeightLstm(nn.Module):",
        "gru(5, weight_ih_l0 = fake_quantized(int2(symmetric = true)))": (
            "fake_quantized(self.weight_ih_l0, bits=2, symmetric=True)"
        ),
    },
    "f32[N, 4, 7, 8]": {
        "conv2d(6, 3, weight = fake_quantized(int6(scale = f32)))": (
            "FakeQuantizedConv2d(4, 6, 3, bits=6, scale=torch.float32)"
        ),
    },
    "i64[N, T]": {
        "embedding(11, 6, weight = fake_quantized(int5(group = 4)))": "FakeQuantizedEmbedding(11, 6, bits=5, group=4)",
    },
}  # fmt: skip
CASES = [(type, *case) for type, cases in LAYERS.items() for case in cases.items()]


@pytest.mark.parametrize(("type", "layer", "expected"), CASES)
def test_a_layer_computes_what_the_interpreter_does(type: str, layer: str, expected: str, tmp_path: Path) -> None:
    graph = graph_of(f"model net {{ input x: {type}  output y = x -> fc: {layer} }}")
    assert expected in " ".join(source_of(graph).split())
    assert_agrees(graph, tmp_path)


TIED = """
model net {
    input tokens: i64[N, T]
    layer wte = embedding(11, 8, weight = fake_quantized(int4(group = 4)))
    x = tokens -> wte -> x_in: fake_quantize(u8, dynamic = true)
    x = x -> up: linear(16, weight = fake_quantized(int8)) -> gelu
    x = x -> d_in: fake_quantize(u8, dynamic = true, granularity = "token") -> down: linear(8) -> tanh
    output x -> out: fake_quantize(u8) -> head: linear(11, bias = false, weight = wte.weight)
}
"""


@pytest.mark.parametrize("single_file", [False, True])
def test_every_weight_of_a_module_is_trained(single_file: bool, tmp_path: Path) -> None:
    compiled = compile_text(TIED)
    compiled.write(tmp_path, check=True, single_file=single_file)
    assert_well_formed((tmp_path / "net.py").read_text(), tmp_path)
    assert (tmp_path / "archc_fake_quantized.py").exists() is not single_file
    model = load_module(tmp_path / "net.py").load().train()
    with torch.no_grad():
        model.out.scale.fill_(2 / 255)
        model.out.zero_point.fill_(128)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    tokens = torch.arange(44).reshape(4, 11) % 11
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert set(dict(model.named_parameters())) == {
        "wte.weight", "up.weight", "up.bias", "down.weight", "down.bias"
    }  # fmt: skip
