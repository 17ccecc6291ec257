"""Pruning of channels: outputs agree with those of the whole model with the same channels set to zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.analysis.coupling import ChannelGroup, Coupling
from archc.cli import main
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.language.printing.printer import print_graph
from archc.passes._channel_pruning import choose_groups, remove_groups
from archc.passes.prune import Prune
from archc.passmanager import Context, make_pass
from archc.passmanager.calibration import Calibration
from archc.types.attributes import AttributeProblem
from archc.types.storage import Int8
from tests.analysis.test_coupling import networks
from tests.passes.awkward import (
    GRAPHS,
    attention_written_out,
    channel_shuffle,
    grouped_queries,
    grouped_queries_written_out,
    linear_to_transposed_convolution,
    residual,
    tied,
)
from tests.passes.graphs import Build, mlp, operators, outputs, remarks, run
from tests.specs.siblings import sibling

ROOT = Path(__file__).parents[2]


def channels(sparsity: float, **options: Any) -> Prune:
    """Return a pass that prunes channels."""
    return Prune(sparsity, scheme="channel", **{"multiple": 1, **options})


def mask(graph: Graph, groups: list[ChannelGroup]) -> Graph:
    """Set the trainable weights of these groups to zero, and return the graph."""
    rewriter = Rewriter(graph)
    for group in groups:
        for (path, axis), elements in group.slices.items():
            if graph.weights[path].trainable:
                values = graph.weight_values(path).copy()
                np.moveaxis(values, axis, 0)[elements] = 0
                rewriter.set_weight(path, values)
    return graph


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_pruned_model_agrees_with_one_with_zero_channels(name: str, scope: str) -> None:
    graph, masked = GRAPHS[name](), GRAPHS[name]()
    step = channels(0.5, scope=scope)
    chosen = choose_groups(Coupling(masked), step.sparsity, step.scope)
    mask(masked, chosen)
    before = sum(weight.size for weight in graph.weights.values())
    (report,) = run(graph, step)
    expected = outputs(masked)["y0"]
    assert chosen
    assert sum(weight.size for weight in graph.weights.values()) < before
    assert remarks(report, "rewrote")
    assert float(expected.std()) > 0
    assert torch.allclose(outputs(graph)["y0"], expected, atol=1e-5)


def widths(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {path: weight.shape[:2] for path, weight in graph.weights.items() if path.endswith(".weight")}


def test_a_tied_weight_stays_tied() -> None:
    graph = tied()
    run(graph, channels(0.5, scope="layer"))
    layers = graph.layers()
    assert layers["wte"].weights["weight"] == layers["head"].weights["weight"] == "wte.weight"
    assert widths(graph) == {"wte.weight": (11, 4), "up.weight": (8, 4), "down.weight": (4, 8)}


def test_key_value_heads_are_removed_with_their_queries() -> None:
    for graph in (grouped_queries(), grouped_queries_written_out()):
        (report,) = run(graph, channels(0.25))
        assert widths(graph) == {
            "q.weight": (24, 12),
            "k.weight": (12, 12),
            "v.weight": (12, 12),
            "out.weight": (3, 24),
        }
        assert remarks(report, "rewrote")["q"] == "24 of 32 channels are left"
    assert "attention(6, kv_heads = 3)" in pruned_operators(grouped_queries(), channels(0.25))


def pruned_operators(graph: Graph, step: Prune) -> list[str]:
    run(graph, step)
    return operators(graph)


def test_channels_in_one_group_stay_and_do_not_count() -> None:
    """Channels of `a`, added to reordered copies of themselves, form one group, which is not pruned."""
    graph = archc.parse("""
    model m {
        input x: f32[N, 6, 5, 5]
        h = x -> a: conv2d(4, 1)
        left, right = h -> split(2, dim = 1)
        h = h + ((right, left) -> concat(1)) + (h -> channel_shuffle(2))
        output y = h -> relu -> b: conv2d(8, 1) -> relu -> c: conv2d(4, 1)
    }
    """)
    bind_fresh(graph, 0)
    (report,) = run(graph, channels(0.67))
    assert remarks(report, "left")["a"] == "all its channels form one group, and a layer keeps at least one channel"
    # 5 of the 8 groups of `b` are removed; if the group of `a` counted, it would be 6 of 9.
    assert remarks(report, "rewrote") == {"b": "3 of 8 channels are left"}


def test_sizes_in_attributes_change_with_the_channels() -> None:
    assert "reshape((-1, 4, 3, 3))" in pruned_operators(linear_to_transposed_convolution(), channels(0.5))
    assert "channel_shuffle(4)" in pruned_operators(channel_shuffle(), channels(0.5))
    written = pruned_operators(attention_written_out(), channels(0.5, scope="layer"))
    assert 'rearrange("b t (h e) -> b h t e", h = 2)' in written
    build = Build()
    x = build.layer("linear", build.input(4), 8, name="fc1")
    x = build.layer("batch_norm", x, name="bn1", num_features=8)
    graph = build.done(build.layer("linear", x, 3, name="fc2", in_features=8))
    kept = pruned_operators(graph, channels(0.5))
    assert kept == ["linear(4)", "batch_norm(num_features = 4)", "linear(3, in_features = 4)"]


def test_the_channels_of_a_layer_norm_stay_and_a_remark_says_why() -> None:
    build = Build()
    x = build.layer("layer_norm", build.layer("linear", build.input(4), 8, name="fc1"), name="norm")
    graph = build.done(build.layer("linear", build.layer("linear", x, 6, name="fc2"), 3, name="fc3"))
    (report,) = run(graph, channels(0.5))
    assert remarks(report, "left") == {
        "fc1": "its channels are fixed: `norm` combines all of them",
        "fc3": "its channels are fixed: the output `y0` has them",
    }
    assert remarks(report, "rewrote") == {"fc2": "3 of 6 channels are left"}


def test_weights_stored_as_integers_stay() -> None:
    graph = mlp(4, 8, 3)
    Rewriter(graph).set_storage("fc1.weight", Int8(0))
    (report,) = run(graph, channels(0.5))
    assert remarks(report, "left")["fc1"] == (
        "its channels are fixed: `fc1.weight` is stored as int8(axis = 0): run `prune` before the pass that encodes it"
    )


def test_the_channels_of_the_smallest_norm_go() -> None:
    first = np.diag([4.0, 1.0, 3.0, 2.0])
    graph = mlp(4, 4, 3, weights={"fc1.weight": first, "fc1.bias": np.zeros(4), "fc2.weight": np.ones((3, 4))})
    run(graph, channels(0.5))
    assert np.array_equal(graph.weight_values("fc1.weight"), first[[0, 2]])
    assert np.array_equal(graph.weight_values("fc2.weight"), np.ones((3, 2)))


def test_the_weights_of_the_next_layer_count_too() -> None:
    second = np.array([[1.0, 5.0, 1.0, 5.0]])
    graph = mlp(4, 4, 1, weights={"fc1.weight": np.eye(4), "fc1.bias": np.zeros(4), "fc2.weight": second})
    run(graph, channels(0.5))
    assert np.array_equal(graph.weight_values("fc2.weight"), [[5.0, 5.0]])


def test_all_layers_lose_the_same_share_or_compete() -> None:
    uneven = np.diag([1.0, 1.0, 1.0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    weights = {
        "fc1.weight": np.eye(8),
        "fc1.bias": np.zeros(8),
        "fc2.weight": uneven,
        "fc2.bias": np.zeros(8),
        "fc3.weight": np.zeros((2, 8)),
    }
    widths_by_scope = {}
    for scope in ("layer", "global"):
        graph = mlp(8, 8, 8, 2, weights=weights)
        run(graph, make_pass("prune", [0.25], {"scheme": "channel", "scope": scope, "multiple": 1}))
        widths_by_scope[scope] = [graph.weights[f"fc{number}.weight"].shape[0] for number in (1, 2)]
    assert widths_by_scope["layer"] == [6, 6]
    assert widths_by_scope["global"][1] < 6
    assert sum(widths_by_scope["global"]) == 12


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_loses_its_last_channel(name: str) -> None:
    graph = GRAPHS[name]()
    run(graph, channels(0.99))
    assert all(size > 0 for weight in graph.weights.values() for size in weight.shape)
    assert float(outputs(graph)["y0"].std()) >= 0


def test_sparsity_zero_changes_nothing() -> None:
    graph = residual()
    (report,) = run(graph, channels(0))
    assert graph == residual()
    assert not remarks(report, "rewrote")


def test_selected_layers_alone_become_narrower() -> None:
    graph = mlp(4, 8, 8, 8, 3)
    (report,) = run(graph, channels(0.5, on=("fc1", "fc2"), keep="fc2"))
    assert [weight.shape for path, weight in graph.weights.items() if path.endswith("weight")] == [
        (4, 4),
        (8, 4),
        (8, 8),
        (3, 8),
    ]
    assert remarks(report, "left")["fc2"] == "not selected"


def test_a_layer_stays_when_one_that_it_is_coupled_with_is_kept() -> None:
    graph = residual()
    (report,) = run(graph, channels(0.5, keep="stem"))
    assert remarks(report, "left")["conv2"] == "coupled with `stem`, which is not selected"
    assert remarks(report, "left")["stem"] == "not selected"
    assert "conv1" in remarks(report, "rewrote")


def test_a_layer_used_twice_is_pruned_once() -> None:
    def build() -> Graph:
        build = Build()
        x = build.layer("linear", build.input(4), 8, name="fc1")
        weights = {"weight": "fc2.weight", "bias": "fc2.bias"}
        for _ in range(2):
            x = build.layer("relu", build.layer("linear", x, 8, name="fc2", weights=weights))
        return build.done(build.layer("linear", x, 3, name="fc3"))

    graph, masked = build(), build()
    mask(masked, choose_groups(Coupling(masked), 0.5, "global"))
    run(graph, channels(0.5))
    assert widths(graph) == {"fc1.weight": (4, 4), "fc2.weight": (4, 4), "fc3.weight": (3, 4)}
    assert torch.allclose(outputs(graph)["y0"], outputs(masked)["y0"], atol=1e-5)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_an_invalid_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(AttributeProblem, match="from 0 to below 1"):
        make_pass("prune", [sparsity])


QUICK = {"cnn", "lenet5", "linear_regression", "resnet18"}
MODELS = [
    *(
        pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in sorted((ROOT / "specs").glob("*.arch"))
    ),
    *sorted((ROOT / "tests/end_to_end/architectures").glob("*.arch")),
]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_whole_architecture_is_itself_with_channels_set_to_zero_and_prints(path: Path) -> None:
    graph, masked = (archc.compile(path, values=sibling(path)).graph for _ in range(2))
    chosen = choose_groups(Coupling(masked), 0.5, "global")
    mask(masked, chosen)
    run(graph, channels(0.5))
    assert archc.parse(print_graph(graph)) == graph
    assert chosen or path.stem in {"linear_regression", "elman", "arithmetic", "identity", "nothing_in", "single"}
    for name, expected in outputs(masked).items():
        assert torch.allclose(outputs(graph)[name], expected, atol=1e-5)


@given(networks(), st.floats(0.1, 0.9))
@settings(max_examples=60, deadline=None)
def test_any_network_is_itself_with_channels_set_to_zero(graph: Graph, sparsity: float) -> None:
    step = channels(sparsity, scope="layer")
    removed = choose_groups(Coupling(graph), step.sparsity, step.scope)
    unpruned = outputs(graph)["y0"]
    mask(graph, removed)
    expected = outputs(graph)["y0"]
    remove_groups(Context(Rewriter(graph), Calibration(graph)), Coupling(graph), {group.number for group in removed})
    assert torch.allclose(outputs(graph)["y0"], expected, atol=1e-4 * float(unpruned.abs().max()))


def test_channels_with_nan_or_infinite_weights_stay() -> None:
    first = np.diag([np.nan, 1.0, 3.0, 2.0])
    graph = mlp(4, 4, 3, weights={"fc1.weight": first, "fc1.bias": np.zeros(4), "fc2.weight": np.ones((3, 4))})
    remove_groups(Context(Rewriter(graph), Calibration(graph)), Coupling(graph), numbers(channels(0.4), graph))
    assert np.array_equal(graph.weight_values("fc1.weight"), first[[0, 2, 3]], equal_nan=True)


def numbers(step: Prune, graph: Graph) -> set[int]:
    return {group.number for group in choose_groups(Coupling(graph), step.sparsity, step.scope)}


def test_an_axis_that_becomes_one_is_not_squeezed_away() -> None:
    build = Build()
    x = build.layer("squeeze", build.layer("unsqueeze", build.layer("linear", build.input(4), 3, name="fc1"), 1))
    graph = build.done(build.layer("linear", x, 2, name="fc2"))
    assert pruned_operators(graph, channels(0.7)) == ["linear(1)", "unsqueeze(1)", "squeeze(dim = (1,))", "linear(2)"]


def test_programs_of_a_pruned_model_agree(tmp_path: Path) -> None:
    pipeline = "lowrank(ratio = 0.5), prune(0.5, scheme = 'channel'), quant"
    status = main(["compile", str(ROOT / "specs/cnn.arch"), "--passes", pipeline, "--check", "-o", str(tmp_path)])
    assert status == 0
    printed = archc.parse(tmp_path / "cnn.arch")
    assert printed.weights["conv1.weight"].shape[0] < 32


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("multiple", [1, 4, 8, 16, None])
def test_widths_are_multiples_where_they_shrink(scope: str, multiple: int | None) -> None:
    text = """
