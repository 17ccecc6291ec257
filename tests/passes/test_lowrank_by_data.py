"""`lowrank` with calibration data, and under a budget for the whole model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.pipelines import parse_passes
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.lowrank import LowRank
from archc.passmanager import Pass, make_pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import PassReport, run_passes
from archc.types.attributes import AttributeProblem
from archc.types.storage import LowRankStorage
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp, of_rank, operators, remarks, run

Data = Mapping[str, np.ndarray]


def correlated(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Samples whose directions have unequal variances, as the operands of real layers have."""
    width = int(np.prod(shape))
    mix, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(width, width)))
    samples = np.random.default_rng(seed).normal(size=(count, width)) * np.geomspace(3, 0.05, width) @ mix + 0.3
    return samples.reshape(count, *shape).astype(np.float32)


def network() -> Graph:
    """A residual branch of linear layers between two others."""
    build = Build()
    y = build.layer("linear", build.input(160), 192, name="stem")
    up = build.layer("linear", build.layer("relu", y), 256, name="up")
    down = build.layer("linear", build.layer("relu", up), 192, name="down")
    return build.done(build.layer("linear", build.layer("add", y, down), 128, name="head"))


def images() -> Graph:
    build = Build()
    y = build.layer("relu", build.layer("conv2d", build.input(16, 8, 8), 48, 3, padding=1, name="conv1"))
    y = build.layer("relu", build.layer("conv2d", y, 48, 3, stride=2, bias=False, name="conv2"))
    return build.done(build.layer("linear", build.layer("flatten", y), 96, name="head"))


NETWORKS: dict[str, tuple[Callable[[], Graph], tuple[int, ...]]] = {
    "linear": (network, (160,)),
    "convolutions": (images, (16, 8, 8)),
}


def error(made: Graph, original: Graph, held_out: Data) -> float:
    feeds = {name: torch.from_numpy(array) for name, array in held_out.items()}
    expected = evaluate(original, feeds)["y0"]
    return float((evaluate(made, feeds)["y0"] - expected).norm() / expected.norm())


def after(make: Callable[[], Graph], step: Pass, data: Data | None) -> tuple[Graph, PassReport]:
    graph = make()
    (report,) = run(graph, step, data=data)
    return graph, report


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", {"ratio": 0.15}),
        ("linear", {"rank": 16}),
        ("linear", {"params": 0.5}),
        ("linear", {"macs": 0.5}),
        ("convolutions", {"ratio": 0.15}),
        ("convolutions", {"params": 0.5}),
    ],
)
def test_data_reduce_the_error_on_other_data(name: str, options: dict[str, Any]) -> None:
    make, shape = NETWORKS[name]
    data, held_out = {"x": correlated(96, *shape)}, {"x": correlated(64, *shape, seed=1)}
    by_data, _ = after(make, LowRank(**options), data)
    plain, _ = after(make, LowRank(**options, method="svd"), data)
    assert error(by_data, make(), held_out) < 0.7 * error(plain, make(), held_out)


def test_the_options_give_the_same_ranks_with_and_without_data() -> None:
    data = {"x": correlated(64, 160)}
    for options in ({"rank": 16}, {"ratio": 0.1}, {"energy": 0.2}):
        by_data, _ = after(network, LowRank(**options), data)
        plain, _ = after(network, LowRank(**options), None)
        assert operators(by_data) == operators(plain) != operators(network())


def test_the_plain_method_ignores_the_data() -> None:
    with_data, _ = after(network, LowRank(rank=16, method="svd"), {"x": correlated(64, 160)})
    without, _ = after(network, LowRank(rank=16), None)
    for path in with_data.weights:
        np.testing.assert_array_equal(with_data.weight_values(path), without.weight_values(path))


@pytest.mark.parametrize("options", [{"rank": 20}, {"params": 0.4}], ids=str)
def test_a_weight_of_low_rank_loses_nothing(options: dict[str, Any]) -> None:
    weights = {
        "fc1.weight": of_rank(192, 160, list(np.geomspace(9, 1, 20))),
        "fc2.weight": of_rank(160, 192, list(np.geomspace(5, 1, 20)), seed=1),
    }
    original, data = mlp(160, 192, 160, weights=weights), {"x": correlated(64, 160)}
    made, report = after(lambda: mlp(160, 192, 160, weights=weights), LowRank(**options), data)
    assert set(remarks(report, "rewrote")) == {"fc1", "fc2"}
    assert error(made, original, {"x": correlated(64, 160, seed=1)}) < 1e-3


