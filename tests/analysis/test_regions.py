"""Regions of graphs that one layer can replace."""

from __future__ import annotations

from archc.analysis.regions import Regions
from archc.ir.graph import Graph, Value
from archc.types.tensor_type import DType
from tests.passes.graphs import Build


def layers(graph: Graph, longest: int = 1) -> list[str]:
    """Titles of the regions of at most `longest` steps."""
    return [region.title for region in Regions(graph, {}).runs(longest)]


def branch(build: Build, x: Value, name: str) -> Value:
    """Return a sum of x and a feed-forward network of it."""
    up = build.layer("relu", build.layer("linear", x, 16, name=f"{name}_up"))
    return build.layer("add", x, build.layer("linear", up, 4, name=f"{name}_down"))


def test_consecutive_residual_blocks() -> None:
    build = Build()
    x = build.layer("linear", build.input(3), 4, name="stem")
    for name in ("a", "b", "c"):
        x = build.layer("layer_norm", branch(build, x, name), name=f"norm_{name}")
    graph = build.done(build.layer("linear", x, 2, name="head"))
    assert layers(graph) == ["a_up to a_down", "b_up to b_down", "c_up to c_down"]
    runs = Regions(graph, {}).runs(2)
    assert [run.title for run in runs if run.steps == 2] == ["a_up to b_down", "b_up to c_down"]
    first = runs[0]
    assert first.entry.producer is graph.layers()["stem"]
    # The norm after the addition is outside the region of one step, and the norm between two steps is inside.
    assert [node.kind for node in first.nodes] == ["linear", "relu", "linear", "add"]
    assert "norm_a" in next(run for run in runs if run.steps == 2).layers


def test_channels_of_convolutions() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 6, 6), 8, 3, name="stem", padding=1)
    y = build.layer("batch_norm", build.layer("conv2d", x, 8, 3, name="conv", padding=1), name="bn")
    graph = build.done(build.layer("relu", build.layer("add", x, y)))
    (region,) = Regions(graph, {}).steps
    assert (region.axis, region.channels, region.layers) == (1, 8, ["conv", "bn"])
    assert region.exit.producer is not None
    assert region.exit.producer.kind == "add"


def test_a_mask_may_enter_a_region_with_a_skip_connection() -> None:
    build = Build()
    x = build.layer("linear", build.input(5, 3), 4, name="stem")
    mask = build.input(1, 1, 5, name="mask", dtype=DType.bool)
    attention = build.layer("attention", x, x, x, mask, 2)
    y = build.layer("add", x, build.layer("linear", attention, 4, name="out"))
    assert layers(build.done(build.layer("linear", y, 2, name="head"))) == ["out"]


def test_the_memory_of_a_decoder_is_no_entry() -> None:
    """The states are no function of the memory alone, and no skip connection leads to them."""
    build = Build()
    memory = build.layer("linear", build.input(5, 3, name="source"), 4, name="encode")
    states = build.layer("linear", build.input(5, 3), 4, name="embed")
    for name in ("a", "b"):
        cross = build.layer("attention", states, memory, memory, 2)
        states = build.layer("add", states, build.layer("linear", cross, 4, name=f"out_{name}"))
    graph = build.done(build.layer("linear", states, 2, name="head"))
    steps = Regions(graph, {}).steps
    assert [step.layers for step in steps] == [["out_a"], ["out_b"]]
    assert steps[0].entry.producer is graph.layers()["embed"]


def test_a_skip_connection_has_priority_over_a_later_post_dominator() -> None:
    """The concatenation is the post-dominator of both blocks."""
    build = Build()
    x = build.layer("linear", build.input(3), 4, name="stem")
    both = build.layer("concat", x, branch(build, x, "a"), dim=1)
    joined = build.layer("linear", both, 4, name="join")
    assert layers(build.done(build.layer("linear", joined, 2, name="head"))) == ["a_up to a_down"]


def test_a_value_with_another_use_ends_a_region() -> None:
    """The hidden value is an output, so nothing can replace the layer before it."""
    build = Build()
    x = build.input(4)
    hidden = build.layer("linear", x, 16, name="up")
    y = build.layer("add", x, build.layer("linear", hidden, 4, name="down"))
    assert layers(build.done(y)) == ["up to down"]
    assert layers(build.done(y, hidden)) == []


def test_an_entry_may_have_other_uses() -> None:
    build = Build()
    x = build.layer("linear", build.input(3), 4, name="stem")
    y = branch(build, x, "a")
    graph = build.done(build.layer("linear", x, 5, name="tap"), y, branch(build, y, "b"))
    assert layers(graph, 2) == ["a_up to a_down", "b_up to b_down"]


def test_shared_weights_stay() -> None:
    build = Build()
    x = build.layer("linear", build.input(3), 4, name="stem")
    x = branch(build, x, "a")
    tied = {"weight": "a_up.weight", "bias": "a_up.bias"}
    assert layers(build.done(build.layer("linear", x, 2, name="head"))) == ["a_up to a_down"]
    second = build.layer("linear", x, 16, name="b", weights=tied)
    assert layers(build.done(build.layer("linear", second, 2, name="last"))) == []


def test_graphs_without_a_value_of_the_same_type() -> None:
    build = Build()
    x = build.layer("relu", build.layer("linear", build.input(3), 5, name="fc1"))
    assert layers(build.done(build.layer("linear", x, 2, name="fc2")), 4) == []
