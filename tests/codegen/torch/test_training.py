"""Emitted PyTorch modules train like hand-written ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archc
from archc.codegen import onnx
from tests.codegen.torch_modules import CONVOLUTIONS, assert_agrees, assert_paths, fresh, graph_of, source_of


def test_a_fresh_model_is_initialized_as_pytorch_does_it(tmp_path: Path) -> None:
    graph = graph_of("model net { input x: f32[N, 300]  output y = x -> fc: linear(200) }")
    torch.manual_seed(3)
    model = fresh(graph, tmp_path)
    torch.manual_seed(3)
    reference = torch.nn.Linear(300, 200)
    assert torch.equal(model.fc.weight, reference.weight) and torch.equal(model.fc.bias, reference.bias)
    assert model.training


class Reference(torch.nn.Module):
    """`CONVOLUTIONS` up to its first block, written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.stem(image)))
        return self.fc(x.mean((2, 3)))


def test_training_follows_a_hand_written_network(tmp_path: Path) -> None:
    text = """
    model net {
        input image: f32[N, 3, 8, 8]
        x = image -> stem: conv2d(4, 3, padding = 1) -> bn: batch_norm -> relu
        output y = x -> adaptive_avg_pool2d(1) -> flatten -> fc: linear(5)
    }
    """
    model = fresh(graph_of(text), tmp_path)
    reference = Reference()
    reference.load_state_dict(model.state_dict())
    for network in (model, reference):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(torch.randn(6, 3, 8, 8)), torch.arange(6) % 5).backward()
            optimizer.step()
    assert set(model.state_dict()) == set(reference.state_dict())
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor)
    assert model.bn.num_batches_tracked == 3


def test_dropout_has_an_effect_only_in_training(tmp_path: Path) -> None:
    graph = graph_of("model net { input x: f32[N, 50]  output y = x -> dropout(0.5) }")
    model = fresh(graph, tmp_path)
    x = torch.ones(4, 50)
    assert set(model(x).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(model.eval()(x), x)


@pytest.mark.parametrize("operator", ["scaled_dot_product_attention(dropout_p = 0.3)", "attention(1, dropout = 0.3)"])
def test_attention_drops_probabilities_only_in_training(operator: str, tmp_path: Path) -> None:
    """With the identity matrix as values, the results are the probabilities."""
    inputs = "input q: f32[B, T, 8]  input k: f32[B, S, 8]  input v: f32[B, S, 40]"
    compiled = archc.compile(f"model net {{ {inputs}  output (q, k, v) -> {operator} }}")
    model = fresh(compiled.graph, tmp_path)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(16, length, 8, generator=generator) for length in (30, 40))
    v = torch.eye(40).expand(16, 40, 40)
    expected = (q @ k.mT / 8**0.5).softmax(2)
    torch.testing.assert_close(model.eval()(q, k, v), expected)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = model.train()(q, k, v)
    dropped = found == 0
    assert abs(dropped.float().mean() - 0.3) < 0.01  # three standard deviations of the mean of 19,200 elements
    torch.testing.assert_close(found[~dropped], expected[~dropped] / 0.7)
    assert abs(found.sum(2).mean() - 1) < 0.01
    compiled.write(tmp_path, emit=("onnx",))
    arrays = {"q": q.numpy(), "k": k.numpy(), "v": v.numpy()}
    (calm,) = onnx.run(tmp_path / "net.onnx", arrays).values()
    torch.testing.assert_close(torch.from_numpy(calm), expected)


def test_dropout_of_attention_may_differ_from_block_to_block(tmp_path: Path) -> None:
    text = """
    block Mix(share) {
        input x: f32[B, T, D]
        output (x, x, x) -> attention(2, dropout = share)
    }
    model net {
        input x: f32[B, T, 4]
        output y = x -> first: Mix(0.2) -> second: Mix(0.4)
    }
    """
    graph = graph_of(text)
    source = source_of(graph)
    assert "dropout_p=self.share if self.training else 0.0" in source
    assert "Mix(share=0.2)" in source and "Mix(share=0.4)" in source
    assert_agrees(graph, tmp_path)


def test_recurrent_layers_with_weights_of_others_drop_in_training_too(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[B, T, 4]
        layer first = lstm(6, 2, dropout = 0.5)
        output a = x -> first
        output b = x -> second: lstm(6, 2, dropout = 0.5, weight_ih_l0 = first.weight_ih_l0)
    }
    """
    model = fresh(graph_of(text), tmp_path)
    model.load_state_dict(
        model.state_dict() | {f"second.{n}": t for n, t in model.first.state_dict().items() if n != "weight_ih_l0"}
    )
    x = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
    found = {}
    for training in (True, False):
        model.train(training)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            a, _ = model.first(x)
            torch.manual_seed(1)
            found[training] = model.second(x, model.first.weight_ih_l0)
        torch.testing.assert_close(found[training], a)
    assert (found[True] - found[False]).abs().max() > 0.01


def test_the_state_dict_of_a_fresh_model_has_the_paths(tmp_path: Path) -> None:
    graph = graph_of(CONVOLUTIONS)
    assert_paths(fresh(graph, tmp_path), graph)
