"""A weight that is used in several places is one tensor: in the state dict, the safetensors file and the ONNX model."""

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
from archc.driver.checking import load_module

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
    layer decode = parameter((hidden, 6), weight = encode.weight)
    output y = (code, decode()) -> matmul
}
"""


def shared(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(x @ w["fc.weight"].T + w["fc.bias"]) @ w["fc.weight"].T + w["fc.bias"]


def tied(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(w["wte.weight"][x]) @ w["wte.weight"].T


def transposed(x: Tensor, w: Weights) -> Tensor:
    return torch.tanh(x @ w["encode.weight"].T + w["encode.bias"]) @ w["encode.weight"]


NUMBERS = torch.randn((5, 6), generator=torch.Generator().manual_seed(0))
WORDS = torch.tensor([[0, 10, 3], [4, 4, 9]])

CASES = [
    (LAYER, shared, NUMBERS, {"fc.weight", "fc.bias"}),
    (TIED, tied, WORDS, {"wte.weight"}),
    (TRANSPOSED, transposed, NUMBERS, {"encode.weight", "encode.bias"}),
]


@pytest.mark.parametrize(("text", "formula", "x", "names"), CASES, ids=["layer", "tied", "transposed"])
def test_it_is_one_tensor_in_every_file(
    text: str, formula: Callable[[Tensor, Weights], Tensor], x: Tensor, names: set[str], tmp_path: Path
) -> None:
    compiled = archc.compile(text)
    compiled.write(tmp_path, emit=("torch", "onnx"))
    name = compiled.name
    module = load_module(tmp_path / f"{name}.py").load()
    weights = load_file(tmp_path / f"{name}.safetensors")
    held = {tensor.name: tensor for tensor in onnx.load(tmp_path / f"{name}.onnx").graph.initializer}
    sizes = {weight.numel() for weight in weights.values()}

    assert weights.keys() == names == module.state_dict().keys()
    assert names <= held.keys()
    # What else there is are small numbers, and no copy of a weight, whatever it is called.
    assert all(np.prod(tensor.dims) not in sizes for key, tensor in held.items() if key not in names)

    expected = formula(x, weights)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
    (found,) = run(tmp_path / f"{name}.onnx", {"x": x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize(("text", "formula", "x", "names"), CASES, ids=["layer", "tied", "transposed"])
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


@pytest.mark.parametrize("text", [LAYER, TIED, TRANSPOSED], ids=["layer", "tied", "transposed"])
def test_the_printed_text_shares_it_too(text: str) -> None:
    graph = archc.parse(text)
    again = archc.parse(archc.print_graph(graph))
    assert again == graph
    assert again.weights.keys() == graph.weights.keys()


def test_a_tie_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(archc.ArchcError) as raised:
        archc.parse(TRANSPOSED.replace("(hidden, 6)", "(6, hidden)"))
    assert "encode.weight" in raised.value.diagnostics[0].message
