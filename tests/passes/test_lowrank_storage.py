"""Weights stored as two factors: in recurrent layers, in parameters, and with `low_rank` in a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import archc
from archc.codegen.torch.load import load_module
from archc.driver.binding import bind_fresh
from archc.ir.rewriter import Rewriter
from archc.language.printing.printer import print_graph
from archc.passes._factor_formats import format_for, set_format
from archc.types.storage import Int8, LowRankStorage

RECURRENT = """
model m {
    input x: f32[N, T, 24]
    output y = x -> r: CELL -> f: linear(4)
}
"""
CELLS = ["lstm(16)", "gru(16, num_layers = 2)", "rnn(16, bidirectional = true)", "lstm(16, bias = false)"]
PARAMETER = """
model m {
    input x: f32[N, 32]
    layer table = parameter((32, 48))
    output y = (x, table()) -> matmul
}
"""
IN_TEXT = """
model m {
    input x: f32[N, 8, 12, 12]
    output y = x -> c: conv2d(16, 3, weight = low_rank(5)) -> flatten -> f: linear(10, weight = low_rank(2))
}
"""


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers_get_factors_for_both_kinds_of_weights(cell: str, tmp_path: Path) -> None:
    text = RECURRENT.replace("CELL", cell)
    compiled = archc.compile(text, passes="lowrank(rank = 4, on = 'r')", sizes="T=16")
    (report,) = compiled.passes
    matrices = [w for path, w in compiled.graph.weights.items() if path.startswith("r.weight")]
    assert all(weight.storage == LowRankStorage(4) for weight in matrices)
    rewrote = [remark.message for remark in report.remarks if remark.kind == "rewrote"]
    assert len(rewrote) == len(matrices)
    assert any("weight_hh_l0 stored" in message for message in rewrote) and 0 < report.error < 2
    assert report.after.parameters < report.before.parameters
    compiled.write(tmp_path, check=True)  # checks that PyTorch and ONNX Runtime agree with the graph
    module = load_module(tmp_path / "m.py").load()
    assert sum(p.numel() for p in module.parameters()) == report.after.parameters
    stored = sum(
        int(np.prod(one.dims)) for one in onnx.load(tmp_path / "m.onnx").graph.initializer if len(one.dims) > 1
    )
    assert stored == sum(p.numel() for p in module.parameters() if p.ndim > 1)
    module.train()(torch.randn(2, 5, 24)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
    printed = print_graph(compiled.graph)
    assert archc.parse(printed) == compiled.graph and print_graph(archc.parse(printed)) == printed


def test_the_factors_are_the_nearest_ones(tmp_path: Path) -> None:
    text = RECURRENT.replace("CELL", "lstm(16)")
    before = archc.compile(text).graph
    after = archc.compile(text, passes="lowrank(rank = 4, on = 'r')", sizes="T=16").graph
    for path in ("r.weight_ih_l0", "r.weight_hh_l0"):
        left, scales, right = np.linalg.svd(before.weight_values(path).astype(np.float64), full_matrices=False)
        nearest = left[:, :4] * scales[:4] @ right[:4]
        np.testing.assert_allclose(after.weight_values(path), nearest, atol=1e-5)


def test_parameters_get_factors_too(tmp_path: Path) -> None:
    compiled = archc.compile(PARAMETER, passes="lowrank(rank = 4)")
    assert compiled.graph.weights["table.weight"].storage == LowRankStorage(4)
    compiled.write(tmp_path, check=True)


def test_a_weight_that_would_grow_stays_with_a_remark() -> None:
    text = RECURRENT.replace("CELL", "lstm(16)")
    (report,) = archc.compile(text, passes="lowrank(rank = 16, on = 'r')", sizes="T=16").passes
    left = {
        remark.message.partition(":")[0] for remark in report.remarks if remark.kind == "left" and remark.layer == "r"
    }
    assert left == {"weight_hh_l0"}


@pytest.mark.parametrize(
    ("cell", "quant", "storage"),
    [
        (CELLS[0], "quant(least = 0)", "int8(axis = 0)"),
        (CELLS[1], "quant(granularity = 'tensor')", "int8"),
        (CELLS[2], "quant(int4, group = 4)", "int4(group = 4)"),
        (CELLS[3], "quant(f16)", "f16"),
        (CELLS[0], "quant(f8e5m2)", "f8e5m2"),
    ],
)
def test_quant_rounds_both_factors(cell: str, quant: str, storage: str, tmp_path: Path) -> None:
    text = RECURRENT.replace("CELL", cell)
    before = archc.compile(text, passes="lowrank(rank = 4, on = 'r')", sizes="T=16").graph
    compiled = archc.compile(text, passes=f"lowrank(rank = 4, on = 'r'), {quant}", sizes="T=16")
    for path, weight in compiled.graph.weights.items():
        if path.startswith("r.weight"):
            assert str(weight.storage) == f"low_rank(4, format = {storage})"
            own, other = (graph.weight_values(path).astype(np.float64) for graph in (compiled.graph, before))
            assert np.linalg.norm(own - other) < 0.15 * np.linalg.norm(other)
            assert weight.nbytes < 0.51 * before.weights[path].nbytes
    compiled.write(tmp_path, check=True)  # checks that PyTorch and ONNX Runtime agree with the graph
    printed = print_graph(compiled.graph)
    assert archc.parse(printed) == compiled.graph and print_graph(archc.parse(printed)) == printed


def test_components_of_factors_are_rounded_with_the_same_relative_error() -> None:
    """A scale for a row of the left factor does not lose the small singular values."""
    sizes = np.geomspace(1, 1e-3, 4)
    left, right = (np.linalg.qr(np.random.default_rng(n).normal(size=(n, 4)))[0] for n in (64, 32))
    graph = archc.parse("model m { input x: f32[N, T, 32]  output x -> r: rnn(64, weight_ih_l0 = low_rank(4)) }")
    bind_fresh(graph, 0)
    path, rewriter = "r.weight_ih_l0", Rewriter(graph)
    rewriter.set_weight(path, (left * sizes @ right.T).astype(np.float32))
    set_format(graph, rewriter, path, format_for(graph.weights[path], Int8(0)))
    np.testing.assert_allclose(np.diag(left.T @ graph.weight_values(path) @ right), sizes, rtol=0.01)


def test_factors_get_formats_within_a_budget() -> None:
    text = RECURRENT.replace("CELL", "rnn(128)")
    compiled = archc.compile(text, passes="lowrank(rank = 16, on = 'r'), quant(bytes = 32000)", sizes="T=4")
    storages = [weight.storage for path, weight in compiled.graph.weights.items() if path.startswith("r.weight")]
    assert any(isinstance(each, LowRankStorage) and each.format is not None for each in storages)


def test_low_rank_in_a_text_is_allowed_for_any_matrix(tmp_path: Path) -> None:
    graph = archc.parse(IN_TEXT)
    bind_fresh(graph, 0)
    assert graph.weights["c.weight"].parameters == 5 * (16 + 8 * 9)
    compiled = archc.compile(IN_TEXT, passes="fold")
    compiled.write(tmp_path, check=True)
    model = load_module(tmp_path / "m.py").load()
    assert tuple(model.state_dict()["c.weight_right"].shape) == (5, 8, 3, 3)


@pytest.mark.parametrize("inner", ["low_rank(2)", "masked", "fake_quantized(int8)"])
def test_factors_have_no_other_format(inner: str) -> None:
    text = f"model m {{ input x: f32[N, 8]  output y = x -> f: linear(16, weight = low_rank(2, {inner})) }}"
    with pytest.raises(archc.ArchcError, match="its factors can be integers or narrow floats"):
        archc.parse(text)


@pytest.mark.parametrize("storage", ["low_rank(9)", "low_rank(0)"])
def test_ranks_out_of_range_are_refused(storage: str) -> None:
    text = "model m {\n    input x: f32[N, 8]\n    output y = x -> f: linear(16, weight = STORAGE)\n}\n"
    with pytest.raises(archc.ArchcError, match="`rank` must be from 1 to 8"):
        archc.parse(text.replace("STORAGE", storage))
