"""`lowrank`, compared with the singular value decomposition of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.compression.factorization.low_rank import Svd
from archc.passes.lowrank import LowRank
from archc.passmanager import make_pass
from archc.types.attributes import AttributeProblem
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp, of_rank, operators, outputs, remarks, run

matrices = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000)).map(
    lambda given: np.random.default_rng(given[2]).standard_normal(given[:2])
)


@given(matrices, st.data())
@settings(max_examples=60, deadline=None)
def test_truncation_errs_by_the_discarded_singular_values(matrix: np.ndarray, data: st.DataObject) -> None:
    svd = Svd.of(matrix)
    rank = data.draw(st.integers(1, min(matrix.shape)))
    down, up = svd.factors(rank)
    expected = np.linalg.svd(matrix, compute_uv=False)
    assert np.allclose(svd.values, expected, atol=1e-7 * expected[0])
    assert np.linalg.norm(matrix - up @ down) == pytest.approx(np.linalg.norm(expected[rank:]), abs=1e-7 * expected[0])
    assert svd.error(rank) == pytest.approx(np.linalg.norm(expected[rank:]) / np.linalg.norm(expected), abs=1e-7)


@given(matrices)
@settings(max_examples=40, deadline=None)
def test_full_rank_gives_the_matrix_back(matrix: np.ndarray) -> None:
    down, up = Svd.of(matrix).factors(min(matrix.shape))
    assert np.allclose(up @ down, matrix, atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 20), (20, 9), (9, 9)])
def test_small_singular_values_are_kept(shape: tuple[int, int]) -> None:
    """The error at each rank is the norm of the discarded singular values, even if they are tiny."""
    values = [10.0**-k for k in range(8)]
    matrix = of_rank(*shape, values)
    svd = Svd.of(matrix)
    for rank in range(1, 8):
        down, up = svd.factors(rank)
        assert np.linalg.norm(matrix - up @ down) == pytest.approx(np.linalg.norm(values[rank:]), rel=0.1)
        assert svd.error(rank) == pytest.approx(np.linalg.norm(values[rank:]) / np.linalg.norm(values), rel=0.1)
    down, up = svd.factors(8)
    assert np.linalg.norm(matrix - up @ down) < 1e-8


@given(matrices, st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it(matrix: np.ndarray, energy: float) -> None:
    svd = Svd.of(matrix)
    rank = svd.rank_for(energy)
    assert svd.kept(rank) >= energy - 1e-9
    assert rank == 1 or svd.kept(rank - 1) < energy


def test_a_matrix_of_zeros_has_rank_one() -> None:
    svd = Svd.of(np.zeros((3, 5)))
    assert svd.rank_for(0.9) == 1
    assert svd.error(1) == 0


def test_the_factors_share_the_singular_values() -> None:
    down, up = Svd.of(of_rank(20, 30, [100.0, 1.0, 0.01])).factors(3)
    assert np.allclose(np.linalg.norm(down, axis=1), np.linalg.norm(up, axis=0))


def test_a_linear_layer_of_low_rank_becomes_two_and_computes_the_same() -> None:
    graph = mlp(256, 192, weights={"fc1.weight": of_rank(192, 256, [3.0, 2.0, 1.0])})
    before = outputs(graph)["y0"]
    (report,) = run(graph, LowRank(rank=3))
    assert operators(graph) == ["linear(3, bias = false)", "linear(192)"]
    assert list(graph.weights) == ["fc1.a.weight", "fc1.b.weight", "fc1.b.bias"]
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)
    assert report.after.parameters == 3 * (192 + 256) + 192
    assert "rank 3 of 192" in remarks(report, "rewrote")["fc1"]


@pytest.mark.parametrize(
    ("op", "shape", "kernel", "options"),
    [
        ("conv1d", (24, 40), (3,), {"padding": 1}),
        ("conv2d", (24, 12, 12), (3, 5), {"stride": 2, "padding": (1, 2)}),
        ("conv2d", (24, 12, 12), (3, 3), {"dilation": 2, "bias": False}),
        ("conv3d", (24, 4, 5, 6), (2, 2, 2), {}),
    ],
)
def test_a_convolution_becomes_one_of_its_kernel_and_one_of_kernel_1(
    op: str, shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object]
) -> None:
    build = Build()
    size = kernel[0] if len(kernel) == 1 else kernel
    y = build.layer(op, build.input(*shape), 32, size, name="conv", **options)
    weight = of_rank(32, 24 * int(np.prod(kernel)), [2.0, 1.0, 0.5, 0.25]).reshape(32, 24, *kernel)
    graph = build.done(y, weights={"conv.weight": weight})
    before = outputs(graph)["y0"]
    run(graph, LowRank(rank=4))
    first, second = graph.nodes()
    assert (first.path, second.path) == ("conv.a", "conv.b")
    assert graph.weights["conv.a.weight"].shape == (4, 24, *kernel)
    assert graph.weights["conv.b.weight"].shape == (32, 4, *[1] * len(kernel))
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)


def test_the_error_that_is_reported_is_the_error_of_the_weight() -> None:
    values = np.geomspace(10, 0.01, 64)
    graph = mlp(300, 64, weights={"fc1.weight": of_rank(64, 300, list(values))})
    weight = graph.weight_values("fc1.weight")
    (report,) = run(graph, LowRank(rank=10))
    product = graph.weight_values("fc1.b.weight") @ graph.weight_values("fc1.a.weight")
    error = np.linalg.norm(product - weight) / np.linalg.norm(weight)
    (remark,) = [remark for remark in report.remarks if remark.kind == "rewrote"]
    assert remark.figures["error"] == pytest.approx(error, rel=1e-3)
    assert error == pytest.approx(np.linalg.norm(values[10:]) / np.linalg.norm(values), rel=1e-4)


def test_ranks_found_by_energy_keep_it_and_are_aligned() -> None:
    graph = mlp(1024, 512, weights={"fc1.weight": of_rank(512, 1024, list(np.geomspace(1, 1e-3, 512)))})
    (report,) = run(graph, LowRank(energy=0.95))
    (remark,) = report.remarks
    assert remark.kind == "rewrote"
    assert float(remark.figures["energy"]) >= 0.95
    assert int(remark.figures["rank"]) % 16 == 0


def test_ratio_is_of_the_smaller_side() -> None:
    graph = mlp(1024, 256)
    run(graph, LowRank(ratio=0.25))
    assert operators(graph)[0] == "linear(64, bias = false)"


def test_a_layer_that_would_grow_is_left_alone_with_the_figures() -> None:
    graph = mlp(64, 64)
    (report,) = run(graph, LowRank(rank=32))
    assert operators(graph) == ["linear(64)"]
    assert remarks(report, "left") == {"fc1": "rank 32 of 64 would not make it smaller: r(m + n) = 4,096 ≥ mn = 4,096"}


def test_a_small_layer_is_left_alone_unless_its_rank_is_given() -> None:
    assert "would be slower" in remarks(run(mlp(32, 64), LowRank(ratio=0.25))[0], "left")["fc1"]
    assert "fc1" in remarks(run(mlp(32, 64), LowRank(rank=8))[0], "rewrote")


def test_selected_layers_alone_are_factorized() -> None:
    graph = mlp(256, 256, 256, 256)
    (report,) = run(graph, LowRank(rank=8, on=("fc1", "fc2"), keep="fc2"))
    assert list(remarks(report, "rewrote")) == ["fc1"]
    assert remarks(report, "left") == {"fc2": "not selected", "fc3": "not selected"}


def test_a_layer_used_twice_is_factorized_once_for_both_uses() -> None:
    build = Build()
    x = build.input(256)
    first = build.layer("linear", x, 256, name="fc")
    graph = build.done(build.layer("linear", build.layer("relu", first), 256, name="fc"))
    run(graph, LowRank(rank=8))
    assert [node.path for node in graph.nodes()] == ["fc.a", "fc.b", None, "fc.a", "fc.b"]
    assert list(graph.weights) == ["fc.a.weight", "fc.b.weight", "fc.b.bias"]


def test_tied_and_other_layers_are_left_alone() -> None:
    build = Build()
    ids = build.input(dtype=DType.i64, name="ids")
    x = build.layer("embedding", ids, 300, 200, name="wte")
    head = build.layer("linear", x, 300, name="head", bias=False, weights={"weight": "wte.weight"})
    (report,) = run(build.done(head), LowRank(rank=2))
    assert remarks(report, "rewrote") == {}
    left = remarks(report, "left")
    assert left["head"] == "it shares its weight with `wte`"
    assert set(left) == {"wte", "head"}


def test_weights_that_are_not_finite_are_left_alone() -> None:
    weight = np.ones((64, 64))
    weight[3, 4] = np.nan
    (report,) = run(mlp(64, 64, weights={"fc1.weight": weight}), LowRank(rank=2))
    assert remarks(report, "left") == {"fc1": "its weight has NaN or infinite elements"}


@pytest.mark.parametrize(
    ("options", "code", "argument"),
    [
        ({"rank": 3, "energy": 0.9}, "conflicting-options", "energy"),
        ({"rank": 0}, "bad-option", "rank"),
        ({"ratio": 1.5}, "bad-option", "ratio"),
        ({"energy": 0.0}, "bad-option", "energy"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], code: str, argument: str) -> None:
    with pytest.raises(AttributeProblem) as caught:
        make_pass("lowrank", named=options)
    assert (caught.value.code, caught.value.argument) == (code, argument)