def count(graph: Graph, measure: str) -> int:
    """Parameters or multiply-adds of linear layers and convolutions, from the shapes of their weights."""
    if measure == "params":
        return sum(int(np.prod(weight.shape)) for weight in graph.weights.values())
    total = 0
    for node in graph.nodes():
        if "weight" in node.weights:
            positions = int(np.prod(node.results[0].type.shape[2:]))
            total += positions * graph.weights[node.weights["weight"]].size
    return total


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("measure", ["params", "macs"])
@pytest.mark.parametrize("share", [0.8, 0.5])
@pytest.mark.parametrize("with_data", [True, False])
def test_the_model_is_within_the_budget(name: str, measure: str, share: float, with_data: bool) -> None:
    make, shape = NETWORKS[name]
    data = {"x": correlated(40, *shape)} if with_data else None
    before = count(make(), measure)
    graph, report = after(make, LowRank(**{measure: share}), data)
    found = count(graph, measure)
    assert 0.75 * share * before < found <= share * before
    (note,) = (remark for remark in report.remarks if remark.layer == "net")
    assert note.message.startswith(f"{found:,} of {before:,}")
    absolute, _ = after(make, LowRank(**{measure: int(share * before)}), data)
    assert operators(absolute) == operators(graph)
    for remark in report.remarks:
        if remark.kind == "rewrote":
            ranks = str(remark.figures.get("ranks") or remark.figures["rank"])
            assert all(int(rank) % 8 == 0 for rank in ranks.split(", "))
            assert ("predicted_error" in remark.figures) is with_data


TEXT = """
model net {
    input x: f32[N, 160]
    output x -> up: linear(256) -> relu -> down: linear(160) -> relu -> head: linear(96)
}
"""


@pytest.mark.parametrize("target", ["onnx", "torch"])
@pytest.mark.parametrize("budget", [0.6, 300_000])
def test_the_emitted_files_are_within_the_budget(target: str, budget: float, tmp_path: Path) -> None:
    def emitted(compiled: archc.Compiled, folder: Path) -> int:
        return sum(file["bytes"] for file in compiled.write(folder, emit=target, check=False)["files"].values())

    before = emitted(archc.compile(TEXT), tmp_path / "before")
    compiled = archc.compile(TEXT, passes=f"lowrank(bytes = {budget})", emit=target, calib={"x": correlated(64, 160)})
    found, limit = emitted(compiled, tmp_path / "after"), budget if budget > 1 else budget * before
    assert 0.8 * limit < found <= limit


def test_stored_factors_count_as_parameters_and_bytes_but_not_as_multiply_adds() -> None:
    text = "model m {\n    input x: f32[N, 6, 64]\n    output x -> r: lstm(64) -> head: linear(160)\n}\n"
    data = {"x": correlated(48, 6, 64)}
    compiled = archc.compile(text, passes="lowrank(params = 0.5)", calib=data)
    assert cost(compiled.graph).parameters <= 0.5 * cost(archc.compile(text).graph).parameters
    assert isinstance(compiled.graph.weights["r.weight_hh_l0"].storage, LowRankStorage)
    with pytest.raises(ArchcError, match="budget-too-small"):
        archc.compile(text, passes="lowrank(macs = 0.5)", calib=data)


def test_a_model_within_the_budget_stays() -> None:
    graph, report = after(network, LowRank(params=1.0), {"x": correlated(40, 160)})
    assert operators(graph) == operators(network()) and not remarks(report, "rewrote")
    assert "no layer changes" in remarks(report, "note")["net"]


