"""Shares of the elements that layers lose: their sum, and their order by the effect on the outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from archc.compression.calibration.layer_statistics import layer_statistics
from archc.compression.calibration.output_metric import output_metric
from archc.compression.pruning import shares
from archc.compression.pruning.shares import masked_shares
from archc.ir.graph import Graph, Node
from tests.passes.graphs import Build

Masks = Mapping[Node, np.ndarray]


def branches() -> Graph:
    """Two layers of equal weights; the result of the second one is nearly ignored."""
    build = Build()
    x = build.input(16)
    y = build.layer("linear", x, 16, name="strong")
    z = build.layer("mul", build.layer("linear", x, 16, name="weak"), 0.01)
    weight = np.random.default_rng(0).normal(size=(16, 16))
    return build.done(build.layer("add", y, z), weights={"strong.weight": weight, "weak.weight": weight})


def found(graph: Graph, left: Masks, share: float) -> dict[str, float]:
    x = np.random.default_rng(1).normal(size=(64, 16)).astype(np.float32)
    batches = [{"x": torch.from_numpy(x)}]
    metrics = output_metric(graph, list(left), batches)
    of_nodes = masked_shares(graph, left, layer_statistics(graph, batches, metrics), metrics, share)
    return {node.title: value for node, value in of_nodes.items()}


def masks(graph: Graph, share: float = 0.0) -> Masks:
    generator = np.random.default_rng(2)
    return {node: generator.random((16, 16)) >= share for node in graph.nodes() if node.weights}


@pytest.mark.parametrize("earlier", [0.0, 0.3])
def test_shares_have_the_asked_mean(earlier: float) -> None:
    graph = branches()
    of_layers = found(graph, masks(graph, earlier), 0.4)
    assert np.mean([*of_layers.values()]) == pytest.approx(0.4, abs=1e-3)


def test_a_layer_with_less_effect_loses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = branches()
    halfway = found(graph, masks(graph), 0.4)
    monkeypatch.setattr(shares, "TEMPERING", 1.0)
    full = found(graph, masks(graph), 0.4)
    assert full["weak"] > 0.75 and full["strong"] < 0.05
    assert halfway["weak"] == pytest.approx((full["weak"] + 0.4) / 2)


def test_without_a_metric_all_layers_lose_the_same_share() -> None:
    graph = branches()
    assert set(masked_shares(graph, masks(graph), {}, {}, 0.4).values()) == {0.4}
