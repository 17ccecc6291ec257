"""Quantized models: ONNX Runtime runs integer kernels, and the outputs agree with PyTorch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from archc.codegen.onnx import as_text, check, run, to_model
from archc.codegen.onnx.unshared import copy_without_sharing
from archc.compiler import compile as compile_text
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Value
from archc.ops.conv import Conv2d
from archc.ops.linear import Linear
from archc.ops.pool import MaxPool2d
from archc.ops.quantize import Dequantize, Quantize
from archc.types.storage import Int8
from archc.types.tensor_type import DType
from archc.weights.tensor import ArrayTensor
from tests.ops.runtimes import at_every_level

from .cases import Arrays, Fold, Model, N, Rectify, T, floats

ROWS = {"weight": Int8(0)}


def quantized(model: Model, x: Value, name: str, *, dynamic: bool = False, axis: int | None = None) -> Value:
    node = model.rewriter.add(Quantize(DType.u8, axis, dynamic), [x], name=name)
    return model.add(Dequantize(axis), *node.results)


def by_token(model: Model, x: Value, name: str) -> Value:
    node = model.rewriter.add(Quantize(DType.u8, dynamic=True, granularity="token"), [x], name=name)
    return model.add(Dequantize(granularity="token"), *node.results)


def calibrated(graph: Graph, low: float = -4.0, high: float = 4.0) -> Graph:
    """Set the scale and zero point of every quantizer to a range; return the graph."""
    assert graph.tensors is not None
    scale = (high - low) / 255
    for path, weight in graph.weights.items():
        if path.endswith(".scale"):
            graph.tensors.set(path, ArrayTensor(np.full(weight.shape, scale, np.float32)))
        elif path.endswith(".zero_point"):
            graph.tensors.set(path, ArrayTensor(np.full(weight.shape, round(-low / scale), np.uint8)))
    return graph


def optimized(graph: Graph, folder: Path) -> Counter[str]:
    """Count the nodes of each operator after the optimizations of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(to_model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def operators(graph: Graph, contributed: bool = True) -> Counter[str]:
    return Counter(node.op_type for node in to_model(graph, contributed).graph.node)


def close(graph: Graph, inputs: Arrays, tolerance: float = 1e-4, *, exact: bool = True) -> None:
    """Compare output `y` of ONNX Runtime and `onnx.reference` with PyTorch.

    The tolerance is relative to the largest output.  With `exact`, integer sums do not saturate, but ONNX Runtime does
    not support this mode for a shared weight.  Without `exact`, the sums must be small.
    """
    model = to_model(graph, contributed=False)  # `onnx.reference` has only standard operators
    check(model)
    expected = evaluate(graph, {name: torch.from_numpy(array) for name, array in inputs.items()})["y"].numpy()
    reference = onnx.reference.ReferenceEvaluator(model).run(None, dict(inputs))[0]
    for found in (run(model, inputs, exact=exact)["y"], reference):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [0, None])
def test_a_static_linear_is_one_integer_kernel(tmp_path: Path, bias: bool, axis: int | None) -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 16), "q0")
    graph = calibrated(model.done(y=model.add(Linear(8, bias), x, name="fc", storages={"weight": Int8(axis)})))
    assert optimized(graph, tmp_path) == {"QuantizeLinear": 1, "QGemm": 1}
    close(graph, {"x": floats(5, 16)}, 1e-3)  # the bias is rounded


def test_a_static_linear_of_higher_rank_is_an_integer_kernel(tmp_path: Path) -> None:
    model = Model()
    x = quantized(model, model.input("x", N, T, 16), "q0")
    graph = calibrated(model.done(y=model.add(Linear(8), x, name="fc", storages=ROWS)))
    assert optimized(graph, tmp_path) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1}
    close(graph, {"x": floats(2, 3, 16)})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 16)])
