"""Recurrent operators with `dynamic`, compared with other runtimes and with floats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import checker
from onnx.reference import ReferenceEvaluator

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.diagnostics import ArchcError
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph

LSTM_STATES = "  input h: f32[4, N, 8]  input c: f32[4, N, 8]"
STATE = "  input h: f32[4, N, 8]"
FORMS = {
    "one layer": ("", "x", "(8, dynamic = (0,))"),
    "second layer": ("", "x", "(8, 2, dynamic = (1,))"),
    "without bias": ("", "x", "(8, bias = false, dynamic = (0,))"),
    "both directions": ("", "x", "(8, 2, bidirectional = true, dynamic = (0, 1))"),
    "states": ("", "x", "(8, 2, bidirectional = true, dynamic = (0, 1))"),
    "lengths": ("  input n: i64[N]", "(x, n)", "(8, 2, bidirectional = true, dynamic = (0, 1))"),
}
OPERATORS = {"lstm": "lstm(8", "gru": "gru(8", "rnn": "rnn(8", "rnn of relu": 'rnn(8, nonlinearity = "relu"'}


def layer(operator: str, form: str) -> tuple[str, str, str]:
    """Declarations, operands and call of a recurrent operator."""
    declared, given, options = FORMS[form]
    if form == "states":
        declared, given = (LSTM_STATES, "(x, h, c)") if operator == "lstm" else (STATE, "(x, h)")
    options = options.removeprefix("(8").replace(" 2,", " num_layers = 2,")
    return declared, given, OPERATORS[operator] + options


LAYERS = {f"{operator}, {form}": layer(operator, form) for operator in OPERATORS for form in FORMS}


def compiled(declared: str, operands: str, layer: str, passes: str = 'quant(scheme = "weight")') -> Compiled:
    cell = layer.startswith("lstm")
    text = f"model m {{ input x: f32[N, T, 5]{declared}  a, b{', d' * cell} = {operands} -> r: {layer}\n"
    text = text.replace("dynamic", "return_state = true, dynamic") + "  output y = a  output h_last = b"
    return archc.compile(f"{text}{'  output c_last = d' * cell} }}", passes=passes)


def operands(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {"x": random.standard_normal((3, 7, 5)), "h": random.standard_normal((4, 3, 8)) / 2}
    made |= {"c": random.standard_normal((4, 3, 8))}
    floats = {name: array.astype(np.float32) for name, array in made.items()}
    arrays = {**floats, "n": np.array([7, 2, 5])}
    return {value.name: arrays[value.name] for value in graph.inputs if value.name}


def by_interpreter(graph: Graph, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = evaluate(graph, {name: torch.from_numpy(array) for name, array in arrays.items()})
    return {name: tensor.numpy() for name, tensor in found.items()}


def in_floats(graph: Graph, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the layer without `dynamic`."""
    (node,) = graph.nodes()
    rounding, node.op = node.op, replace(node.op, dynamic=())
    try:
        return by_interpreter(graph, arrays)
    finally:
        node.op = rounding


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_the_interpreter_rounds_as_onnx_runtime(case: str, granularity: str) -> None:
    graph = compiled(*LAYERS[case], passes=f'quant(scheme = "weight", granularity = "{granularity}")').graph
    arrays = operands(graph)
    model = onnx.to_model(graph)
    kernel = "DynamicQuantizeLSTM" if case.startswith("lstm") else "Scan"
    assert kernel in {node.op_type for node in model.graph.node}
    expected, found, floats = by_interpreter(graph, arrays), onnx.run(model, arrays), in_floats(graph, arrays)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-6)
        assert np.abs(floats[name] - array).max() > 1e-4, "the layer rounds"


@pytest.mark.parametrize("case", [case for case in LAYERS if "lengths" in case])
def test_padding_has_no_part_in_the_range(case: str) -> None:
    graph = compiled(*LAYERS[case]).graph
    arrays = operands(graph) | {"n": np.array([4, 2, 3])}
    expected = by_interpreter(graph, arrays)
    padded = arrays["x"].copy()
    padded[np.arange(7) >= arrays["n"][:, None]] = [1e6, -1e6, np.nan, np.inf, 3]
    model = onnx.to_model(graph)
    for x in (arrays["x"], padded):
        for results in by_interpreter(graph, arrays | {"x": x}), onnx.run(model, arrays | {"x": x}):
            for name, array in expected.items():
                np.testing.assert_allclose(results[name], array, atol=2e-6)


