"""Passes that rewrite the body of a `scan`: the graph, its text and its programs agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archc
from archc.codegen.onnx import run as run_onnx
from archc.codegen.onnx import to_model
from archc.codegen.pipeline import split
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ir.scans import Scan, schedule
from archc.ir.stages import Stages
from archc.language.printing.printer import print_graph
from tests.codegen.scan_cases import ELMAN, TEXTS
from tests.codegen.torch_modules import assert_agrees, inputs_of

SIZES = {"B": 3, "T": 4, "S": 2}
TAGGER = ELMAN.replace("    output last = h\n", "")
CELL = TEXTS["a block that is one step of two states"].replace(
    "        output y\n        output c", "        output z = y -> head: linear(2)"
)


def agrees(graph: Graph, folder: Path) -> None:
    """Check that the emitted programs agree with a graph, and that its printed text reads back."""
    assert archc.parse(print_graph(graph)) == graph
    assert_agrees(graph, folder, atol=1e-4, **SIZES)
    inputs = inputs_of(graph, **SIZES)
    found = run_onnx(to_model(graph), {name: tensor.numpy() for name, tensor in inputs.items()}, exact=True)
    for name, wanted in evaluate(graph, inputs).items():
        torch.testing.assert_close(torch.from_numpy(found[name]), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("case", TEXTS)
def test_exact_passes_keep_the_results(case: str, tmp_path: Path) -> None:
    before = archc.compile(TEXTS[case]).graph
    graph = archc.compile(TEXTS[case], passes="simplify, fold, simplify").graph
    agrees(graph, tmp_path)
    inputs = inputs_of(graph, **SIZES)
    for name, wanted in evaluate(before, inputs).items():
        torch.testing.assert_close(evaluate(graph, inputs)[name], wanted, atol=1e-5, rtol=1e-4)


UNREAD = """model m {
    input x: f32[B, T, 4]
    scan x_t in x, h = zeros((B, 4)), c = zeros((B, 4)), d = zeros((B, 4)) {
        h = h + x_t + c
        c = c + x_t
        d = d + h
        yield a = d -> fc: linear(2)
        yield b = h -> gc: linear(2)
    }
    output b
}"""


def test_dead_states_and_sequences_are_removed(tmp_path: Path) -> None:
    before, graph = (archc.compile(UNREAD, passes=passes).graph for passes in ("", "simplify"))
    agrees(graph, tmp_path)
    assert set(graph.weights) == {"gc.weight", "gc.bias"}
    (scan,) = (item for item in schedule(graph) if isinstance(item, Scan))
    assert len(scan.first_states) == 2 and len(scan.kept) == 1
    inputs = inputs_of(graph, **SIZES)
    assert torch.equal(evaluate(before, inputs)["b"], evaluate(graph, inputs)["b"])


@pytest.mark.parametrize("passes", ["quant(int8)", 'prune(0.4, scheme = "channel")'])
@pytest.mark.parametrize("case", TEXTS)
def test_compressed_steps_are_the_same_everywhere(case: str, passes: str, tmp_path: Path) -> None:
    agrees(archc.compile(TEXTS[case], passes=passes).graph, tmp_path)


@pytest.mark.parametrize(
    "passes",
    [
        'quant(int8, scheme = "static", least = 65_536)',
        'quant(int8, scheme = "dynamic", least = 65_536)',
        "prune(0.5)",
        "lowrank(ratio = 0.2)",
    ],
)
def test_a_wide_cell_is_compressed(passes: str, tmp_path: Path) -> None:
    before = archc.compile(ELMAN, values={"hidden": 160})
    compiled = archc.compile(ELMAN, values={"hidden": 160}, passes=passes)
    assert [remark.layer for report in compiled.passes for remark in report.remarks if remark.kind == "rewrote"]
    agrees(compiled.graph, tmp_path)
    inputs = inputs_of(compiled.graph, **SIZES)
    found, wanted = (evaluate(graph, inputs)["y"] for graph in (compiled.graph, before.graph))
    assert 0 < (found - wanted).abs().max() < 0.6 * wanted.abs().max()


# Channels -----------------------------------------------------------------------------------------------------


def test_a_feature_is_removed_from_the_state_and_all_weights(tmp_path: Path) -> None:
    before = archc.compile(TAGGER).graph
    graph = archc.compile(TAGGER, passes='prune(0.5, scheme = "channel", multiple = 1)').graph
    shapes = {path: weight.shape for path, weight in graph.weights.items()}
    assert shapes["w_xh.weight"] == (3, 4) and shapes["w_hh.weight"] == (3, 3) and shapes["w_hy.weight"] == (3, 3)
    assert "h = zeros((B, 3))" in print_graph(graph)
    # Reference: the original model, with zero weights for the removed features in later layers.
    whole, kept = before.weight_values("w_xh.weight"), graph.weight_values("w_xh.weight")
    left = [int(abs(whole - row).sum(1).argmin()) for row in kept]
    inputs = inputs_of(graph, **SIZES)
    x, hidden = inputs["x"], torch.zeros(3, 6)
    weights = {path: torch.from_numpy(before.weight_values(path).copy()) for path in before.weights}
    for path in ("w_hh.weight", "w_hy.weight"):
        weights[path][:, [number for number in range(6) if number not in left]] = 0
    outputs = []
    for t in range(x.shape[1]):
        hidden = x[:, t] @ weights["w_xh.weight"].T + weights["w_xh.bias"] + hidden @ weights["w_hh.weight"].T
        hidden = hidden.tanh()
        outputs.append(hidden @ weights["w_hy.weight"].T + weights["w_hy.bias"])
    torch.testing.assert_close(evaluate(graph, inputs)["y"], torch.stack(outputs, 1))
    agrees(graph, tmp_path)


def test_the_gates_of_a_feature_are_removed_together(tmp_path: Path) -> None:
    graph = archc.compile(CELL, passes='prune(0.4, scheme = "channel", multiple = 1)').graph
    shapes = {path: weight.shape for path, weight in graph.weights.items()}
    assert shapes["cell.w.weight"] == (12, 4) and shapes["cell.u.weight"] == (12, 3)
    assert shapes["head.weight"] == (2, 3)
    agrees(graph, tmp_path)


def test_a_state_that_is_an_output_keeps_its_channels() -> None:
    compiled = archc.compile(ELMAN, passes='prune(0.5, scheme = "channel", multiple = 1)')
    said = {remark.layer: remark.message for report in compiled.passes for remark in report.remarks}
    assert said["w_xh"] == "its channels are fixed: the output `last` has them"


# Stages -------------------------------------------------------------------------------------------------------

# The two excluded models have no nodes outside the scan.
SPLITTABLE = [case for case in TEXTS if case not in ("no state", "one sequence twice")]


@pytest.mark.parametrize("case", SPLITTABLE)
def test_a_scan_is_in_one_stage(case: str) -> None:
    compiled = archc.compile(TEXTS[case], passes="partition(2)")
    stages = Stages(compiled.graph)
    for item in schedule(compiled.graph):
        if hasattr(item, "nodes"):
            assert len({stages.of_node[node] for node in item.nodes}) == 1
    inputs = inputs_of(compiled.graph, **SIZES)
    values = inputs
    for stage in split(compiled.graph):
        values = evaluate(stage.graph, values)
    for name, wanted in evaluate(compiled.graph, inputs).items():
        torch.testing.assert_close(values[name], wanted)


def test_a_pipeline_with_a_scan_in_it_runs(tmp_path: Path) -> None:
    text = """model m {
        input x: f32[B, T, 4]
        z = x -> up: linear(8) -> relu
        scan z_t in z, h = zeros((B, 8)) {
            h = (z_t -> w: linear(8)) + (h -> u: linear(8)) -> tanh
            yield y = h
        }
        output y = y -> down: linear(3)
    }"""
    report = archc.compile(text, passes="partition(3)").write(tmp_path, check=True)
    assert report["check"]["errors"].keys() == {"torch", "onnxruntime", "torch stages", "onnxruntime stages"}
    assert max(report["check"]["errors"].values()) < 1e-5