def test_a_dynamic_linear_is_one_integer_kernel(tmp_path: Path, shape: tuple[int, ...], bias: bool) -> None:
    model = Model()
    x = quantized(model, model.input("x", *[N, T][: len(shape) - 1], 16), "q0", dynamic=True)
    graph = model.done(y=model.add(Linear(8, bias), x, name="fc", storages=ROWS))
    assert "DequantizeLinear" not in operators(graph)
    assert optimized(graph, tmp_path) == {"DynamicQuantizeMatMul": 1}
    close(graph, {"x": floats(*shape)})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("shape", [(16,), (5, 16), (2, 3, 16)])
def test_a_linear_by_token_multiplies_unsigned_integers(
    tmp_path: Path, shape: tuple[int, ...], axis: int | None, bias: bool
) -> None:
    model = Model()
    x = by_token(model, model.input("x", *[N, T][: len(shape) - 1], 16), "q0")
    graph = model.done(y=model.add(Linear(8, bias), x, name="fc", storages={"weight": Int8(axis)}))
    several = len(shape) > 1
    for contributed in (True, False):
        found = operators(graph, contributed)
        product = "MatMulIntegerToFloat" if several and contributed else "MatMulInteger"
        assert found[product] == 1 and not found["MatMul"] and not found["DequantizeLinear"]
    assert {node.domain for node in to_model(graph, contributed=False).graph.node} == {""}
    # The tokens have very different scales, which one scale for all of them cannot represent.
    inputs = {"x": floats(*shape) * np.logspace(-3, 3, shape[-2] if len(shape) > 1 else 1, dtype=np.float32)[:, None]}
    inputs["x"] = inputs["x"].reshape(shape)
    close(graph, inputs)
    expected = evaluate(graph, {"x": torch.from_numpy(inputs["x"])})["y"].numpy()
    np.testing.assert_allclose(run(to_model(graph), inputs, exact=True)["y"], expected, rtol=1e-4, atol=1e-6)
    for contributed in (True, False):
        for level, (y,) in at_every_level(to_model(graph, contributed), inputs):
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6, err_msg=f"{level}, {contributed}")


def test_tokens_are_decoded_for_other_operators_and_layers_of_floats() -> None:
    model = Model()
    x = by_token(model, model.input("x", N, T, 16), "q0")
    y = model.add(Rectify(), x)
    graph = model.done(y=model.add(Linear(8), x, name="floats"), z=y)
    inputs = {"x": floats(2, 3, 16)}
    assert "MatMulInteger" not in operators(graph)
    close(graph, inputs)


def test_a_chain_of_static_linears_stays_in_integers(tmp_path: Path) -> None:
    model = Model()
    x = model.input("x", N, 16)
    for number in range(3):
        x = quantized(model, x, f"q{number}")
        x = model.add(Linear(16), x, name=f"fc{number}", storages=ROWS)
        x = model.add(Rectify(), x) if number < 2 else x
    graph = calibrated(model.done(y=x), 0.0, 8.0)
    assert optimized(graph, tmp_path) == {"QuantizeLinear": 1, "QGemm": 3}


def convolutional(channels: int) -> Graph:
    model = Model()
    x = quantized(model, model.input("x", N, channels, 10, 10), "q0")
    x = model.add(Rectify(), model.add(Conv2d(8, 3), x, name="conv1", storages=ROWS))
    x = quantized(model, model.add(MaxPool2d(2), x), "q1")
    x = model.add(Rectify(), model.add(Conv2d(8, 3), x, name="conv2", storages=ROWS))
    x = quantized(model, model.add(Fold(), model.add(MaxPool2d(2), x)), "q2")
    return calibrated(model.done(y=model.add(Linear(10), x, name="fc", storages=ROWS)), 0.0, 20.0)