@pytest.mark.parametrize("measure", ["params", "macs", "bytes"])
def test_the_least_budget_is_named_and_works(measure: str) -> None:
    with pytest.raises(ArchcError) as refused:
        archc.compile(TEXT, passes=f"lowrank({measure} = 0.01)", emit="onnx")
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "budget-too-small" and diagnostic.help is not None
    found = re.search(rf"`{measure} = (\d+)`, or `{measure} = (0\.\d+)`", diagnostic.help)
    assert found is not None
    for amount in found.groups():
        archc.compile(TEXT, passes=f"lowrank({measure} = {amount})", emit="onnx")
    if measure != "bytes":
        with pytest.raises(ArchcError, match="budget-too-small"):
            archc.compile(TEXT, passes=f"lowrank({measure} = {int(found[1]) - 1})", emit="onnx")


def test_a_model_that_factors_cannot_make_smaller_is_refused_without_advice_on_the_budget() -> None:
    with pytest.raises(ArchcError, match="no layer is both smaller and at least as fast") as refused:
        archc.compile("model m { input x: f32[N, 3]  output y = x -> l: linear(3) }", passes="lowrank(params = 0.5)")
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "budget-too-small" and diagnostic.help is not None and "params" not in diagnostic.help


def test_layers_that_the_data_cannot_factorize_are_factorized_by_their_weights() -> None:
    def twice() -> Graph:
        build = Build()
        y = build.layer("linear", build.input(192), 192, name="fc")
        y = build.layer("linear", build.layer("relu", y), 192, name="fc")
        return build.done(build.layer("linear", build.layer("relu", y), 160, name="head"))

    data = {"x": correlated(64, 192)}
    graph, report = after(twice, LowRank(rank=24), data)
    assert remarks(report, "note")["fc"] == "plain singular value decomposition: it has 2 uses"
    left, scales, right = np.linalg.svd(twice().weight_values("fc.weight").astype(np.float64))
    product = graph.weight_values("fc.b.weight") @ graph.weight_values("fc.a.weight")
    np.testing.assert_allclose(product, left[:, :24] * scales[:24] @ right[:24], atol=1e-5)
    # The head is fitted to the operands that the factors of `fc` give.
    alone, _ = after(twice, LowRank(rank=24, on="head"), data)
    assert not np.allclose(alone.weight_values("head.b.weight"), graph.weight_values("head.b.weight"), atol=1e-3)
    graph, _ = after(twice, LowRank(params=0.5), data)
    assert count(graph, "params") <= 0.5 * count(twice(), "params")


def test_only_the_selected_layers_change() -> None:
    graph, _ = after(network, LowRank(params=0.8, on=("up", "down")), {"x": correlated(40, 160)})
    assert {"stem", "head"} <= set(graph.layers())
    assert not {"up", "down"} <= set(graph.layers())


def warnings(passes: str, trained: bool, data: Data | None = None) -> list[str]:
    graph, found = network(), Diagnostics()
    calibration = Calibration(graph, data, trained=trained)
    list(run_passes(graph, parse_passes(passes), calibration, diagnostics=found))
    return [warning.code for warning in found.warnings]


def test_trained_weights_without_data_give_a_warning() -> None:
    assert warnings("lowrank(rank = 8)", trained=True) == ["plain-method"]
    assert warnings("lowrank(params = 0.5)", trained=True) == ["plain-method"]
    assert warnings('lowrank(rank = 8, method = "svd")', trained=True) == []
    assert warnings("lowrank(rank = 8)", trained=False) == []
    assert warnings("lowrank(rank = 8)", trained=True, data={"x": correlated(8, 160)}) == []


@pytest.mark.parametrize(
    ("options", "code", "argument"),
    [
        ({"params": 0.5, "rank": 3}, "conflicting-options", "params"),
        ({"params": 0.5, "macs": 0.5}, "conflicting-options", "macs"),
        ({"bytes": 0.0}, "bad-option", "bytes"),
        ({"macs": 1.5}, "bad-option", "macs"),
    ],
)
def test_invalid_budgets_are_refused(options: dict[str, Any], code: str, argument: str) -> None:
    with pytest.raises(AttributeProblem) as caught:
        make_pass("lowrank", named=options)
    assert (caught.value.code, caught.value.argument) == (code, argument)


# Tables of vectors ----------------------------------------------------------------------------------------------


