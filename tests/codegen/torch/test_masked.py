"""Emitted programs with masks: masked weights stay zero in training, and are stored as zeros in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx as onnx_package
import pytest
import torch
from torch import nn

import archc
from archc.codegen import onnx
from archc.ir.graph import Graph
from archc.weights.safetensors import write
from archc.weights.tensor import ArrayTensor, Weights
from tests.codegen.torch_modules import assert_agrees, graph_of, imported, source_of

TEXT = """
block Head(width) {
    input x: f32[N, D]
    output x -> up: linear(2 * D) -> relu -> down: linear(width)
}

model net {
    input image: f32[N, 3, 8, 8]
    x = image -> conv1: conv2d(6, 3, padding = "same") -> bn: batch_norm -> relu
    x = x -> conv2: conv2d(6, 3, groups = 2, bias = false) -> up: conv_transpose2d(4, 2, stride = 2) -> flatten
    for i in 0..2 { x = x -> heads[i]: Head(16) }
    output scores: f32[N, 16] = x
}
"""
TIED = """
model tied {
    input ids: i64[N, 5]
    layer wte = embedding(11, 8)
    output y = ids -> wte -> fc: linear(8) -> head: linear(11, bias = false, weight = wte.weight)
}
"""
RECURRENT = "model seq { input x: f32[N, T, 8]  output y = x -> gru1: gru(6) -> fc: linear(3) }"
RESULTS = """
model two {
    input x: f32[N, T, 8]
    y, _state = x -> gru1: gru(6, return_state = true)
    output y = y -> gru2: gru(4)
}
"""
PRUNE = 'prune(0.6, scope = "layer")'

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def masked(graph: Graph) -> list[str]:
    return [path for path, weight in graph.weights.items() if str(weight.storage) == "masked"]


@pytest.mark.parametrize("text", [TEXT, TIED, RECURRENT, RESULTS], ids=["convolutions", "tied", "recurrent", "results"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_elements_stay_zero_in_training(text: str, optimizer: str, tmp_path: Path) -> None:
    graph = graph_of(text, PRUNE)
    model = imported(graph, tmp_path).load().train()
    parameters, before = dict(model.named_parameters()), {n: p.detach().clone() for n, p in model.named_parameters()}
    masks = {path: model.state_dict()[f"{path}_mask"] for path in masked(graph)}
    assert masks and all(0 < mask.float().mean() < 1 for mask in masks.values())
    step = OPTIMIZERS[optimizer](model.parameters())
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        step.zero_grad()
        inputs = (torch.randint(0, 11, (4, 5), generator=generator),) if text is TIED else ()
        shape = (4, 3, 8, 8) if text is TEXT else (4, 5, 8)
        results = model(*(inputs or (torch.randn(shape, generator=generator),)))
        results = results[0] if isinstance(results, tuple) else results
        results.tanh().sum().backward()
        for path, mask in masks.items():
            gradient = parameters[path].grad
            assert gradient is not None and gradient[mask].any() and not gradient[~mask].any()
        step.step()
    for path, mask in masks.items():
        weight = parameters[path]
        assert isinstance(weight, nn.Parameter) and not weight[~mask].any()
        assert not torch.equal(weight[mask], before[path][mask])


@pytest.mark.parametrize("text", [TEXT, TIED, RECURRENT], ids=["convolutions", "tied", "recurrent"])
def test_the_module_computes_what_the_graph_does(text: str, tmp_path: Path) -> None:
    graph = graph_of(text, PRUNE)
    model = assert_agrees(graph, tmp_path, N=3, T=4)
    assert set(model.state_dict()) == {stored for weight in graph.weights.values() for stored in weight.tensors}
    assert archc.parse(archc.print_graph(graph)) == graph


def test_masked_layers_read_like_those_of_pytorch() -> None:
    source = source_of(graph_of(TEXT, PRUNE))
    for line in (
        "class MaskedConv2d(nn.Conv2d):",
        "        weight = self.weight * self.weight_mask\n        return F.linear(x, weight, self.bias)\n",
        '        self.conv1 = MaskedConv2d(3, 6, 3, padding="same")\n',
        "        self.conv2 = MaskedConv2d(6, 6, 3, groups=2, bias=False)\n",
        "MaskedLinear(",
    ):
        assert line in source
    assert max(map(len, source.splitlines())) <= 88
    assert "Masked" not in source_of(graph_of(TEXT))


def test_layers_without_a_mask_keep_their_class() -> None:
    source = source_of(graph_of(TEXT, "prune(0.6, on = 'conv1')"))
    assert "MaskedLinear" not in source and "nn.Linear" in source


def test_a_block_may_be_called_like_a_masked_layer(tmp_path: Path) -> None:
    text = """
    block MaskedLinear(width) { input x: f32[N, D]  output x -> fc: linear(width) -> relu }
    model net { input x: f32[N, 8]  output y = x -> a: MaskedLinear(8) -> b: MaskedLinear(8) }
    """
    assert_agrees(graph_of(text, "prune(0.5)"), tmp_path, N=2)


def test_fresh_layers_of_a_text_with_masks_keep_all_weights(tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 8]  output y = x -> fc: linear(4, weight = masked, bias = masked) }"
    graph = graph_of(text)
    model = assert_agrees(graph, tmp_path, N=2)
    state = model.state_dict()
    assert set(state) == {"fc.weight", "fc.weight_mask", "fc.bias", "fc.bias_mask"}
    assert state["fc.weight_mask"].all() and state["fc.bias_mask"].dtype is torch.bool


def test_onnx_has_the_zeros_and_no_masks() -> None:
    graph = graph_of(TEXT, PRUNE)
    model = onnx.to_model(graph)
    found = {tensor.name: onnx_package.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert masked(graph) and not any(name.endswith("_mask") for name in found)
    for path in masked(graph):
        assert np.array_equal(found[path], graph.weight_values(path)) and (found[path] == 0).any()


def test_masked_elements_of_a_file_are_set_to_zero(tmp_path: Path) -> None:
    """The masked elements of a weight file are set to zero, since ONNX models have no masks."""
    compiled = archc.compile(TEXT, passes=PRUNE)
    compiled.write(tmp_path / "pruned")
    graph = archc.compile(tmp_path / "pruned/net.arch", weights=tmp_path / "pruned/net.safetensors").graph
    assert graph.tensors is not None
    arrays = {path: tensor.numpy() for path, tensor in graph.tensors.items()}
    arrays |= {path: arrays[path] + np.float32(1) for path in masked(graph)}
    write(tmp_path / "dirty.safetensors", Weights({path: ArrayTensor(array) for path, array in arrays.items()}))
    again = archc.compile(tmp_path / "pruned/net.arch", weights=tmp_path / "dirty.safetensors").graph
    assert again.tensors is not None
    for path in masked(graph):
        mask = arrays[f"{path}_mask"]
        assert np.array_equal(again.tensors[path].numpy(), np.where(mask, arrays[path], 0))


@pytest.mark.parametrize(
    ("type", "layer"),
    [
        ("f32[N, 8]", "linear(4)"),
        ("i64[N, 8]", "embedding(9, 4)"),
        *((f"f32[N, 4, {'9, ' * n}]".replace(", ]", "]"), f"conv{n}d(6, 3)") for n in (1, 2, 3)),
        *((f"f32[N, 4, {'9, ' * n}]".replace(", ]", "]"), f"conv_transpose{n}d(6, 3)") for n in (1, 2, 3)),
    ],
)
def test_runtime_layers_have_the_forward_of_their_operator(type: str, layer: str) -> None:
    text = f"model net {{ input x: {type}  output y = x -> fc: {layer} }}".replace("3)", "3, weight = masked)")
    graph = graph_of(text.replace("4) }", "4, weight = masked) }"))
    (node,) = graph.layers().values()
    forward = node.op.torch_forward("weight")
    assert forward is not None
    assert f"return{forward}".replace(" ", "") in "".join(source_of(graph).split()).replace(",)", ")")