def test_a_convolutional_network_stays_in_integers(tmp_path: Path) -> None:
    found = optimized(convolutional(channels=4), tmp_path)
    assert found["QLinearConv"] == 2
    assert found["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "DequantizeLinear", "MaxPool"} & set(found)
    assert found["QuantizeLinear"] == 1


def test_a_convolution_with_short_sums_stays_in_floats_and_its_pool_too(tmp_path: Path) -> None:
    graph = convolutional(channels=1)
    found = optimized(graph, tmp_path)
    assert found["QLinearConv"] == 1
    assert found["QGemm"] == 1
    assert found["MaxPool"] == 1, "the pool of the float convolution is a float one"


@pytest.mark.parametrize("channels", [1, 4])
def test_a_convolutional_network_agrees_with_pytorch(channels: int) -> None:
    graph = convolutional(channels)
    model = to_model(graph)
    check(model)
    x = np.abs(floats(6, channels, 10, 10))
    expected = evaluate(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    found = run(model, {"x": x}, exact=True)["y"]
    # A tie in a hidden layer may be rounded to either side.  Such differences are rare, and of one step.
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() < 0.02 * largest
    assert np.abs(found - expected).mean() < 0.002 * largest


@pytest.mark.parametrize("pooled", [True, False])
def test_an_integer_layer_before_a_relu_and_a_layer_of_floats_is_an_integer_kernel(
    pooled: bool, tmp_path: Path
) -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 4, 10, 10), "q0")
    x = model.add(Rectify(), model.add(Conv2d(8, 3), x, name="conv", storages=ROWS))
    x = quantized(model, model.add(Fold(), model.add(MaxPool2d(8), x) if pooled else x), "q1")
    x = model.add(Rectify(), model.add(Linear(16), x, name="fc1", storages=ROWS))
    graph = calibrated(model.done(y=model.add(Linear(4), x, name="fc2")), 0.0, 20.0)
    found = operators(graph)
    assert found["Relu"] == 1 and found["Max"] == 1, "the first is taken up by a quantizer"
    ran = optimized(graph, tmp_path)
    assert ran["QGemm"] == 1 and ran["QLinearConv"] == 1 and "DequantizeLinear" not in ran
    close(graph, {"x": np.abs(floats(5, 4, 10, 10))}, 0.02)


def test_a_reshape_before_a_quantizer_gets_a_pair_in_front_of_it() -> None:
    lines = as_text(convolutional(channels=4)).splitlines()
    place = next(number for number, line in enumerate(lines) if "= Reshape(" in line)
    assert lines[place - 2 : place + 2] == [
        "max_pool2d_1/QuantizeLinear = QuantizeLinear(max_pool2d_1, q2.scale, q2.zero_point)",
        "max_pool2d_1/DequantizeLinear = DequantizeLinear(max_pool2d_1/QuantizeLinear, q2.scale, q2.zero_point)",
        "fold = Reshape(max_pool2d_1/DequantizeLinear, [0, 8])",
        "q2.0 = QuantizeLinear(fold, q2.scale, q2.zero_point)",
    ]


def test_a_reshape_with_another_use_gets_no_pair() -> None:
    model = Model()
    folded = model.add(Fold(), model.input("x", N, 2, 3))
    y = model.add(Linear(4), quantized(model, folded, "q0"), name="fc", storages=ROWS)
    graph = calibrated(model.done(y=y, folded=folded))
    assert operators(graph)["QuantizeLinear"] == 1
    inputs = {"x": floats(5, 2, 3)}
    np.testing.assert_array_equal(run(to_model(graph), inputs)["folded"], inputs["x"].reshape(5, 6))


def test_two_quantizers_of_one_pool_agree() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 1, 6, 6), "q0")
    x = model.add(MaxPool2d(2), model.add(Rectify(), model.add(Conv2d(4, 3), x, name="conv1", storages=ROWS)))
    one = model.add(Conv2d(8, 1), quantized(model, x, "q1"), name="a", storages=ROWS)
    y = model.add(Conv2d(8, 2), quantized(model, x, "q2"), name="y", storages=ROWS)
    close(calibrated(model.done(y=y, one=one), 0.0, 8.0), {"x": floats(3, 1, 6, 6)}, 1e-3)