def words() -> Graph:
    """A table before a layer that uses few directions of its rows; the first ids are the frequent ones."""
    build = Build()
    y = build.layer("embedding", build.input(6, dtype=DType.i64, name="ids"), 300, 96, name="wte")
    weight = of_rank(24, 96, list(np.geomspace(9, 0.5, 24)), seed=3)
    table = np.random.default_rng(5).normal(size=(300, 96))
    table[:60, 48:], table[60:, :48] = 0, 0
    return build.done(build.layer("linear", y, 24, name="head"), weights={"head.weight": weight, "wte.weight": table})


def ids(count: int, seed: int = 0) -> Data:
    chosen = np.random.default_rng(seed).geometric(0.05, size=(count, 6)) - 1
    return {"ids": np.minimum(chosen, 299)}


def test_a_table_becomes_a_narrow_table_and_a_layer() -> None:
    graph, report = after(words, LowRank(params=0.4, on="wte"), ids(64))
    table, wide = graph.nodes()[:2]
    assert (table.path, wide.path) == ("wte.a", "wte.b")
    rank = graph.weights["wte.a.weight"].shape[1]
    assert graph.weights["wte.a.weight"].shape == (300, rank) and rank % 8 == 0
    assert graph.weights["wte.b.weight"].shape == (96, rank) and "wte.b.bias" not in graph.weights
    assert 0.3 * count(words(), "params") < count(graph, "params") <= 0.4 * count(words(), "params")
    plain, _ = after(words, LowRank(params=0.4, on="wte", method="svd"), ids(64))
    assert plain.weights == graph.weights
    held_out = ids(64, seed=1)
    assert error(graph, words(), held_out) < 0.3 * error(plain, words(), held_out)
    assert remarks(report, "rewrote")["wte"].startswith(f"rank {rank} of 96")


def test_the_rows_of_a_table_count_by_frequency_and_effect() -> None:
    """The factors are those of an independent computation in the norm of the outputs."""
    data = ids(64)
    graph, _ = after(words, LowRank(params=0.3, on="wte"), data)
    table, head = words().weight_values("wte.weight"), words().weight_values("head.weight")
    shares = 0.7 * np.bincount(data["ids"].ravel(), minlength=300) / data["ids"].size + 0.3 / 300
    rows, rank = np.sqrt(shares + 0.01 * shares.mean()), graph.weights["wte.a.weight"].shape[1]
    found = graph.weight_values("wte.a.weight") @ graph.weight_values("wte.b.weight").T

    def effect(approximate: np.ndarray) -> float:
        return float(np.linalg.norm(rows[:, None] * (approximate - table) @ head.T))

    # The best approximation at the head alone, which the random gradients of the pass estimate.
    scales = np.linalg.svd(rows[:, None] * table @ head.T, compute_uv=False)
    least = float(np.linalg.norm(scales[rank:]))
    assert 0.05 * float(np.linalg.norm(scales)) < least <= effect(found) < 1.1 * least


@pytest.mark.parametrize("options", [{"rank": 8}, {"energy": 0.3}, {"macs": 0.9}], ids=str)
def test_a_table_is_factorized_under_a_budget_of_parameters_or_bytes_only(options: dict[str, Any]) -> None:
    def wide() -> Graph:
        build = Build()
        y = build.layer("embedding", build.input(6, dtype=DType.i64, name="ids"), 300, 192, name="wte")
        return build.done(build.layer("linear", y, 192, name="head"))

    graph, report = after(wide, LowRank(**options), None)
    assert "give a budget" in remarks(report, "left")["wte"]
    assert "wte" in graph.layers() and "head.a" in graph.layers()


def test_a_tied_table_stays() -> None:
    build = Build()
    y = build.layer("embedding", build.input(6, dtype=DType.i64, name="ids"), 300, 192, name="wte")
    y = build.layer("linear", y, 192, name="fc")
    graph = build.done(build.layer("linear", y, 300, bias=False, name="head", weights={"weight": "wte.weight"}))
    (report,) = run(graph, LowRank(params=0.9), data=ids(32))
    assert remarks(report, "left")["wte"] == "it shares its weight with `head`"
    assert set(remarks(report, "rewrote")) == {"fc"}
