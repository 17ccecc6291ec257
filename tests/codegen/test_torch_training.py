"""The emitted PyTorch module trains as a hand-written one does."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.codegen.torch_modules import (
    CONVOLUTIONS,
    assert_paths,
    fresh,
    graph_of,
)


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


def test_dropout_works_in_training_alone(tmp_path: Path) -> None:
    graph = graph_of("model net { input x: f32[N, 50]  output y = x -> dropout(0.5) }")
    model = fresh(graph, tmp_path)
    x = torch.ones(4, 50)
    assert set(model(x).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(model.eval()(x), x)


def test_the_state_dict_of_a_fresh_model_has_the_paths(tmp_path: Path) -> None:
    graph = graph_of(CONVOLUTIONS)
    assert_paths(fresh(graph, tmp_path), graph)