model widths {
    input x: f32[N, 16, 8, 8]
    y = x -> a: conv2d(40, 3, padding = 1) -> relu -> b: conv2d(36, 3, padding = 1) -> relu
    y = y + (y -> up: conv2d(50, 1) -> relu -> deep: conv2d(50, 3, padding = 1, groups = 50) -> down: conv2d(36, 1))
    output z = y -> mean((2, 3)) -> narrow: linear(6) -> relu -> f: linear(10)
}
"""
    step = channels(0.3, scope=scope, multiple=multiple)
    graph = archc.compile(text, passes=[step]).graph
    widths = {path: node.results[0].type.shape[1] for path, node in graph.layers().items()}
    before = {"a": 40, "b": 36, "up": 50, "deep": 50, "down": 36, "narrow": 6, "f": 10}
    assert widths["up"] == widths["deep"] and widths["b"] == widths["down"]
    for path, width in widths.items():
        assert width == before[path] or width % (multiple or 16) == 0 or (multiple is None and width == 8)
    assert any(width < before[path] for path, width in widths.items())
    assert (multiple and multiple < 8) or widths["narrow"] == 6
    assert str(Prune(0.5, scheme="channel")) == 'prune(0.5, scheme = "channel")'
    assert str(Prune(pattern="2:4")) == 'prune(pattern = "2:4")'
