"""Channel groups of small graphs, compared with groups written by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.ir.graph import Graph, Value
from archc.types.tensor_type import DType
from tests.passes.graphs import Build


def slices(group: ChannelGroup) -> dict[tuple[str, int], list[int]]:
    """The elements of a group in parameters named `weight`, without those in biases."""
    return {place: list(map(int, found)) for place, found in group.slices.items() if place[0].endswith(".weight")}


def groups(graph: Graph) -> list[dict[tuple[str, int], list[int]]]:
    """The weight elements of each removable group."""
    return [slices(group) for group in Coupling(graph).groups if group.reason is None]


def test_a_channel_is_a_row_of_one_weight_and_a_column_of_the_next() -> None:
    build = Build()
    x = build.layer("linear", build.input(3), 2, name="a")
    assert groups(build.done(build.layer("linear", x, 4, name="b"))) == [
        {("a.weight", 0): [0], ("b.weight", 1): [0]},
        {("a.weight", 0): [1], ("b.weight", 1): [1]},
    ]


def test_a_flattened_channel_has_all_its_pixels() -> None:
    build = Build()
    x = build.layer("flatten", build.layer("conv2d", build.input(3, 4, 4), 2, 3, name="a"))
    assert groups(build.done(build.layer("linear", x, 5, name="b"))) == [
        {("a.weight", 0): [0], ("b.weight", 1): [0, 1, 2, 3]},
        {("a.weight", 0): [1], ("b.weight", 1): [4, 5, 6, 7]},
    ]


def test_a_value_and_its_copies() -> None:
    build = Build()
    x = build.layer("linear", build.input(3), 2, name="a")
    assert groups(build.done(build.layer("linear", build.layer("concat", x, x, x, dim=1), 4, name="b"))) == [
        {("a.weight", 0): [0], ("b.weight", 1): [0, 2, 4]},
        {("a.weight", 0): [1], ("b.weight", 1): [1, 3, 5]},
    ]


def test_the_heads_of_attention() -> None:
    build = Build()
    x = build.input(5, 3)
    q, k, v = (build.layer("linear", x, size, name=name) for name, size in (("q", 8), ("k", 4), ("v", 2)))
    assert groups(build.done(build.layer("linear", build.layer("attention", q, k, v, 4, kv_heads=2), 3, name="o"))) == [
        {("q.weight", 0): [0, 1, 2, 3], ("k.weight", 0): [0, 1], ("v.weight", 0): [0], ("o.weight", 1): [0, 1]},
        {("q.weight", 0): [4, 5, 6, 7], ("k.weight", 0): [2, 3], ("v.weight", 0): [1], ("o.weight", 1): [2, 3]},
    ]


def test_channels_are_followed_through_a_shuffle() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 4, 4), 6, 1, name="a")
    graph = build.done(build.layer("conv2d", build.layer("channel_shuffle", x, 2), 1, 1, name="b"))
    # Channels [0 1 2 | 3 4 5] become [0 3 1 4 2 5].
    assert groups(graph) == [
        {("a.weight", 0): [0, 3], ("b.weight", 1): [0, 1]},
        {("a.weight", 0): [1, 4], ("b.weight", 1): [2, 3]},
        {("a.weight", 0): [2, 5], ("b.weight", 1): [4, 5]},
    ]


def test_a_grouped_convolution_loses_an_input_of_every_group() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 4, 4), 4, 1, name="a")
    x = build.layer("conv2d", x, 6, 1, name="b", groups=2)
    found = groups(build.done(build.layer("conv2d", x, 1, 1, name="c")))
    assert {("a.weight", 0): [1, 3], ("b.weight", 1): [1]} in found
    assert {("b.weight", 0): [2, 5], ("c.weight", 1): [2, 5]} in found


def test_a_depthwise_channel_is_coupled_with_its_two_outputs() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 4, 4), 2, 1, name="a")
    x = build.layer("conv2d", x, 4, 3, name="b", groups=2)
    assert groups(build.done(build.layer("conv2d", x, 1, 1, name="c"))) == [
        {("a.weight", 0): [0], ("b.weight", 0): [0, 1], ("c.weight", 1): [0, 1]},
        {("a.weight", 0): [1], ("b.weight", 0): [2, 3], ("c.weight", 1): [2, 3]},
    ]


def test_a_tied_weight_is_one_weight() -> None:
    build = Build()
    x = build.layer("embedding", build.input(name="ids", dtype=DType.i64), 5, 2, name="table")
    graph = build.done(build.layer("linear", x, 5, name="head", bias=False, weights={"weight": "table.weight"}))
    assert groups(graph) == [{("table.weight", 1): [0]}, {("table.weight", 1): [1]}]


def test_reasons_name_the_use_that_fixes_the_channels() -> None:
    build = Build()
    x = build.input(4)
    a = build.layer("linear", x, 4, name="a")
    b = build.layer("softmax", build.layer("linear", a, 6, name="b"))
    c = build.layer("linear", b, 3, name="c")
    coupling = Coupling(build.done(build.layer("add", c, build.layer("linear", a, 3, name="d"))))
    reasons = {
        use.node.title: coupling.shrinkable.fixed_indices.get(spots[0]) for use, spots in coupling.produced_axes()
    }
    assert reasons == {
        "a": None,
        "b": "`softmax` combines all of them",
        "c": "the output `y0` has them",
        "d": "the output `y0` has them",
    }


def test_part_of_an_axis_can_be_fixed() -> None:
    build = Build()
    x = build.input(3, 4, 4)
    joined = build.layer("concat", x, build.layer("conv2d", x, 2, 1, name="a"), dim=1)
    coupling = Coupling(build.done(build.layer("conv2d", joined, 1, 1, name="b")))
    assert [slices(group) for group in coupling.groups if group.reason is None] == [
        {("a.weight", 0): [0], ("b.weight", 1): [3]},
        {("a.weight", 0): [1], ("b.weight", 1): [4]},
    ]
    assert {group.reason for group in coupling.groups if group.reason} == {"the input `x` has them"}


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Convolutions with sums, products, concatenations, shuffles and chunks between them."""
    build = Build()
    values: list[Value] = [build.layer("conv2d", build.input(2, 3, 3), 8, 1, name="stem")]
    for number in range(draw(st.integers(1, 7))):
        x, other = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        channels = x.type.shape[1]
        assert isinstance(channels, int)
        kind = draw(st.sampled_from(["conv", "grouped", "depthwise", "add", "mul", "concat", "chunk", "shuffle", "bn"]))
        if kind in ("conv", "grouped", "depthwise"):
            count = {"conv": 1, "grouped": 2, "depthwise": channels}[kind]
            if channels % count == 0:
                size = channels * draw(st.integers(1, 2)) if kind == "depthwise" else 8
                values.append(build.layer("conv2d", x, size, 1, name=f"conv{number}", groups=count))
        elif kind in ("add", "mul") and x.type == other.type:
            values.append(build.layer(kind, x, other))
        elif kind == "concat":
            values.append(build.layer("concat", x, other, dim=1))
        elif kind == "chunk" and channels % 2 == 0:
            part = build.layer("chunk", x, 2, dim=1)
            assert part.producer is not None
            values += part.producer.results
        elif kind == "shuffle" and channels % 2 == 0:
            values.append(build.layer("channel_shuffle", x, 2))
        elif kind == "bn":
            values.append(build.layer("batch_norm", x, name=f"bn{number}"))
    joined = build.layer("concat", *values, dim=1)
    return build.done(build.layer("conv2d", joined, 3, 1, name="last"))


@given(networks())
@settings(max_examples=60, deadline=None)
def test_every_element_of_an_axis_that_can_shrink_is_in_one_group(graph: Graph) -> None:
    coupling = Coupling(graph)
    for path, weight in graph.weights.items():
        for axis, size in enumerate(weight.shape):
            found = Counter(
                int(element) for group in coupling.groups for element in group.slices.get((path, axis), np.zeros(0))
            )
            if found:
                assert found == Counter(range(size))
