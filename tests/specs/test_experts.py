"""Mixture of experts of the library, compared with Mixtral in `transformers` with seeded weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

import archc
from archc.codegen.torch.load import load_module
from archc.language.printing.printer import print_graph
from tests.specs.twins import Twins, assert_close

WIDTH, HIDDEN = 12, 20

TEXT = """
import "std/experts.arch" as e
model mixture(experts, k, width = 12, hidden = 20) {
    input x: f32[N, T, width]
    output y: f32[N, T, width] = x -> moe: e.MixtureOfExperts(experts, k, hidden)
}
"""


def mixtral(experts: int, k: int) -> MixtralSparseMoeBlock:
    """Build a Mixtral block with weights large enough that the scores of experts are well separated."""
    config = MixtralConfig(
        hidden_size=WIDTH, intermediate_size=HIDDEN, num_local_experts=experts, num_experts_per_tok=k
    )
    block = MixtralSparseMoeBlock(config)
    torch.manual_seed(0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return block.eval()


def by_path(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divide Mixtral's tensors (or gradients) among the experts, and name the parts as in the text."""
    found = {"moe.router.weight": tensors["gate.weight"]}
    for number, (both, down) in enumerate(zip(tensors["experts.gate_up_proj"], tensors["experts.down_proj"])):
        found[f"moe.experts.{number}.gate.weight"], found[f"moe.experts.{number}.up.weight"] = both.chunk(2)
        found[f"moe.experts.{number}.down.weight"] = down
    return {path: tensor.clone() for path, tensor in found.items()}


def twins(experts: int, k: int, folder: Path, passes: str = "") -> Twins:
    reference = mixtral(experts, k)
    save_file(by_path(reference.state_dict()), folder / "weights.safetensors")
    values = {"experts": experts, "k": k}
    compiled = archc.compile(TEXT, values=values, weights=folder / "weights.safetensors", passes=passes)
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / "mixture.py").load()
    return Twins(reference, module, folder / "mixture.onnx", compiled.graph)


def places(batch: int, length: int) -> Tensor:
    return torch.randn((batch, length, WIDTH), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize(("experts", "k"), [(8, 2), (5, 1), (3, 3), (1, 1)])
def test_outputs_agree_with_mixtral(experts: int, k: int, tmp_path: Path) -> None:
    both = twins(experts, k, tmp_path)
    for batch, length in ((3, 7), (2, 1), (5, 30)):
        both.agree(places(batch, length))


def test_the_gradients_are_those_of_mixtral(tmp_path: Path) -> None:
    both = twins(6, 2, tmp_path)
    x = places(4, 10)
    for model in (both.reference, both.module):
        (model(x) ** 2).sum().backward()
    expected = by_path({name: parameter.grad for name, parameter in both.reference.named_parameters()})
    own = dict(both.module.named_parameters())
    assert own.keys() == expected.keys()
    for path, parameter in own.items():
        assert parameter.grad is not None and expected[path].abs().max() > 0
        assert_close(path, parameter.grad, expected[path])


def test_experts_that_are_not_chosen_have_no_effect(tmp_path: Path) -> None:
    """Huge results of one expert change only the outputs at positions that chose this expert."""
    both = twins(4, 2, tmp_path)
    x = places(3, 9)
    asked = (x @ both.reference.gate.weight.T).topk(2).indices
    for expert in range(4):
        with torch.no_grad():
            kept = both.module.moe.experts[expert].down.weight.clone()
            both.module.moe.experts[expert].down.weight.fill_(1e6)
            loud = both.module(x).abs().amax(2) > 1e3
            both.module.moe.experts[expert].down.weight.copy_(kept)
        assert torch.equal(loud, (asked == expert).any(2)) and 0 < loud.sum() < loud.numel()


def test_another_block_as_expert(tmp_path: Path) -> None:
    text = """
        import "std/experts.arch" as e
        import "std/feed_forward.arch" as ff
        model m { input x: f32[N, T, 8]  output y = x -> moe: e.MixtureOfExperts(3, 1, 16, expert = ff.FeedForward) }
    """
    compiled = archc.compile(text)
    assert compiled.graph.weights["moe.experts.2.up.bias"].shape == (16,)
    compiled.write(tmp_path, check=True)


@pytest.mark.parametrize("passes", ["lowrank, quant", "prune(0.5, scheme = 'channel')", "simplify", "partition(2)"])
def test_passes_see_every_expert(passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(TEXT, values={"experts": 4, "k": 2}, passes=passes)
    compiled.write(tmp_path, check=True)
    assert archc.parse(print_graph(compiled.graph)) == compiled.graph
    if "quant" in passes or "prune" in passes:
        remarked = {remark.layer for step in compiled.passes for remark in step.remarks}
        assert {f"moe.experts.{number}.up" for number in range(4)} <= remarked
