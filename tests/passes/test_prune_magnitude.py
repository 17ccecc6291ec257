"""Pruning by magnitude: choice and number of masked weights, printed text, programs and later passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import archc
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.language.printing.printer import print_graph
from archc.passes.fold import Fold
from archc.passes.lowrank import LowRank
from archc.passes.prune import Prune
from archc.passes.quant import Quant
from archc.types.storage import Dense, Int8, Masked
from tests.passes.awkward import GRAPHS, residual, tied
from tests.passes.graphs import Build, mlp, outputs, remarks, run


def alive(graph: Graph, path: str) -> np.ndarray:
    assert graph.tensors is not None
    return graph.tensors[f"{path}_mask"].numpy()


def masked_paths(graph: Graph) -> set[str]:
    return {path for path, weight in graph.weights.items() if isinstance(weight.storage, Masked)}


def zeros(graph: Graph) -> int:
    return sum(int((~alive(graph, path)).sum()) for path in masked_paths(graph))


def test_the_smallest_weights_of_each_layer_are_masked() -> None:
    first = np.array([[3.0, -1.0], [0.5, -4.0]])
    graph = mlp(2, 2, 2, weights={"fc1.weight": first, "fc2.weight": first * 100})
    (report,) = run(graph, Prune(0.5, scope="layer"))
    assert np.array_equal(graph.weight_values("fc1.weight"), [[3, 0], [0, -4]])
    assert np.array_equal(graph.weight_values("fc2.weight"), [[300, 0], [0, -400]])
    assert np.array_equal(alive(graph, "fc1.weight"), [[True, False], [False, True]])
    assert remarks(report, "rewrote") == dict.fromkeys(("fc1", "fc2"), "2 of 4 weights are zero (50.0%)")
    figures = [remark.figures for remark in report.remarks if remark.kind == "rewrote"]
    assert figures == [{"weights": 4, "zeros": 2, "sparsity": 0.5}] * 2


def test_the_bytes_of_masks_are_noted() -> None:
    (report,) = run(mlp(2, 2, 2), Prune(0.5))
    assert report.after.bytes - report.before.bytes == 8
    assert remarks(report, "note")["net"] == "4 of 8 selected weights are zero; the masks add 8 bytes"
    (report,) = run(mlp(2, 2, 2), Prune(0))
    assert remarks(report, "note")["net"] == "0 of 8 selected weights are zero"


def test_all_layers_compete_under_one_threshold() -> None:
    weights = {"fc1.weight": np.array([[1.0, 2.0], [3.0, 4.0]]), "fc2.weight": np.array([[0.5, 5.0], [6.0, 2.5]])}
    graph = mlp(2, 2, 2, weights=weights)
    run(graph, Prune(0.5))
    assert np.array_equal(graph.weight_values("fc1.weight"), [[0, 0], [3, 4]])
    assert np.array_equal(graph.weight_values("fc2.weight"), [[0, 5], [6, 0]])


@given(
    st.lists(
        hnp.arrays(np.float32, (3, 4), elements=st.sampled_from([0.0, 1.0, -1.0, 0.25, 2.0**-140, 1e30])),
        min_size=2,
        max_size=3,
    ),
    st.floats(0, 0.99),
)
@settings(max_examples=60)
def test_the_asked_number_of_smallest_weights_is_masked(values: list[np.ndarray], share: float) -> None:
    build = Build()
    x = build.input(4)
    made = [build.layer("linear", x, 3, name=f"fc{number}", bias=False) for number in range(len(values))]
    graph = build.done(*made, weights={f"fc{number}.weight": array for number, array in enumerate(values)})
    run(graph, Prune(share))
    flat = np.concatenate([array.ravel() for array in values])
    paths = [f"fc{number}.weight" for number in range(len(values))]
    kept = np.concatenate([alive(graph, p).ravel() if p in masked_paths(graph) else np.ones(12, bool) for p in paths])
    assert (~kept).sum() == round(share * len(flat))
    assert np.abs(flat[~kept]).max(initial=0) <= np.abs(flat[kept]).min(initial=np.inf)
    after = np.concatenate([graph.weight_values(path).ravel() for path in paths])
    assert np.array_equal(after, np.where(kept, flat, 0))


def test_biases_and_norms_stay() -> None:
    graph = residual()
    (report,) = run(graph, Prune(0.7))
    assert masked_paths(graph) == {"stem.weight", "conv1.weight", "conv2.weight", "fc.weight"}
    assert remarks(report, "left") == dict.fromkeys(("bn1", "bn2"), "none of its weights is contracted with data")


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("lstm(6, num_layers = 2, bidirectional = true)", 8),
        ("linear(6)", 1),
        ("conv1d(6, 3, groups = 3)", 1),
        ("layer_norm", 0),
        ("prelu", 0),
    ],
)
def test_weights_are_masked_if_the_signature_sums_over_them(stage: str, expected: int) -> None:
    text = f"model net {{ input x: f32[N, 6, 6]  output y = x -> a: {stage} }}"
    graph = archc.compile(text, passes='prune(0.5, scope = "layer")').graph
    assert len(masked_paths(graph)) == expected
    assert not any("bias" in path for path in masked_paths(graph))


def test_an_embedding_is_masked_only_if_a_linear_layer_has_its_weight() -> None:
    build = Build()
    x = build.layer("embedding", build.input(5, name="ids", dtype=archc.DType.i64), 11, 8, name="wte")
    graph = build.done(build.layer("linear", x, 11, name="head"))
    run(graph, Prune(0.5))
    assert masked_paths(graph) == {"head.weight"}
    graph = tied()
    (report,) = run(graph, Prune(0.5, scope="layer"))
    layers = graph.layers()
    assert layers["wte"].weights["weight"] == layers["head"].weights["weight"] == "wte.weight"
    assert masked_paths(graph) == {"wte.weight", "up.weight", "down.weight"}
    assert (
        remarks(report, "rewrote")["wte"] == remarks(report, "rewrote")["head"] == "44 of 88 weights are zero (50.0%)"
    )


def test_a_shared_weight_stays_with_a_layer_that_is_kept() -> None:
    graph = tied()
    (report,) = run(graph, Prune(0.5, keep="wte"))
    assert masked_paths(graph) == {"up.weight", "down.weight"}
    assert remarks(report, "left") == {
        "wte": "not selected",
        "head": "it shares `wte.weight` with `wte`, which is not selected",
    }


def test_weights_that_cannot_be_masked_stay_with_a_remark() -> None:
    graph = mlp(4, 4, 4, 4, weights={"fc1.weight": np.full((4, 4), np.nan)})
    Rewriter(graph).set_storage("fc2.weight", Int8(0))
    (report,) = run(graph, Prune(0.5))
    assert remarks(report, "left") == {
        "fc1": "`fc1.weight` has NaN or infinite elements",
        "fc2": "`fc2.weight` is stored as int8(axis = 0): run `prune` before the pass that encodes it",
    }
    assert masked_paths(graph) == {"fc3.weight"}


def test_masked_weights_count_towards_the_sparsity() -> None:
    twice, once = mlp(8, 16, 8), mlp(8, 16, 8)
    run(twice, Prune(0.5), Prune(0.8))
    run(once, Prune(0.8))
    assert zeros(once) == round(0.8 * 256)
    for path in masked_paths(once):
        assert np.array_equal(alive(twice, path), alive(once, path))
        assert np.array_equal(twice.weight_values(path), once.weight_values(path))
    (report,) = run(twice, Prune(0.5))
    assert not remarks(report, "rewrote")
    assert "of its weights are zero already" in remarks(report, "left")["fc1"]


def test_weights_that_happen_to_be_zero_are_not_masked_for_it() -> None:
    """Zero weights beyond the sparsity are not masked, since masked weights are never trained."""
    graph = mlp(4, 4, weights={"fc1.weight": np.zeros((4, 4))})
    run(graph, Prune(0.25))
    assert alive(graph, "fc1.weight").sum() == 12


def test_sparsity_zero_masks_nothing() -> None:
    graph = mlp(4, 4, 4)
    (report,) = run(graph, Prune(0))
    assert not masked_paths(graph)
    assert remarks(report, "left")["fc1"] == "none of its weights is among the smallest"


@pytest.mark.parametrize("name", GRAPHS)
def test_a_masked_model_agrees_with_one_with_zero_weights(name: str) -> None:
    graph, expected = GRAPHS[name](), GRAPHS[name]()
    run(graph, Prune(0.6))
    assert masked_paths(graph)
    rewriter = Rewriter(expected)
    for path in masked_paths(graph):
        rewriter.set_weight(path, np.where(alive(graph, path), expected.weight_values(path), np.float32(0)))
    assert torch.equal(outputs(graph)["y0"], outputs(expected)["y0"])
    assert archc.parse(print_graph(graph)) == graph


# Masked weights in later passes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_masks_lose_the_pruned_channels(name: str) -> None:
    graph, dense = GRAPHS[name](), GRAPHS[name]()
    run(graph, Prune(0.5))
    for path in masked_paths(graph):
        Rewriter(dense).set_weight(path, graph.weight_values(path))
    for one in (graph, dense):
        run(one, Prune(0.5, scheme="channel"))
    assert masked_paths(graph)
    for path in masked_paths(graph):
        assert alive(graph, path).shape == graph.weights[path].shape == dense.weights[path].shape
        assert np.array_equal(graph.weight_values(path), dense.weight_values(path))
    assert torch.equal(outputs(graph)["y0"], outputs(dense)["y0"])


def test_zeros_stay_exact_in_int8() -> None:
    graph = mlp(64, 64, 8)
    run(graph, Prune(0.5))
    gone = {path: ~alive(graph, path) for path in masked_paths(graph)}
    (report,) = run(graph, Quant(scheme="weight"))
    assert gone.keys() == {"fc1.weight", "fc2.weight"}
    for path, zero in gone.items():
        assert isinstance(graph.weights[path].storage, Int8)
        assert not graph.weight_values(path)[zero].any()
    assert graph.tensors is not None and not any(name.endswith("_mask") for name in graph.tensors)
    assert remarks(report, "note")["fc1"] == "int8 replaces its mask; masked weights stay zero"


def test_a_norm_is_folded_into_a_masked_weight() -> None:
    graph = residual()
    run(graph, Prune(0.5))
    before = outputs(graph)["y0"]
    gone = ~alive(graph, "conv1.weight")
    (report,) = run(graph, Fold())
    assert remarks(report, "rewrote") == {
        "bn1": "folded into `conv1` before it",
        "bn2": "folded into `conv2` before it",
    }
    assert isinstance(graph.weights["conv1.weight"].storage, Masked)
    assert gone.any() and not alive(graph, "conv1.weight")[gone].any()
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)


def test_a_masked_weight_is_not_factorized() -> None:
    graph = mlp(64, 64, 8)
    run(graph, Prune(0.5, on="fc1"))
    (report,) = run(graph, LowRank(rank=2))
    assert remarks(report, "left") == {"fc1": "its weight is stored as masked: run `lowrank` first"}
    assert isinstance(graph.weights["fc2.a.weight"].storage, Dense)
