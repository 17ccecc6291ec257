"""Lockstep evaluation: the values of both models are those of the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.compression.calibration.lockstep import Lockstep
from archc.interpreter.evaluate import evaluate, evaluate_all
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.ops.quantize import Dequantize, Quantize
from archc.passmanager.calibration import Calibration
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp

SPECS = Path(__file__).parents[2] / "specs"


def batches(graph: Graph) -> list[dict[str, torch.Tensor]]:
    return [next(Calibration(graph, seed=seed).batches()) for seed in range(2)]


def test_layers_see_the_compressed_layers_before_them() -> None:
    graph = mlp(6, 5, 4, 3)
    original = mlp(6, 5, 4, 3)
    inputs = batches(graph)
    steps = Lockstep(graph, inputs)
    rewriter = Rewriter(graph)
    layers = [node for node in original.nodes() if node.path]
    for node in steps.nodes():
        if node.path is None:
            continue
        for batch, (float_operand, operand), result in zip(inputs, steps.operands(node), steps.results(node)):
            twin = next(other for other in layers if other.path == node.path)
            for value, expected, tensors in (
                (twin.operands[0], float_operand, original),
                (node.operands[0], operand, graph),
                (twin.results[0], result, original),
            ):
                rewriter_of = Rewriter(tensors)
                rewriter_of.output("probe", value)
                assert torch.equal(evaluate(tensors, batch)["probe"], expected)
                rewriter_of.output("probe", tensors.outputs["y0"])
        rewriter.set_weight(node.weights["weight"], graph.weight_values(node.weights["weight"]) * 0.5)
        steps.changed(node.weights["weight"])


def test_the_error_of_a_shortcut_is_known() -> None:
    build = Build()
    x = build.input(4)
    shortcut = build.layer("linear", x, 4, name="a")
    branch = build.layer("linear", shortcut, 4, name="b")
    graph = build.done(build.layer("add", shortcut, branch))
    inputs = batches(graph)
    steps = Lockstep(graph, inputs)
    for node in steps.nodes():
        if node.path == "a":
            assert [error is None for error in steps.error(x)] == [True, True]
            Rewriter(graph).set_weight("a.weight", np.zeros((4, 4), np.float32))
            steps.changed("a.weight")
        if node.path == "b":
            for batch, error, (floats, compressed) in zip(inputs, steps.error(shortcut), steps.operands(node)):
                assert error is not None and torch.equal(error, floats - compressed)
                assert torch.equal(compressed, graph_bias(graph, len(batch["x"])))


def test_the_original_model_has_no_quantizers() -> None:
    build = Build()
    q = build.rewriter.add(Quantize(DType.u8, dynamic=True), [build.input(4)])
    rounded = build.rewriter.add(Dequantize(), list(q.results))
    graph = build.done(build.layer("linear", build.layer("relu", rounded.result), 4, name="fc"))
    inputs = batches(graph)
    steps = Lockstep(graph, inputs, [q, rounded])
    for node in steps.nodes():
        if node.path == "fc":
            for batch, (floats, compressed) in zip(inputs, steps.operands(node)):
                assert torch.equal(floats, batch["x"].relu())
                assert 0 < float((floats - compressed).abs().max()) < 0.02


def graph_bias(graph: Graph, count: int) -> torch.Tensor:
    return torch.from_numpy(graph.weight_values("a.bias").copy()).expand(count, -1)


@pytest.mark.parametrize("spec", ["tagger", "speech_recognizer", "cnn"])
def test_every_kind_of_node_runs(spec: str) -> None:
    """Scans, recurrent layers and nodes with several results run, and unchanged weights give no error."""
    graph = archc.compile(SPECS / f"{spec}.arch").graph
    steps = Lockstep(graph, [next(Calibration(graph).batches())])
    seen = 0
    for node in steps.nodes():
        seen += 1
        if node.operands and node.operands[0].type.dtype.floating:
            assert all(torch.equal(*pair) for pair in steps.operands(node))
            assert list(steps.error(node.operands[0])) == [None]
    assert seen >= 5


def test_evaluations_in_turns_leave_the_gradient_mode_as_it_was() -> None:
    """Two evaluations that end in the order in which they began must not disable gradients."""
    graph = mlp(6, 5, 4)
    (batch,) = [next(Calibration(graph).batches())]
    first, second = evaluate_all(graph, batch), evaluate_all(graph, batch)
    for _ in zip(first, second):
        assert torch.is_grad_enabled()
    steps, others = Lockstep(graph, [batch]).nodes(), Lockstep(graph, [batch]).nodes()
    for _ in zip(steps, others):
        assert torch.is_grad_enabled()
    assert torch.is_grad_enabled()