@pytest.mark.parametrize("case", [case for case in LAYERS if case.startswith("lstm")])
def test_standard_operators_compute_an_lstm_in_floats(case: str) -> None:
    graph = compiled(*LAYERS[case]).graph
    arrays = operands(graph)
    model = onnx.to_model(graph, contributed=False)
    assert {node.domain for node in model.graph.node} == {""} and [each.domain for each in model.opset_import] == [""]
    for name, array in in_floats(graph, arrays).items():
        np.testing.assert_allclose(onnx.run(model, arrays)[name], array, atol=2e-6)


@pytest.mark.parametrize("case", [case for case in LAYERS if not case.startswith("lstm")])
def test_a_scan_is_standard_onnx(case: str) -> None:
    graph = compiled(*LAYERS[case]).graph
    arrays = operands(graph)
    model = onnx.to_model(graph, contributed=False)
    checker.check_model(model, full_check=True)
    assert {each.domain for each in model.opset_import} == {""}
    if "both" in case or "states" in case or case == "rnn of relu, second layer":
        return  # `onnx.reference` has no reverse `Scan`, and no `RNN` with `Relu`
    found = ReferenceEvaluator(model).run(None, arrays)
    for array, expected in zip(found, by_interpreter(graph, arrays).values(), strict=True):
        np.testing.assert_allclose(array, expected, atol=2e-6)


@pytest.mark.parametrize("sizes", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("case", [case for case in LAYERS if "states" in case or "both" in case])
def test_empty_sequences(case: str, sizes: tuple[int, int]) -> None:
    graph = compiled(*LAYERS[case]).graph
    batch, steps = sizes
    arrays = {"x": np.zeros((batch, steps, 5), np.float32)}
    arrays |= {name: np.full((4, batch, 8), 0.5, np.float32) for name in "hc"}
    inputs = {value.name: arrays[value.name] for value in graph.inputs if value.name}
    found = onnx.run(onnx.to_model(graph), inputs)
    assert found["y"].shape == (batch, steps, 16)
    assert (found["h_last"] == (0.5 if "states" in case else 0)).all() or steps > 0


def test_a_layer_with_float_weights_has_no_integer_kernel() -> None:
    graph = compiled(*LAYERS["lstm, one layer"], passes="").graph
    assert {node.domain for node in onnx.to_model(graph).graph.node} == {""}


def test_the_check_allows_for_the_rounding_and_not_for_more(tmp_path: Path) -> None:
    made = compiled(*LAYERS["lstm, both directions"])
    check = made.write(tmp_path, emit=("torch", "onnx"), check=True)["check"]
    assert 1e-4 < check["errors"]["torch"] < check["tolerance"] < 0.1
    assert check["errors"]["onnxruntime"] < 1e-5


def test_a_program_decodes_its_weights_once(tmp_path: Path) -> None:
    made = compiled("", "x", "rnn(8, 2, dynamic = ())")
    made.write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / "m.py").load()
    arrays = operands(made.graph)
    x = torch.from_numpy(arrays["x"])
    with torch.no_grad():
        before = module(x)
        decoded = dict(module.r._forms)
        assert sorted(decoded) == [f"weight_{kind}_l{layer}" for kind in ("hh", "ih") for layer in (0, 1)]
        module(x)
        assert all(module.r._forms[name] is tensor for name, tensor in decoded.items())
        for found, wanted in zip(before, in_floats(made.graph, arrays).values(), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-6)
        module.r.weight_hh_l1.neg_()
        assert not torch.equal(module(x)[0], before[0]), "a changed weight is decoded again"


def test_the_text_has_the_layers() -> None:
    graph = compiled(*LAYERS["lstm, both directions"]).graph
    assert "dynamic = (0, 1)" in archc.print_graph(graph)
    assert archc.parse(archc.print_graph(graph)) == graph


@pytest.mark.parametrize("layer", ["lstm(8, 2, dynamic = (2,))", "gru(8, 2, dynamic = (2,))"])
def test_layers_that_do_not_exist(layer: str) -> None:
    with pytest.raises(ArchcError) as refused:
        archc.parse(f"model m {{ input x: f32[N, T, 5]  output y = x -> r: {layer} }}")
    (found,) = refused.value.diagnostics
    assert found.code == "bad-attribute" and "from 0 to 1" in found.message


def test_the_dtype_is_f32() -> None:
    with pytest.raises(ArchcError) as refused:
        archc.parse("model m { input x: f16[N, T, 5]  output y = x -> r: lstm(8, dynamic = (0,)) }")
    assert [each.code for each in refused.value.diagnostics] == ["dtype-mismatch"]
