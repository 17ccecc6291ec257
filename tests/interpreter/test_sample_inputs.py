"""Random inputs: they depend on the seed alone, have the declared types, and fit the model."""

from __future__ import annotations

import numpy as np
import pytest

import archc
from archc.driver.binding import bind_fresh
from archc.interpreter.sample_inputs import accepted_integers, random_inputs, sample_sizes
from archc.passmanager.calibration import Calibration


def test_equal_seeds_give_equal_inputs() -> None:
    graph = archc.parse(
        "model m { input x: f32[N, 4]  input k: i64[N]  input b: bool[N]  output y = x  output z = k  output w = b }"
    )
    one, again, other = (random_inputs(graph, seed) for seed in (1, 1, 2))
    assert {name: (array.dtype.name, array.shape) for name, array in one.items()} == {
        "x": ("float32", (8, 4)),
        "k": ("int64", (8,)),
        "b": ("bool", (8,)),
    }
    assert all((one[name] == again[name]).all() for name in one)
    assert not (one["x"] == other["x"]).any()


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("input k: i64[N, T]  output y = k -> e: embedding(7, 2)", range(7)),
        ("input k: i64[N, T]  output y = k[:, 1:] -> e: embedding(7, 2)", range(7)),
        ('input k: i64[N, T]  output y = k -> rearrange("n t -> t n") -> e: embedding(7, 2)', range(7)),
        ("input k: i64[N, T]  a = k -> e: embedding(7, 2)  output y = a + (k -> f: embedding(5, 2))", range(5)),
        ("input k: i64[N, T]  output y = k + 1", None),
        ("input k: i64[N, 9]  output y = (zeros((8, 5)), k) -> gather(1)", range(5)),
        ("input k: i32[9]  output y = (zeros((4, 5)), k) -> index_select(-2)", range(4)),
        # A table of three fields: each field has 5 rows.
        ("input k: i64[N, 3]  output y = k + 5 * arange(3) -> e: embedding(15, 2)", range(5)),
        ("input k: i64[N, 3]  output y = 5 * arange(3) + k[:, 1:2] -> e: embedding(15, 2)", range(5)),
        ("input k: i64[N, T]  output y = k + arange(T) -> e: embedding(23, 2)", range(8)),  # T is 16 here
        ("input k: i64[N, 6]  output y = k + ((arange(3), arange(3)) -> concat) -> e: embedding(9, 2)", range(7)),
        ("input k: i64[N, 3]  output y = 3 * k + 2 -> e: embedding(15, 2)", range(5)),
        ("input k: i64[N, 3]  output y = k + -4 -> e: embedding(15, 2)", range(4, 19)),
        # The added value depends on an input, so its range is unknown.
        ("input k: i64[N, 3]  output y = k + k -> e: embedding(250, 2)", None),
        # The size of axis 0 is symbolic; it is 8 in this run.
        ("input k: i64[9]  input x: f32[N, 5]  output y = (x, k) -> index_select(0)", range(8)),
        # `gather` returns elements of `x`, so the embedding limits `x`; only the length of `x` limits `k`.
        ("input k: i64[N, 9]  input x: i64[N, 20]  output y = (x, k) -> gather(1) -> e: embedding(4, 2)", range(20)),
        ("input k: i64[N, 9]  output y = (k, zeros((8, 2)) -> cast(i64)) -> gather(1) -> e: embedding(4, 2)", range(4)),
    ],
)
def test_integers_are_valid_indices(text: str, accepted: range | None) -> None:
    graph = archc.parse(f"model m {{ {text} }}")
    assert accepted_integers(graph, graph.inputs[0], sample_sizes(graph)) == accepted
    bind_fresh(graph, 0)
    array = random_inputs(graph)["k"]
    assert set(np.unique(array)) <= set(accepted or range(100)) and len(np.unique(array)) > 3
    Calibration(graph).outputs(graph)


def test_folded_constants_limit_indices() -> None:
    text = "model m { input k: i64[N, 3]  output y = k + 5 * arange(3) -> e: embedding(15, 2) }"
    graph = archc.compile(text, passes="simplify").graph
    assert [node.op.name for node in graph.nodes()] == ["constant", "add", "embedding"]
    assert accepted_integers(graph, graph.inputs[0], {"N": 8}) == range(5)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ("N, 4", {"N": 8}),
        ("N, T", {"N": 8, "T": 16}),
        ("N, T <= 5", {"N": 8, "T": 5}),
        ("N <= 3, T", {"N": 3, "T": 16}),
    ],
)
def test_sizes(shape: str, sizes: dict[str, int]) -> None:
    assert sample_sizes(archc.parse(f"model m {{ input x: f32[{shape}]  output y = x + 1 }}")) == sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("input x: f32[N, T]  y, places = x -> topk(20)", {"N": 8, "T": 20}),
        ("input x: f32[N, T]  y, places = x -> topk(600)", {"N": 8, "T": 600}),
        ("input x: f32[N, T]  y, places = x -> topk(20, 0)", {"N": 20, "T": 16}),
        ("input x: f32[N, T <= 25]  y, places = x[:, 5:] -> topk(20)", {"N": 8, "T": 25}),
        ("input x: f32[N <= 30, 4]  y, places = (x, x) -> concat(0) -> topk(41, 0)", {"N": 21}),
        (
            'input x: f32[N, H, W]  y, places = x -> rearrange("n h w -> n (h w)") -> topk(300)',
            {"N": 8, "H": 32, "W": 32},
        ),
    ],
)
def test_sizes_are_large_enough_for_what_operators_need(text: str, sizes: dict[str, int]) -> None:
    graph = archc.parse(f"model m {{ {text}  output y  output places }}")
    assert sample_sizes(graph) == sizes
    Calibration(graph).outputs(graph)


def test_data_is_not_split_along_an_axis_with_a_minimum_size() -> None:
    graph = archc.parse("model m { input x: f32[N, 4]  y, places = x -> topk(3, 0)  output y  output places }")
    data = {"x": np.zeros((70, 4), np.float32)}
    assert [len(batch["x"]) for batch in Calibration(graph, data).batches()] == [70]
    graph = archc.parse("model m { input x: f32[N, 4]  y, places = x -> topk(3)  output y  output places }")
    assert [len(batch["x"]) for batch in Calibration(graph, data).batches()] == [32, 32, 6]


def test_sizes_are_large_enough_for_every_tensor() -> None:
    stages = "conv2d(4, 7, stride = 4) -> max_pool2d(3) -> conv2d(4, 3)"
    graph = archc.parse(f"model m {{ input x: f32[N, 3, H, W]  output y = x -> {stages} }}")
    bind_fresh(graph, 0)
    assert min(next(iter(Calibration(graph).outputs(graph).values())).shape) >= 1
    assert sample_sizes(graph)["H"] > 16


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16", "i64", "i8", "u8", "bool"])
def test_an_input_may_have_no_axes(dtype: str) -> None:
    """Random inputs without axes are arrays, although NumPy draws a Python number for an empty shape."""
    compiled = archc.compile(f"model m {{ input x: {dtype}[]  output y = x -> identity }}", passes="simplify")
    assert [report.error for report in compiled.passes] == [0]
