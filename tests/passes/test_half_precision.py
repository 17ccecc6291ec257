"""`quant` with `keep_io`: computation in f16 and bf16, against PyTorch and ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

import archc
from archc.codegen.onnx import to_model
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.quant import Quant
from archc.types.storage import Dense, NarrowFloat
from archc.types.tensor_type import DType
from tests.ops.runtimes import at_every_level
from tests.passes.graphs import Build, mlp, remarks, run

NARROW = ["f16", "bf16"]


def block() -> Graph:
    """Return a small network with a norm, a nonlinearity and a softmax."""
    b = Build()
    x = b.layer("layer_norm", b.layer("linear", b.input(24), 40, name="fc1"), name="norm")
    return b.done(b.layer("softmax", b.layer("linear", b.layer("gelu", x), 12, name="fc2")))


def reference(graph: Graph, dtype: torch.dtype) -> nn.Module:
    """Return the network of `block` in PyTorch, with the weights of the graph."""
    model = nn.Sequential(nn.Linear(24, 40), nn.LayerNorm(40), nn.GELU(), nn.Linear(40, 12), nn.Softmax(-1))
    places = {"fc1": "0", "norm": "1", "fc2": "3"}
    state = {path: torch.from_numpy(graph.weight_values(path).copy()) for path in graph.weights}
    model.load_state_dict({f"{places[path.split('.')[0]]}.{path.split('.')[1]}": each for path, each in state.items()})
    return model.to(dtype).eval()


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("keep_io", [True, False])
def test_a_network_computes_as_that_of_pytorch(narrow: str, keep_io: bool) -> None:
    graph, x = block(), floats(6, 24)
    dtype = getattr(torch, DType(narrow).torch)
    with torch.no_grad():
        expected = reference(graph, dtype)(x.to(dtype))
    before = sum(weight.nbytes for weight in graph.weights.values())
    run(graph, Quant(narrow, keep_io=keep_io))
    assert sum(weight.nbytes for weight in graph.weights.values()) == before / 2
    outer = DType.f32 if keep_io else DType(narrow)
    assert [value.type.dtype for value in (*graph.inputs, *graph.outputs.values())] == [outer, outer]
    (found,) = evaluate(graph, {"x": x.to(getattr(torch, outer.torch))}).values()
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=0)
    assert archc.parse(archc.print_graph(graph)) == graph


@pytest.mark.parametrize("narrow", NARROW)
def test_onnx_agrees_within_units_in_the_last_place(narrow: str) -> None:
    graph, x = block(), floats(6, 24)
    run(graph, Quant(narrow, keep_io=True))
    (expected,) = evaluate(graph, {"x": x}).values()
    unit = {"f16": 2.0**-10, "bf16": 2.0**-7}[narrow]
    model = to_model(graph)
    results = [*at_every_level(model, {"x": x.numpy()})]
    if narrow == "f16":  # the reference has no bf16
        results.append(("onnx.reference", ReferenceEvaluator(model).run(None, {"x": x.numpy()})))
    for runtime, (found,) in results:
        np.testing.assert_allclose(found, expected.numpy(), rtol=4 * unit, atol=4 * unit / 12, err_msg=runtime)


def test_without_the_option_only_the_file_is_narrow() -> None:
    graph = block()
    run(graph, Quant("f16"))
    assert {node.result.type.dtype for node in graph.nodes()} == {DType.f32}
    assert graph.weights["fc1.weight"].storage == NarrowFloat(DType.f16)


@pytest.mark.parametrize("options", [{"keep": "fc2"}, {"on": ("fc1", "norm", "kind:gelu")}])
def test_layers_that_are_not_selected_stay_in_f32(options: dict[str, str | tuple[str, ...]]) -> None:
    graph, x = block(), floats(6, 24)
    model = reference(graph, torch.float32)
    (report,) = run(graph, Quant("f16", keep_io=True, **options))
    assert remarks(report, "left")["fc2"] == "not selected"
    layers = {node.path or node.kind: node for node in graph.nodes()}
    assert layers["fc2"].result.type.dtype is DType.f32 and graph.weights["fc2.weight"].dtype is DType.f32
    assert layers["fc1"].result.type.dtype is DType.f16
    with torch.no_grad():
        hidden = model[:3].half()(x.half()).float()
        expected = model[3](hidden)
        expected = expected.softmax(-1) if "on" in options else expected.half().softmax(-1).float()
    (found,) = evaluate(graph, {"x": x}).values()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_values_beyond_f16_on_the_data_stay_in_f32() -> None:
    """A square is too large for f16, and the mean of the squares is not."""
    text = "model m { input x: f32[N, 8]  output y = x * x -> mean(dim = 1) -> sqrt -> relu }"
    data = {"x": np.eye(8, dtype=np.float32) * 300}
    kinds = {}
    for narrow in NARROW:
        graph = archc.compile(text, passes=f"quant({narrow}, keep_io = true)", calib=data).graph
        kinds[narrow] = {node.kind: node.result.type.dtype.value for node in graph.nodes() if node.kind != "cast"}
    assert kinds["f16"] == {"mul": "f32", "mean": "f32", "sqrt": "f16", "relu": "f16"}
    assert set(kinds["bf16"].values()) == {"bf16"}


def test_a_weight_beyond_f16_stays_in_f32() -> None:
    graph = mlp(4, 4, 4, weights={"fc2.weight": np.full((4, 4), 7e4)})
    (report,) = run(graph, Quant("f16", keep_io=True))
    assert remarks(report, "left") == {"fc2": "`fc2.weight` has values up to 7e+04, and f16 ends at 6.55e+04"}
    assert np.array_equal(graph.weight_values("fc2.weight"), np.full((4, 4), 7e4, np.float32))


def test_an_embedding_and_its_head_share_a_table_of_16_bits() -> None:
    b = Build()
    table = b.layer("embedding", b.input(3, name="ids", dtype=DType.i64), 11, 6, name="wte")
    y = b.layer("linear", b.layer("tanh", table), 11, bias=False, name="head", weights={"weight": "wte.weight"})
    graph = b.done(y)
    (report,) = run(graph, Quant("f16", keep_io=True))
    assert graph.weights["wte.weight"].storage == NarrowFloat(DType.f16)
    assert next(node for node in graph.nodes() if node.kind == "tanh").result.type.dtype is DType.f16
    assert remarks(report, "left") == {"head": "it shares `wte.weight` with a layer in f32"}


def test_layers_that_share_a_weight_have_one_dtype() -> None:
    b = Build()
    x = b.layer("linear", b.input(6), 6, bias=False, name="fc1")
    graph = b.done(b.layer("linear", x, 6, bias=False, name="fc2", weights={"weight": "fc1.weight"}))
    run(graph, Quant("f16", keep_io=True, keep="fc2"))
    assert {node.result.type.dtype for node in graph.nodes()} == {DType.f32}
    assert graph.weights["fc1.weight"].storage == Dense()


SCAN = """model m {
    input x: f32[N, T, 4]
    scan x_t in x, h = zeros((N, 4)) {
        h = x_t + h -> fc: linear(4) -> tanh
        yield y = h
    }
    output y = y
    output last = h
}
"""


@pytest.mark.parametrize("passes", ["quant(f16, keep_io = true)", 'quant(f16, keep_io = false, keep = "fc")'])
def test_programs_with_a_recurrence_agree(passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(SCAN, passes=passes)
    report = compiled.write(tmp_path, check=True)
    assert set(report["check"]["errors"]) == {"torch", "onnxruntime"}
    assert report["check"]["tolerance"] >= 4 * 2.0**-10
    states = [node for node in compiled.graph.nodes() if node.kind == "zeros"]
    assert [node.result.type.dtype for node in states] == [DType.f16]


def test_reports_compare_programs_whose_inputs_have_other_dtypes(tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 4]  output y = x -> fc: linear(8) }"
    data = {"x": floats(12, 4).numpy()}
    compiled = archc.compile(text, passes="quant(f16, keep_io = false)", calib=data, baseline=True)
    report = compiled.write(tmp_path, emit="torch", check=True, measure=True)
    assert report["latency"]["programs"]["torch"]["before"]
    (layer,) = report["layers"]
    assert layer["snr_db"] > 50


def test_other_formats_have_no_such_option(tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 4]  output x -> fc: linear(4) }"
    report = archc.compile(text, passes="quant(int4, keep_io = true)").write(tmp_path, emit="torch", check=False)
    assert "option-without-effect" in [each["code"] for each in report["warnings"]]


LONG = 4096
DELICATE = {
    "softmax": lambda x: x.softmax(-1),
    "layer_norm": lambda x: nn.functional.layer_norm(x, (LONG,)),
    "mean(dim = 1)": lambda x: x.mean(1),
    "sum(dim = 1)": lambda x: x.sum(1),
    "var(dim = 1)": lambda x: x.var(1),
}
"""Operators with sums over the last axis, each with its function in PyTorch."""


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("operator", DELICATE)
def test_sums_are_accumulated_in_f32(operator: str, narrow: str) -> None:
    """The error against f64 is that of rounding the result, at most a few units in the last place."""
    text = f"model m {{ input x: f32[N, {LONG}]  output y = x -> {operator} }}"
    graph = archc.compile(text, passes=f"quant({narrow}, keep_io = false)").graph
    dtype = getattr(torch, DType(narrow).torch)
    x = (floats(4, LONG) + 3).to(dtype)
    (found,) = evaluate(graph, {"x": x}).values()
    assert found.dtype is dtype
    expected = DELICATE[operator](x.double())
    unit = {"f16": 2.0**-10, "bf16": 2.0**-7}[narrow]
    assert float((found.double() - expected).abs().max() / expected.abs().max()) < 1.5 * unit
    for runtime, (result,) in at_every_level(to_model(graph), {"x": x.numpy()}) if narrow == "f16" else ():
        error = np.abs(result.astype(np.float64) - expected.numpy()).max() / float(expected.abs().max())
        assert error < 1.5 * unit, runtime


def test_outputs_beyond_f16_have_a_way_out() -> None:
    text = "model m { input x: f32[N, 4]  output y = x -> fc: linear(4) }"
    weights = {"fc.weight": np.full((4, 4), 1000, np.float32), "fc.bias": np.zeros(4, np.float32)}
    data = {"x": np.full((8, 4), 100, np.float32)}
    with pytest.raises(ArchcError) as refused:
        archc.compile(text, weights=weights, passes="quant(f16, keep_io = false)", calib=data)
    (found,) = refused.value.diagnostics
    assert found.code == "pass-not-finite" and found.help is not None and "`keep_io = true`" in found.help
    for passes in ("quant(f16, keep_io = true)", "quant(bf16, keep_io = false)"):
        archc.compile(text, weights=weights, passes=passes, calib=data)


@pytest.mark.parametrize("dtype", ["f64", "f16"])
def test_operators_of_another_dtype_stay_as_they_are(dtype: str) -> None:
    text = f"model m {{ input x: {dtype}[N, 8]  output y = x -> fc: linear(4) }}"
    made = archc.compile(text, passes="quant(bf16, keep_io = false)")
    (remark,) = made.passes[0].remarks
    assert (remark.layer, remark.kind) == ("fc", "left") and f"its weights are {dtype}" in remark.message


@pytest.mark.parametrize("narrow", NARROW)
def test_remarks_have_the_effect_of_each_layer(narrow: str) -> None:
    graph, data, dtype = block(), floats(40, 24), getattr(torch, DType(narrow).torch)
    exact, rounded = reference(graph, torch.float32), reference(graph, dtype)
    (report,) = run(graph, Quant(narrow, keep_io=True), data={"x": data.numpy()})
    figures = {remark.layer: remark.figures for remark in report.remarks if remark.kind == "rewrote"}
    with torch.no_grad():
        for layer, place in ("fc1", 0), ("norm", 1), ("fc2", 3):
            x = exact[:place](data)
            signal, noise = exact[place](x), rounded[place](x.to(dtype)).float() - exact[place](x)
            expected = 10 * torch.log10(signal.square().sum() / noise.square().sum()).item()
            assert figures[layer]["snr_db"] == pytest.approx(expected, abs=0.02)
        outputs = exact(data), rounded(data.to(dtype)).float()
    total = sum(float(each["output_error"]) for each in figures.values())
    error = ((outputs[1] - outputs[0]).square().mean() / outputs[0].square().mean()).item()
    # The total lacks the rounding in `gelu` and `softmax`, which have no weights.
    assert error / 4 < total < 2 * error


def test_a_table_in_the_file_alone_has_an_effect() -> None:
    text = "model m { input ids: i64[N, 4]  output y = ids -> table: embedding(50, 16) -> fc: linear(8) }"
    ids = np.random.default_rng(0).integers(0, 50, (30, 4))
    compiled = archc.compile(text, passes="quant(bf16, keep_io = true)", calib={"ids": ids})
    ratios = {remark.layer: remark.figures["snr_db"] for remark in compiled.passes[0].remarks}
    assert ratios.keys() == {"table", "fc"} and all(45 < float(ratio) < 65 for ratio in ratios.values())
