"""Linear layers in ONNX: transposed initializers, which other quantizers recognize."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

import archc
from archc.codegen.onnx import emit, run, to_model
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.weights import safetensors

from .cases import agree, floats


def graph_of(body: str, shape: str = "N, T, 6") -> Graph:
    return archc.compile(f"model net {{ input x: f32[{shape}]\n{body} }}").graph


def stored(model: onnx.ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


TEXTS = {
    "rank 3": (
        "output y = x -> a: linear(8) -> b: linear(4, bias = false)",
        {"a.weight/T": [6, 8], "b.weight/T": [8, 4]},
    ),
    "used twice": (
        "layer a = linear(6, bias = false)\noutput y = x -> a -> relu -> a",
        {"a.weight/T": [6, 6]},
    ),
    "of both orientations": (
        "layer a = linear(8, bias = false)\noutput y = x -> a -> b: linear(6, bias = false, weight = a.weight.T)",
        {"a.weight": [8, 6]},
    ),
    "of a tied embedding": (
        "e = arange(5) -> e: embedding(5, 6)\noutput y = x -> a: linear(5, bias = false, weight = e.weight)\noutput e",
        {"e.weight": [5, 6]},
    ),
    "at two ranks": (
        "layer a = linear(6, bias = false)\noutput y = x -> a\noutput z = x -> mean(1) -> a",
        {"a.weight": [6, 6]},
    ),
    "masked": ("output y = x -> a: linear(8, bias = false, weight = masked)", {"a.weight/T": [6, 8]}),
    "in a scan": (
        "scan x_t in x, h = x -> mean(1) { h = h + (x_t -> unsqueeze(1) -> a: linear(6, bias = false) -> squeeze(1)) }"
        "\noutput h",
        {"a.weight/T": [6, 6]},
    ),
}


@pytest.mark.parametrize("move", ["(5, 6) -> transpose(0, 1)", "(2, 5, 6) -> permute((0, 2, 1))"])
def test_a_value_of_the_user_may_be_called_t(move: str) -> None:
    shape, _, operator = move.partition(" -> ")
    text = f"""
        block B {{
            input x: f32[N, M, 5]
            layer w = parameter({shape})
            T = w() -> {operator}
            output (T -> sum(-1)) + (x -> sum)
        }}
        model net {{ input x: f32[N, M, 5]  output y = x -> b: B }}
    """
    graph = archc.compile(text).graph
    model = to_model(graph)
    assert set(graph.weights) <= stored(model).keys() and operators(model)["Transpose"] == 1
    agree(graph, {"x": floats(2, 3, 5)}, model)


@pytest.mark.parametrize("case", TEXTS)
def test_matrices_are_stored_once(case: str) -> None:
    text, expected = TEXTS[case]
    graph = graph_of(text)
    model = to_model(graph)
    matrices = {name: dims for name, dims in stored(model).items() if ".weight" in name}
    assert matrices == expected
    assert ("Transpose" in operators(model)) == (not all(name.endswith("/T") for name in expected) or "scan" in case)
    agree(graph, {"x": floats(2, 3, 6)}, model)


def test_a_matrix_product_of_rank_2_is_a_gemm() -> None:
    model = to_model(graph_of("output y = x -> a: linear(8)", "N, 6"))
    (node,) = model.graph.node
    assert (node.op_type, list(node.input)) == ("Gemm", ["x", "a.weight", "a.bias"])
    assert onnx.helper.get_node_attr_value(node, "transB") == 1


@pytest.mark.parametrize("dtype", ["f16", "f64", "bf16"])
def test_other_dtypes_are_transposed(dtype: str) -> None:
    graph = archc.compile(f"model net {{ input x: {dtype}[N, T, 6]\noutput y = x -> a: linear(8) }}").graph
    x = torch.randn(2, 3, 6).to(getattr(torch, {"f16": "float16", "f64": "float64", "bf16": "bfloat16"}[dtype]))
    model = to_model(graph)
    assert "a.weight/T" in stored(model)
    from archc.codegen.onnx import run_tensors

    torch.testing.assert_close(run_tensors(model, [x])[0], evaluate(graph, {"x": x})["y"], rtol=1e-2, atol=1e-2)


def test_a_shared_weights_file_keeps_its_layout(tmp_path: Path) -> None:
    graph = graph_of("output y = x -> a: linear(80)")
    assert graph.tensors is not None
    offsets = safetensors.write(tmp_path / "net.safetensors", graph.tensors)
    path = tmp_path / "net.onnx"
    model = emit(graph, path, weights_file=tmp_path / "net.safetensors", offsets=offsets, large=1)
    assert stored(model)["a.weight"] == [80, 6]
    assert operators(model)["Transpose"] == 1
    agree(graph, {"x": floats(2, 3, 6)}, path)


@pytest.mark.parametrize("large", [1, 10**9])
@pytest.mark.parametrize("shape", ["N, 60", "N, T, 60"])
def test_onnx_runtime_quantizes_linear_layers(shape: str, large: int, tmp_path: Path) -> None:
    graph = graph_of("output y = x -> a: linear(80) -> relu -> b: linear(40)", shape)
    path = tmp_path / "net.onnx"
    emit(graph, path, large=large)
    quantize_dynamic(path, tmp_path / "quantized.onnx", reduce_range=True)  # no sum saturates on any CPU
    found = operators(onnx.load(tmp_path / "quantized.onnx"))
    assert found["MatMulInteger"] == 2
    assert not found["MatMul"] and not found["Gemm"]
    x = floats(*[2, 3][: shape.count(",")], 60)
    wanted = evaluate(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    error = run(tmp_path / "quantized.onnx", {"x": x})["y"] - wanted
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(wanted)
