"""`quant`: smoothing of operands with outliers in some channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run as run_onnx
from archc.codegen.onnx import to_model
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.quant import Quant
from archc.passmanager import make_pass
from archc.types.attributes import AttributeProblem
from tests.codegen.torch_modules import imported
from tests.compression.test_smoothing import with_outliers
from tests.passes.graphs import Build, operators, remarks, run

WIDTH = 64
DATA = with_outliers(96, WIDTH)


def heads(*names: str, between: bool = False) -> Graph:
    """Linear layers of one operand, which is also an output."""
    build = Build()
    x = build.layer("tanh", build.input(WIDTH)) if between else build.input(WIDTH)
    return build.done(*(build.layer("linear", x, 32, name=name) for name in names), x)


def smoothed(graph: Graph) -> list[str]:
    return [node.path or "" for node in graph.nodes() if node.op.name == "constant"]


def error(graph: Graph, wanted: Graph) -> float:
    feed = {"x": torch.from_numpy(DATA)}
    found, expected = evaluate(graph, feed)["y0"], evaluate(wanted, feed)["y0"]
    return float((found - expected).norm() / expected.norm())


def test_layers_of_one_operand_share_one_multiplication() -> None:
    graph = heads("query", "key", "value")
    (report,) = run(graph, Quant(least=0), data={"x": DATA})
    assert smoothed(graph) == ["query_smooth"]
    assert [op for op in operators(graph) if op in ("mul", "quantize(u8)")] == ["mul", "quantize(u8)"]
    share = next(note.figures["squared_error_share"] for note in report.remarks if note.layer == "key")
    assert isinstance(share, float) and "operand smoothed with α" in remarks(report, "note")["key"]
    assert f"the squared error of the result falls to {share:.0%}" in remarks(report, "note")["key"]
    plain = heads("query", "key", "value")
    run(plain, Quant(least=0, smooth=0), data={"x": DATA})
    assert smoothed(plain) == []
    float_graph = heads("query", "key", "value")
    assert error(graph, float_graph) < error(plain, float_graph) / 2


def test_operands_without_outliers_are_not_smoothed() -> None:
    data = np.random.default_rng(0).standard_normal((96, WIDTH)).astype(np.float32)
    graph = heads("fc")
    run(graph, Quant(least=0), data={"x": data})
    assert smoothed(graph) == []
    run(fixed := heads("fc"), Quant(least=0, smooth=0.5), data={"x": data})
    assert smoothed(fixed) == ["fc_smooth"]


def test_operands_with_scales_of_tokens_are_smoothed() -> None:
    float_graph = heads("fc")
    errors = []
    for strength, names in ((None, ["fc_smooth"]), (0, [])):
        graph = heads("fc")
        run(graph, Quant(least=0, scheme="dynamic", granularity="token", smooth=strength), data={"x": DATA})
        assert smoothed(graph) == names
        errors.append(error(graph, float_graph))
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("options", [{"scheme": "weight"}, {"scheme": "dynamic", "smooth": 0.0}, {"smooth": 0.0}])
def test_float_operands_are_not_smoothed(options: dict[str, object]) -> None:
    graph = heads("fc")
    run(graph, Quant(least=0, **options), data={"x": DATA})  # type: ignore[arg-type]
    assert smoothed(graph) == []


@pytest.mark.parametrize("strength", [None, 0.5])
def test_operands_of_zeros_are_not_smoothed(strength: float | None) -> None:
    run(graph := heads("fc"), Quant(least=0, smooth=strength), data={"x": DATA * 0})
    assert smoothed(graph) == []


def test_random_inputs_are_not_smoothed() -> None:
    run(graph := heads("fc"), Quant(least=0))
    assert smoothed(graph) == []


def test_weights_of_several_uses_keep_their_values() -> None:
    build = Build()
    x = build.input(WIDTH)
    first = build.layer("linear", x, WIDTH, name="fc")
    tied = build.layer("linear", x, WIDTH, name="tied", weights={"weight": "other.weight"})
    build.layer("linear", first, WIDTH, name="other")
    graph = build.done(build.layer("linear", first, WIDTH, name="fc"), tied)
    run(graph, Quant(least=0, smooth=0.8), data={"x": DATA})
    assert smoothed(graph) == []


def test_the_operand_of_an_integer_layer_stays_integer() -> None:
    """Between two integer layers, a multiplication would need floats."""
    build = Build()
    x = build.layer("conv2d", build.input(16, 8, 8), 16, 3, name="conv")
    graph = build.done(build.layer("linear", build.layer("flatten", build.layer("relu", x)), 32, name="fc"))
    data = np.random.default_rng(0).standard_normal((16, 16, 8, 8)).astype(np.float32)
    run(graph, Quant(least=0, smooth=0.8), data={"x": data})
    assert smoothed(graph) == []


def test_programs_agree_with_a_smoothed_graph(tmp_path: Path) -> None:
    graph = heads("query", "key", between=True)
    run(graph, Quant(least=0, smooth=0.8), data={"x": DATA})
    assert archc.parse(archc.print_graph(graph)) == graph
    y = evaluate(graph, {"x": torch.from_numpy(DATA)})["y0"].numpy()
    scale = np.abs(y).max()
    np.testing.assert_allclose(run_onnx(to_model(graph), {"x": DATA}, exact=True)["y0"], y, atol=0.02 * scale)
    with torch.no_grad():
        found = imported(graph, tmp_path).load()(torch.from_numpy(DATA))[0].numpy()
    np.testing.assert_allclose(found, y, atol=0.02 * scale)


def test_a_strength_beyond_1_is_refused() -> None:
    with pytest.raises(AttributeProblem, match="must be between 0 and 1"):
        make_pass("quant", [], {"smooth": 1.5})
