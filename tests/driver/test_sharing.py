"""Shared weights are one tensor in the state dict, the safetensors file and the ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import archc
from archc.codegen.onnx import run
from archc.codegen.torch.load import load_module

Weights = Mapping[str, Tensor]

LAYER = """
model shared {
    input x: f32[N, 6]
    layer fc = linear(6)
    output y = x -> fc -> tanh -> fc
}
"""

TIED = """
model tied(vocab = 11, width = 6) {
    input x: i64[N, T]
    layer wte = embedding(vocab, width)
    output y = x -> wte -> tanh -> head: linear(vocab, bias = false, weight = wte.weight)
}
"""

TRANSPOSED = """
model autoencoder(hidden = 4) {
    input x: f32[N, 6]
    code = x -> encode: linear(hidden) -> tanh
    output y = code -> decode: linear(6, weight = encode.weight.T)
}
"""

AS_A_TENSOR = """
model autoencoder(hidden = 4) {
    input x: f32[N, T, 6]
    code = x -> encode: linear(hidden) -> tanh
    layer decode = parameter((6, hidden), weight = encode.weight.T)
    output y = (code, decode() -> transpose(0, 1)) -> matmul
}
"""

IN_BLOCKS = """
block Tied(hidden) {
    input x: f32[N, T, D]
    output x + (x -> up: linear(hidden, bias = false) -> tanh -> linear(D, bias = false, weight = up.weight.T))
}

model stack(depth = 3) {
    input x: f32[N, T, 6]
    for i in 0..depth { x = x -> h[i]: Tied(4) }
    output y = x
}
"""

IN_STEPS = """
model steps {
    input x: f32[N, T, 6]
    layer turn = linear(4, bias = false)
    scan x_t in x, h = zeros((N, 4)) {
        back = h -> back: linear(6, bias = false, weight = turn.weight.T)
        h = x_t - back -> turn -> tanh
        yield y = h
    }
    output y
}
"""

LOOKED_UP = """
model words(vocab = 11, width = 6) {
    input x: i64[N, T]
    layer head = linear(vocab, weight = wte.weight.T.T)
    layer wte = embedding(vocab, width, weight = down.weight.T)
    layer down = linear(width, bias = false)
    output y = x -> wte -> tanh -> head
}
"""


def shared(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(x @ w["fc.weight"].T + w["fc.bias"]) @ w["fc.weight"].T + w["fc.bias"]


def tied(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(w["wte.weight"][x]) @ w["wte.weight"].T


def transposed(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(x @ w["encode.weight"].T + w["encode.bias"]) @ w["encode.weight"] + w["decode.bias"]


def as_a_tensor(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(x @ w["encode.weight"].T + w["encode.bias"]) @ w["encode.weight"]


def in_blocks(x: Tensor, w: Weights) -> Tensor:
    for k in range(3):
        x = x + torch.tanh(x @ w[f"h.{k}.up.weight"].T) @ w[f"h.{k}.up.weight"]
    return x


def in_steps(x: Tensor, w: Weights) -> Tensor:
    h, made = torch.zeros(len(x), 4), []
    for k in range(x.shape[1]):
        h = torch.tanh((x[:, k] - h @ w["turn.weight"]) @ w["turn.weight"].T)
        made.append(h)
    return torch.stack(made, 1)


def looked_up(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(w["down.weight"].T[x]) @ w["down.weight"] + w["head.bias"]


NUMBERS = torch.randn((5, 6), generator=torch.Generator().manual_seed(0))
SEQUENCES = torch.randn((2, 5, 6), generator=torch.Generator().manual_seed(0))
WORDS = torch.tensor([[0, 10, 3], [4, 4, 9]])

CASES = {
    "layer": (LAYER, shared, NUMBERS, {"fc.weight", "fc.bias"}),
    "tied": (TIED, tied, WORDS, {"wte.weight"}),
    "transposed": (TRANSPOSED, transposed, NUMBERS, {"encode.weight", "encode.bias", "decode.bias"}),
    "transposed tensor": (AS_A_TENSOR, as_a_tensor, SEQUENCES, {"encode.weight", "encode.bias"}),
    "transposed in blocks": (IN_BLOCKS, in_blocks, SEQUENCES, {f"h.{k}.up.weight" for k in range(3)}),
    "transposed in steps": (IN_STEPS, in_steps, SEQUENCES, {"turn.weight"}),
    "transposed by way of another": (LOOKED_UP, looked_up, WORDS, {"down.weight", "head.bias"}),
}


@pytest.mark.parametrize(("text", "formula", "x", "names"), CASES.values(), ids=CASES)
def test_it_is_one_tensor_in_every_file(
    text: str, formula: Callable[[Tensor, Weights], Tensor], x: Tensor, names: set[str], tmp_path: Path
) -> None:
    compiled = archc.compile(text)
    compiled.write(tmp_path, emit=("torch", "onnx"))
    name = compiled.name
    module = load_module(tmp_path / f"{name}.py").load()
    weights = load_file(tmp_path / f"{name}.safetensors")
    initializers = onnx.load(tmp_path / f"{name}.onnx").graph.initializer
    held = {tensor.name.removesuffix("/T"): tensor for tensor in initializers}  # stored or transposed
    sizes = {weight.numel() for weight in weights.values()}

    assert weights.keys() == names == module.state_dict().keys()
    assert names <= held.keys() and len(held) == len(initializers)
    # No other tensor has the size of a weight, so none is a copy of it under another name.
    assert all(np.prod(tensor.dims) not in sizes for key, tensor in held.items() if key not in names)

    expected = formula(x, weights)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
    (found,) = run(tmp_path / f"{name}.onnx", {"x": x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize(("text", "formula", "x", "names"), CASES.values(), ids=CASES)
def test_all_uses_take_part_in_its_gradient(
    text: str, formula: Callable[[Tensor, Weights], Tensor], x: Tensor, names: set[str], tmp_path: Path
) -> None:
    compiled = archc.compile(text)
    compiled.write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / f"{compiled.name}.py").load().train()
    weights = {path: tensor.clone().requires_grad_() for path, tensor in module.state_dict().items()}
    for y in (module(x), formula(x, weights)):
        (y**2).sum().backward()
    for path, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[path].grad)


@pytest.mark.parametrize("text", [case[0] for case in CASES.values()], ids=CASES)
def test_the_printed_text_shares_it_too(text: str) -> None:
    graph = archc.parse(text)
    again = archc.parse(archc.print_graph(graph))
    assert again == graph
    assert again.weights.keys() == graph.weights.keys()


def test_a_chain_of_shared_weights_leads_to_one_owner() -> None:
    graph = archc.parse("""
        model m {
            input x: f32[N, 4]
            output y = x -> a: linear(4) -> b: linear(4, weight = a.weight) -> c: linear(4, weight = b.weight)
        }
    """)
    assert graph.weights.keys() == {"a.weight", "a.bias", "b.bias", "c.bias"}
