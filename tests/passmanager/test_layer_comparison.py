"""Comparison of layers before and after passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import archc
from archc.ir.copying import copied
from archc.ir.rewriter import Rewriter
from archc.passes.fold import Fold
from archc.passmanager.layer_comparison import compare_layers, signal_to_noise
from tests.passes.graphs import run

TEXT = """
model net {
    input x: f32[N, 16]
    layer shared = linear(16)
    output y = x -> shared -> relu -> shared -> relu -> fc: linear(8)
}
"""
X = torch.from_numpy(np.random.default_rng(0).standard_normal((32, 16), np.float32))


def test_the_ratio_follows_from_the_results_of_all_uses() -> None:
    """The results of the layers are computed with PyTorch, before and after a change of one weight."""
    before = archc.compile(TEXT).graph
    after = copied(before)
    noise = 0.1 * np.random.default_rng(1).standard_normal((16, 16), np.float32)
    Rewriter(after).set_weight("shared.weight", before.weight_values("shared.weight") + noise)

    def results(graph: archc.Graph) -> dict[str, torch.Tensor]:
        weights = {path: torch.from_numpy(graph.weight_values(path).copy()) for path in graph.weights}
        linear = torch.nn.functional.linear
        first = linear(X, weights["shared.weight"], weights["shared.bias"])
        second = linear(first.relu(), weights["shared.weight"], weights["shared.bias"])
        return {
            "shared": torch.cat([first, second]),
            "fc": linear(second.relu(), weights["fc.weight"], weights["fc.bias"]),
        }

    was, now = results(before), results(after)
    expected = {path: 10 * float(torch.log10((y**2).sum() / ((now[path] - y) ** 2).sum())) for path, y in was.items()}
    assert signal_to_noise(before, after, {"x": X}) == pytest.approx(expected, abs=1e-3)
    assert signal_to_noise(before, copied(before), {"x": X}) == {}


def test_bytes_and_formats_count_once_and_follow_replaced_layers() -> None:
    compiled = archc.compile(TEXT, passes='lowrank(rank = 2, on = "fc"), quant(int4)', baseline=True)
    assert compiled.baseline is not None
    layers = {each.layer: each for each in compare_layers(compiled.baseline.graph, compiled.graph, {"x": X})}
    assert list(layers) == ["shared", "fc"]
    assert (layers["shared"].bytes_before, layers["fc"].bytes_before) == (4 * 16 * 17, 4 * 8 * 17)
    stored = sum(weight.nbytes for weight in compiled.graph.weights.values())
    assert sum(each.bytes_after or 0 for each in layers.values()) == stored
    assert layers["fc"].snr_db is not None and layers["shared"].formats == ("int4",)


def test_a_removed_layer_has_no_bytes_afterwards() -> None:
    text = "model net { input x: f32[N, 1, 8, 8]  output y = x -> conv: conv2d(4, 3) -> bn: batch_norm }"
    compiled = archc.compile(text, passes="fold", baseline=True)
    assert compiled.baseline is not None
    inputs = {"x": torch.ones(1, 1, 8, 8)}
    (conv, norm) = compare_layers(compiled.baseline.graph, compiled.graph, inputs)
    assert conv.bytes_before is not None and conv.bytes_after is not None
    assert norm.bytes_before and norm.bytes_after is None and norm.snr_db is None


def test_a_folded_layer_is_compared_with_the_norm_whose_result_it_has() -> None:
    text = (
        "model net { input x: f32[N, 1, 8, 8]  output y = x -> conv: conv2d(4, 3) -> bn: batch_norm -> fc: linear(3) }"
    )
    graph = archc.compile(text).graph
    norm = {
        f"bn.{name}": 3 + np.arange(4, dtype=np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    for path, values in norm.items():
        Rewriter(graph).set_weight(path, values)
    after = copied(graph)
    (report,) = run(after, Fold())
    inputs = {"x": torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
    Rewriter(after).set_weight("conv.weight", after.weight_values("conv.weight") * 1.1)
    ratios = signal_to_noise(graph, after, inputs, report.new_results)
    assert "bn" not in ratios and ratios["conv"] > 20 and report.new_results == {"conv": "bn"}
    assert signal_to_noise(graph, after, inputs)["conv"] < 5, "the result of `conv` is now that of `bn`"
    assert signal_to_noise(graph, after, inputs, {"conv": None}).keys() == {"fc"}


def test_a_shared_weight_counts_in_the_first_layer() -> None:
    head = "linear(9, weight = wte.weight, bias = false)"
    text = f"model net {{ input x: i64[N, T]  output y = x -> wte: embedding(9, 4) -> head: {head} }}"
    graph = archc.compile(text).graph
    layers = compare_layers(graph, copied(graph), {"x": torch.ones(1, 2, dtype=torch.int64)})
    assert {each.layer: each.bytes_after for each in layers} == {"wte": 4 * 9 * 4, "head": 0}
