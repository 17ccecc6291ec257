"""`prune` with calibration data: masks by SparseGPT and Wanda, patterns, remarks and warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.pipelines import parse_passes
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.lowrank import LowRank
from archc.passes.prune import Prune
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.storage import Masked, Sparse
from tests.codegen.torch_modules import assert_agrees
from tests.passes.awkward import tied
from tests.passes.graphs import Build, mlp, remarks, run
from tests.passes.test_narrow_weights import correlated, data, network
from tests.passes.test_prune_magnitude import alive, masked_paths


def error(make: Callable[[], Graph], step: Prune, samples: dict[str, np.ndarray]) -> float:
    """Relative error of the outputs on other data than those of the calibration."""
    held_out = {name: torch.from_numpy(array) for name, array in data(64, 1).items()}
    graph = make()
    before = evaluate(graph, held_out)["y0"]
    run(graph, step, data=samples)
    return float((evaluate(graph, held_out)["y0"] - before).norm() / before.norm())


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"sparsity": 0.7}, {"pattern": "2:4"}], ids=str)
def test_data_reduce_the_error(options: dict[str, float | str]) -> None:
    plain = error(network, Prune(**options, scope="layer", method="magnitude"), data())  # type: ignore[arg-type]
    wanda = error(network, Prune(**options, method="wanda"), data())  # type: ignore[arg-type]
    found = error(network, Prune(**options), data())  # type: ignore[arg-type]
    assert found < 0.6 * wanda and wanda < 0.99 * plain


def test_masks_are_exact_and_biases_absorb_the_mean_error() -> None:
    graph, before = network(), network()
    (report,) = run(graph, Prune(0.5, scope="layer"), data=data())
    assert masked_paths(graph) == {f"{name}.weight" for name in ("conv", "fc", "up", "down", "head")}
    for path in masked_paths(graph):
        mask, values = alive(graph, path), graph.weight_values(path)
        assert not values[~mask].any() and (~mask).sum() == mask.size // 2
        assert not np.allclose(values[mask], before.weight_values(path)[mask], atol=1e-4)
    for bias in ("fc.bias", "down.bias"):
        assert not np.allclose(graph.weight_values(bias), before.weight_values(bias), atol=1e-4)
    assert remarks(report, "rewrote")["fc"] == "18,432 of 36,864 weights are zero (50.0%), by SparseGPT"
    (figures,) = (one.figures for one in report.remarks if one.kind == "rewrote" and one.layer == "fc")
    assert figures["method"] == "sparsegpt"


def test_the_effects_on_the_outputs_divide_the_global_share() -> None:
    graph = network()
    (report,) = run(graph, Prune(0.5), data=data())
    shares = {path: 1 - alive(graph, path).mean() for path in masked_paths(graph)}
    sizes = {path: graph.weights[path].size for path in shares}
    assert max(shares.values()) - min(shares.values()) > 0.1
    assert abs(sum(shares[path] * sizes[path] for path in shares) - sum(sizes.values()) / 2) <= len(sizes)
    assert len(remarks(report, "rewrote")) == 5


def test_patterns_hold_in_each_row() -> None:
    for method in ("sparsegpt", "wanda", "magnitude"):
        graph = network()
        run(graph, Prune(pattern="1:3", method=method), data=data())  # type: ignore[arg-type]
        for path in masked_paths(graph):
            mask = alive(graph, path)
            for group in np.split(mask.reshape(len(mask), -1), range(3, mask[0].size, 3), axis=1):
                assert (group.sum(1) == 1).all()
        assert len(masked_paths(graph)) == 5


def test_wanda_scales_columns_by_the_norms_of_their_inputs() -> None:
    weight = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, -3.0, 2.0, -1.0]])
    graph = mlp(4, 2, weights={"fc1.weight": weight})
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32) * np.float32([100, 1, 1, 1])
    run(graph, Prune(0.5, method="wanda"), data={"x": x})
    assert np.array_equal(graph.weight_values("fc1.weight"), [[1, 0, 0, 4], [4, -3, 0, 0]])


def test_masks_of_an_earlier_pass_stay_and_count() -> None:
    graph = network()
    run(graph, Prune(0.3, method="magnitude", scope="layer"), data=data())
    before = {path: alive(graph, path) for path in masked_paths(graph)}
    run(graph, Prune(0.6, scope="layer"), data=data())
    for path, mask in before.items():
        now = alive(graph, path)
        assert not (now & ~mask).any() and (~now).sum() == round(0.6 * now.size)
    again = network()
    (report,) = run(again, Prune(0), data=data())
    assert not masked_paths(again) and not remarks(report, "rewrote")


def test_layers_without_a_matrix_are_pruned_by_magnitude() -> None:
    build = Build()
    x = build.layer("gru", build.input(5, 6), 8, name="gru")
    graph = build.done(build.layer("linear", x, 8, name="fc"))
    (report,) = run(graph, Prune(0.5), data={"x": correlated(64, 30).reshape(64, 5, 6)})
    assert remarks(report, "note")["gru"] == "pruned by magnitude: `gru` has 2 weights"
    assert (
        "by SparseGPT" not in remarks(report, "rewrote")["gru"] and "by SparseGPT" in remarks(report, "rewrote")["fc"]
    )
    assert len(masked_paths(graph)) == 3
    graph = tied()
    ids = {"ids": np.random.default_rng(0).integers(0, 11, graph_shape(graph))}
    (report,) = run(graph, Prune(0.5), data=ids)
    assert remarks(report, "note")["head"] == "pruned by magnitude: it shares a weight with `wte`"


def graph_shape(graph: Graph) -> tuple[int, ...]:
    return (8, *(int(str(dim)) for dim in graph.inputs[0].type.shape[1:]))


def test_rows_with_no_more_weights_than_the_pattern_keeps_stay() -> None:
    (report,) = run(mlp(2, 8, 2), Prune(pattern="2:4", method="magnitude"))
    assert remarks(report, "left")["fc1"] == "its rows have no more weights than the pattern keeps"
    assert "fc2" in remarks(report, "rewrote")


def test_patterns_need_inputs_along_rows() -> None:
    build = Build()
    x = build.layer("conv_transpose2d", build.input(4, 6, 6), 8, 3, name="up")
    graph = build.done(build.layer("conv2d", x, 4, 1, name="conv"))
    (report,) = run(graph, Prune(pattern="2:4"))
    assert remarks(report, "left")["up"] == "the first axis of `up.weight` is that of its inputs"
    assert masked_paths(graph) == {"conv.weight"}
    run(graph, Prune(0.5))
    assert masked_paths(graph) == {"up.weight", "conv.weight"}


@pytest.mark.parametrize("scheme", ["element", "magnitude"])
def test_a_warning_if_trained_weights_have_no_data(scheme: str) -> None:
    for trained, method, expected in ((True, None, 1), (True, "magnitude", 0), (False, None, 0)):
        graph, diagnostics = mlp(8, 8), Diagnostics()
        step = Prune(0.5, scheme=scheme, method=method)  # type: ignore[arg-type]
        list(run_passes(graph, [step], Calibration(graph, trained=trained), diagnostics=diagnostics))
        codes = [one.code for one in diagnostics.warnings if one.code == "plain-method"]
        assert len(codes) == (expected if scheme == "element" else 0)


def test_the_old_name_of_the_scheme_masks_by_magnitude() -> None:
    old, new = network(), network()
    run(old, Prune(0.5, scheme="magnitude"), data=data())
    run(new, Prune(0.5, method="magnitude"), data=data())
    for path in masked_paths(new):
        assert np.array_equal(old.weight_values(path), new.weight_values(path))
        assert old.weights[path].storage == Masked()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prune", "missing-option"),
        ('prune(0.5, pattern = "2:4")', "conflicting-options"),
        ('prune(pattern = "4:2")', "bad-option"),
        ('prune(pattern = "2 of 4")', "bad-option"),
        ('prune(0.5, scheme = "magnitude", method = "wanda")', "bad-option"),
        ('prune(0.5, scheme = "channel", method = "sparsegpt")', "bad-option"),
    ],
)
def test_contradictory_options_are_refused(text: str, code: str) -> None:
    with pytest.raises(ArchcError) as caught:
        parse_passes(text)
    assert [one.code for one in caught.value.diagnostics] == [code]


def test_programs_agree(tmp_path: Path) -> None:
    graph = network()
    run(graph, Prune(pattern="2:4"), data=data())
    assert_agrees(graph, tmp_path, N=3)
    assert archc.parse(archc.print_graph(graph)) == graph


# Bitmasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_sparse_weights_are_those_of_masks_in_fewer_bytes(pattern: str | None, tmp_path: Path) -> None:
    share = 0.5 if pattern is None else None
    masked, sparse = network(), network()
    run(masked, Prune(share, pattern=pattern), data=data())
    (report,) = run(sparse, Prune(share, pattern=pattern, storage="sparse"), data=data())
    for path in masked_paths(masked):
        assert isinstance(sparse.weights[path].storage, Sparse)
        assert np.array_equal(sparse.weight_values(path), masked.weight_values(path))
    assert {path: weight.shape for path, weight in sparse.weights.items()} == {
        path: weight.shape for path, weight in masked.weights.items()
    }
    stored = sum(sparse.weights[path].nbytes for path in masked_paths(masked))
    dense = sum(sparse.weights[path].size * 4 for path in masked_paths(masked))
    assert stored <= 0.56 * dense
    (note,) = (one for one in report.remarks if one.kind == "note" and "bytes_after" in one.figures)
    assert note.figures == {"bytes_before": dense, "bytes_after": stored}
    assert archc.parse(archc.print_graph(sparse)) == sparse
    assert_agrees(sparse, tmp_path, N=3)


def test_sparse_weights_are_written_and_read(tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 64]  output y = x -> fc1: linear(64) -> relu -> fc2: linear(8) }"
    compiled = archc.compile(text, passes='prune(0.5, storage = "sparse")')
    report = compiled.write(tmp_path / "out", check=True)
    assert set(report["check"]["errors"]) == {"torch", "onnxruntime"}
    again = archc.compile(tmp_path / "out/net.arch", weights=tmp_path / "out/net.safetensors")
    for path in again.graph.weights:
        assert np.array_equal(again.graph.weight_values(path), compiled.graph.weight_values(path))
    given = {path: tensor.numpy() for path, tensor in compiled.graph.stored_tensors().items()}
    given["fc1.weight_mask"] = given["fc1.weight_mask"] ^ np.uint8(1)
    with pytest.raises(ArchcError) as caught:
        archc.compile(tmp_path / "out/net.arch", weights=given)
    assert [one.code for one in caught.value.diagnostics] == ["weights-malformed"]


def test_later_passes_leave_sparse_weights() -> None:
    graph = mlp(64, 64, 8)
    run(graph, Prune(0.5, storage="sparse"))
    (report,) = run(graph, Prune(0.8))
    assert "is stored as sparse(" in remarks(report, "left")["fc1"]
    (report,) = run(graph, LowRank(rank=2))
    assert "stored as sparse" in remarks(report, "left")["fc1"]
    run(graph, Quant("int4"))
    assert all(isinstance(graph.weights[f"{name}.weight"].storage, Sparse) for name in ("fc1", "fc2"))