def test_quantizing_by_channel_is_spelled_out_and_agrees() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 6), "q0", axis=1)
    graph = calibrated(model.done(y=model.add(Linear(4), x, name="fc", storages=ROWS)))
    assert "DequantizeLinear" in operators(graph)
    close(graph, {"x": floats(5, 6)})


def test_a_scale_inside_the_sum_is_no_integer_kernel() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 6), "q0", dynamic=True)
    graph = model.done(y=model.add(Linear(4), x, name="fc", storages={"weight": Int8(1)}))
    assert "MatMulInteger" not in operators(graph)
    close(graph, {"x": floats(5, 6)})


def test_floats_and_integers_of_one_quantizer_can_both_be_used() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 6), "q0", dynamic=True)
    product = model.add(Linear(6), x, name="fc", storages=ROWS)
    kept = model.add(Linear(6), x, name="kept")
    y = model.add(Linear(2), model.add(Rectify(), product), name="out")
    graph = model.done(y=y, kept=kept, decoded=x)
    assert operators(graph)["DequantizeLinear"] == 1
    inputs = {"x": floats(5, 6)}
    expected = evaluate(graph, {"x": torch.from_numpy(inputs["x"])})
    for name, array in run(to_model(graph), inputs).items():
        np.testing.assert_allclose(array, expected[name].numpy(), rtol=1e-4, atol=1e-4)


def test_a_bias_that_int32_cannot_hold_stays_in_floats() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 6), "q0")
    graph = calibrated(model.done(y=model.add(Linear(4), x, name="fc", storages=ROWS)))
    assert graph.tensors is not None
    graph.tensors.set("fc.weight_scale", ArrayTensor(np.full(4, 1e-12, np.float32)))
    assert "fc.bias" in [tensor.name for tensor in to_model(graph).graph.initializer]
    close(graph, {"x": floats(5, 6)})


def test_a_layer_used_on_two_scales_has_two_integer_biases() -> None:
    model = Model()
    x = quantized(model, model.input("x", N, 6), "q0")
    x = quantized(model, model.add(Linear(6), x, name="fc", storages=ROWS), "q1")
    graph = calibrated(model.done(y=model.add(Linear(6), x, name="fc")), -3.0, 24.0)
    model = to_model(graph).graph
    assert [node.output[0] for node in model.node if node.op_type == "Cast"] == ["fc.bias/Cast", "fc.bias/Cast_1"]
    names = [tensor.name for tensor in model.initializer]
    assert names.count("fc.weight") == names.count("fc.bias") == 1
    close(graph, {"x": floats(5, 6)}, 0.02, exact=False)


def test_copies_share_no_initializer_with_the_body_of_a_scan(tmp_path: Path) -> None:
    """The check runs such a copy with exact sums, for which ONNX Runtime changes each use of a weight."""
    text = """
    model m {
        input x: f32[N, T, 8]
        layer shared = linear(8)
        scan s in x, h = zeros((N, 8)) { h = s + h  yield y = h -> shared }
        output y = y
        output z = h -> shared
    }
    """
    graph = compile_text(text, passes="quant(least = 0)").graph
    onnx.save(to_model(graph), tmp_path / "m.onnx")
    (tmp_path / "copy").mkdir()
    copy = onnx.load(copy_without_sharing(tmp_path / "m.onnx", tmp_path / "copy"))
    nodes = [*copy.graph.node, *(node for scan in copy.graph.node for body in scan.attribute for node in body.g.node)]
    assert any(node.op_type == "Scan" for node in nodes)
    stored = {tensor.name for tensor in copy.graph.initializer}
    counts = Counter(name for node in nodes for name in node.input if name in stored)
    assert "shared.weight" in counts and set(counts.values()) == {1}
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(copy.SerializeToString(), options)
