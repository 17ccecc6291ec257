"""Pruning of channels by calibration data, and under budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import archc
from archc.analysis.cost import cost
from archc.diagnostics import Diagnostics
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes import _channel_budget
from archc.passes.prune import Prune
from archc.passmanager import make_pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.attributes import AttributeProblem
from tests.passes.awkward import GRAPHS, attention_in_one_layer, grouped_queries
from tests.passes.graphs import Build, mlp, remarks, run

GENERATOR = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]


def channels(**options: Any) -> Prune:
    """Return a pass that prunes channels."""
    return Prune(scheme="channel", **{"multiple": 1, **options})


def samples(graph: Graph, count: int = 64) -> Arrays:
    """Random inputs; symbolic sizes except the batch are 7."""
    shapes = {value: [count, *(d if isinstance(d, int) else 7 for d in value.type.shape[1:])] for value in graph.inputs}
    return {
        value.name or "": GENERATOR.standard_normal(shape).astype(np.float32)
        if value.type.dtype.floating
        else GENERATOR.integers(0, 11, shape)
        for value, shape in shapes.items()
    }


def output(graph: Graph, inputs: Arrays) -> torch.Tensor:
    return evaluate(graph, {name: torch.from_numpy(array) for name, array in inputs.items()})["y0"]


def error(graph: Graph, original: Graph, inputs: Arrays) -> float:
    """Relative error of the output about its mean."""
    found, expected = output(graph, inputs), output(original, inputs)
    return float((found - expected).norm() / (expected - expected.mean(0)).norm())


def sizes(graph: Graph) -> dict[str, int]:
    return {path: weight.shape[0] for path, weight in graph.weights.items() if path.endswith("weight")}


# Choice ------------------------------------------------------------------------------------------------------


def with_dead_units() -> Graph:
    """A network whose units 1, 4 and 5 are never active, though their weights are the largest."""
    first, bias = GENERATOR.standard_normal((8, 6)), np.zeros(8)
    first[[1, 4, 5]] *= 3
    bias[[1, 4, 5]] = -100
    return mlp(6, 8, 3, weights={"fc1.weight": first, "fc1.bias": bias})


def test_dead_channels_go_first_and_change_nothing() -> None:
    graph = with_dead_units()
    first = graph.weight_values("fc1.weight")
    inputs = samples(graph, 500)
    expected = output(graph, inputs)
    (report,) = run(graph, channels(sparsity=3 / 8), data=inputs)
    assert np.array_equal(graph.weight_values("fc1.weight"), first[[0, 2, 3, 6, 7]])
    assert torch.allclose(output(graph, inputs), expected, atol=1e-5)
    (note,) = [remark for remark in report.remarks if "predicted_error" in remark.figures]
    assert note.figures["predicted_error"] == 0


def with_duplicates() -> dict[str, np.ndarray]:
    """Weights of an mlp(6, 16, 4): each of eight large hidden units is there twice."""
    first = np.repeat(GENERATOR.standard_normal((8, 6)), 2, axis=0)
    return {"fc1.weight": first, "fc1.bias": np.repeat(GENERATOR.standard_normal(8), 2)}


@pytest.mark.parametrize("amount", [{"sparsity": 0.5}, {"macs": 0.5}, {"params": 0.55}])
def test_one_of_each_pair_of_equal_channels_goes(amount: dict[str, float]) -> None:
    weights = with_duplicates()
    original, graph, plain = (mlp(6, 16, 4, weights=weights) for _ in range(3))
    inputs, others = samples(graph, 500), samples(graph)
    run(graph, channels(**amount), data=inputs)
    run(plain, channels(**amount, method="magnitude"), data=inputs)
    assert sizes(graph) == sizes(plain) == {"fc1.weight": 8, "fc2.weight": 4}
    kept = graph.weight_values("fc1.weight")
    assert np.array_equal(np.unique(kept, axis=0), np.unique(weights["fc1.weight"].astype(np.float32), axis=0))
    assert error(graph, original, others) < 0.05
    assert error(plain, original, others) > 0.2


def test_a_budget_takes_the_channels_with_the_least_loss_for_each_multiply_add() -> None:
    """The channels of `wide` and `narrow` have similar effects, but different costs."""
    build = Build()
    x = build.input(64)
    wide = build.layer("relu", build.layer("linear", x, 16, name="wide"))
    first = build.layer("slice", x, (None, (0, 4, None)))
    narrow = build.layer("relu", build.layer("linear", first, 4, name="narrow"))
    y = build.layer("linear", build.layer("concat", wide, narrow, dim=1), 4, name="out")
    weights = {
        "wide.weight": GENERATOR.standard_normal((16, 64)) / 8,
        "narrow.weight": np.eye(4),
        "out.weight": GENERATOR.standard_normal((4, 20)),
    }
    graph = build.done(y, weights=weights)
    run(graph, channels(macs=0.7), data=samples(graph, 300))
    assert sizes(graph)["narrow.weight"] == 4
    assert sizes(graph)["wide.weight"] < 12


@pytest.mark.parametrize("build", [attention_in_one_layer, grouped_queries])
def test_heads_go_whole(build: Any) -> None:
    graph, original = build(), build()
    (attention,) = [node for node in graph.nodes() if node.op.name == "attention"]
    heads, width = attention.op.heads, attention.types[0].shape[-1] // attention.op.heads
    inputs = samples(graph)
    run(graph, channels(sparsity=0.5), data=inputs)
    (pruned,) = [node for node in graph.nodes() if node.op.name == "attention"]
    assert pruned.op.heads == heads // 2
    assert pruned.types[0].shape[-1] == heads // 2 * width
    (path, *_) = original.weights  # the queries are the first rows
    rows = original.weight_values(path)[: heads * width].reshape(heads, width, -1)
    kept = graph.weight_values(path)[: heads // 2 * width].reshape(heads // 2, width, -1)
    assert all(any(np.array_equal(own, head) for head in rows) for own in kept)


def test_the_same_share_of_each_layer_goes() -> None:
    graph = mlp(8, 16, 16, 16, 3)
    run(graph, channels(sparsity=0.5, scope="layer"), data=samples(graph))
    assert sizes(graph) == {"fc1.weight": 8, "fc2.weight": 8, "fc3.weight": 8, "fc4.weight": 3}


def test_layers_that_are_not_selected_stay() -> None:
    graph = mlp(8, 16, 16, 16, 3)
    (report,) = run(graph, channels(macs=0.7, keep="fc2"), data=samples(graph))
    assert sizes(graph)["fc2.weight"] == 16 > sizes(graph)["fc1.weight"]
    assert remarks(report, "left")["fc2"] == "not selected"


# The pruned model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_a_pruned_model_agrees_with_one_whose_removed_channels_are_not_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, unused, plain, original = (GRAPHS[name]() for _ in range(4))
    inputs = samples(graph)
    run(graph, channels(macs=0.6), data=inputs)
    with monkeypatch.context() as patched:
        patched.setattr(_channel_budget, "remove_groups", lambda *_: None)
        run(unused, channels(macs=0.6), data=inputs)
    run(plain, channels(macs=0.6, method="magnitude"), data=inputs)
    before = cost(original).multiply_adds
    assert cost(unused).multiply_adds == before
    assert cost(graph).multiply_adds <= 0.6 * before
    assert torch.allclose(
        output(graph, inputs), output(unused, inputs), atol=1e-5 * float(output(original, inputs).abs().max())
    )
    assert error(graph, original, inputs) < error(plain, original, inputs)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_recurrent_units_are_chosen_by_data(scope: str) -> None:
    def build() -> Graph:
        build = Build()
        x = build.layer("lstm", build.input(5, 4), 12, name="lstm1")
        x = build.layer("lstm", x, 12, name="lstm2")
        generator = np.random.default_rng(3)
        scale = np.where(np.arange(12) % 3, 0.01, 1.0)
        return build.done(
            build.layer("linear", x, 3, name="fc"),
            weights={
                "lstm2.weight_ih_l0": generator.standard_normal((48, 12)) * scale,
                "lstm1.weight_ih_l0": generator.standard_normal((48, 4)),
            },
        )

    graph, plain, original = build(), build(), build()
    inputs = samples(graph)
    run(graph, channels(macs=0.6, scope=scope), data=inputs)
    run(plain, channels(macs=0.6, scope=scope, method="magnitude"), data=inputs)
    assert cost(graph).multiply_adds <= 0.6 * cost(original).multiply_adds
    assert error(graph, original, inputs) < error(plain, original, inputs)


# Budgets --------------------------------------------------------------------------------------------------------

TEXT = """
model net {
    input x: f32[N, 3, 12, 12]
    h = x -> c1: conv2d(24, 3, padding = 1) -> relu -> c2: conv2d(40, 3, padding = 1) -> relu -> mean((2, 3))
    output y0 = h -> fc1: linear(64) -> relu -> fc2: linear(10)
}
"""


@pytest.mark.parametrize("method", [None, "magnitude"])
@pytest.mark.parametrize(
    "budget", [{"macs": 0.6}, {"macs": 800_000}, {"params": 0.5}, {"params": 8000}, {"bytes": 0.6}, {"bytes": 40_000}]
)
def test_a_budget_is_kept(budget: dict[str, float], method: str | None, tmp_path: Path) -> None:
    original = archc.compile(TEXT)
    data = samples(original.graph, 32)
    step = channels(**budget, method=method, multiple=2)
    compiled = archc.compile(TEXT, passes=[step], calib=data, emit="onnx")
    (measure, amount) = next(iter(budget.items()))

    def count(found: Any, folder: Path) -> int:
        if measure == "bytes":
            found.write(folder, emit="onnx", check=False)
            return sum(path.stat().st_size for path in folder.glob("*.onnx*"))
        costs = cost(found.graph)
        return costs.multiply_adds if measure == "macs" else costs.parameters

    before, after = count(original, tmp_path / "before"), count(compiled, tmp_path / "after")
    limit = amount * before if amount <= 1 else amount
    assert 0.85 * limit < after <= limit < before


def test_a_model_within_the_budget_stays() -> None:
    for budget in ({"macs": 1.0}, {"params": 10_000_000}):
        for method in (None, "magnitude"):
            graph = mlp(8, 16, 3)
            run(graph, channels(**budget, method=method), data=samples(graph))
            assert graph == mlp(8, 16, 3)


@pytest.mark.parametrize("method", [None, "magnitude"])
def test_a_budget_that_is_too_small_is_refused(method: str | None) -> None:
    graph = mlp(8, 16, 3)
    with pytest.raises(archc.ArchcError) as caught:
        run(graph, channels(macs=5, method=method), data=samples(graph))
    (problem,) = caught.value.diagnostics
    assert problem.code == "budget-too-small"
    assert problem.message.endswith("with the fewest channels, it has 11")  # one hidden channel has 8 + 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {}, "needs `sparsity`, `pattern` or a budget"),
        ([], {"macs": 0.5}, 'needs `scheme = "channel"`'),
        ([0.5], {"macs": 0.5, "scheme": "channel"}, "got both"),
        ([], {"macs": 0.5, "bytes": 0.5, "scheme": "channel"}, "one of"),
        ([], {"macs": 1.5, "scheme": "channel"}, "whole number"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AttributeProblem, match=message):
        make_pass("prune", arguments, options)


@pytest.mark.parametrize(
    ("trained", "method", "expected"), [(True, None, ["plain-method"]), (True, "magnitude", []), (False, None, [])]
)
def test_trained_weights_without_data_have_a_warning(
    trained: bool, method: Literal["magnitude"] | None, expected: list[str]
) -> None:
    graph, found = mlp(16, 32, 8), Diagnostics()
    step = channels(macs=0.6, method=method)
    list(run_passes(graph, [step], Calibration(graph, trained=trained), diagnostics=found))
    assert [one.code for one in found] == expected
