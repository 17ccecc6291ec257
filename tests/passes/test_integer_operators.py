"""`quant` between integer layers: additions, concatenations and pools on integers, and the float head."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import archc
from archc.codegen.onnx import to_model
from archc.codegen.torch.load import load_module
from archc.declaration.traits import INTEGER_KERNEL
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ops.arithmetic import Mul
from archc.passes.quant import Quant
from tests.ops.runtimes import sessions
from tests.passes.graphs import Build, remarks, run

RESIDUAL = """
block Unit {
    input x: f32[N, C, H, W]
    y = x -> conv1: conv2d(C, 3, padding = 1) -> relu -> conv2: conv2d(C, 3, padding = 1)
    output x + y -> relu
}
model net {
    input x: f32[N, 16, 16, 16]
    y = x -> stem: conv2d(64, 3, padding = 1) -> relu -> max_pool2d(2)
    for i in 0..3 { y = y -> unit[i]: Unit }
    output z: f32[N, 10] = y -> adaptive_avg_pool2d(1) -> flatten -> fc: linear(10)
}
"""
BRANCHES = """
block Branch(size) {
    input x: f32[N, C, H, W]
    output x -> conv: conv2d(C // 2, size, padding = size // 2) -> relu
}
model net {
    input x: f32[N, 32, 12, 12]
    x = x -> stem: conv2d(64, 3, padding = 1) -> relu
    pooled = x -> max_pool2d(3, stride = 1, padding = 1)
    x = (x -> a: Branch(1), x -> b: Branch(3), pooled -> c: Branch(1), pooled -> d: Branch(3)) -> concat(1)
    output y = x -> last: conv2d(64, 3)
}
"""


def quantized(text: str, passes: str = "quant(least = 65_536)", seed: int = 0) -> Graph:
    graph = archc.parse(text)
    size = [4, *(int(extent) for extent in graph.inputs[0].type.shape[1:])]
    data = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return archc.compile(text, passes=passes, calib={"x": data}).graph


def compared(graph: Graph, text: str) -> None:
    """Compare ONNX Runtime at every level with the interpreter, and both with the float model."""
    float_graph = archc.compile(text).graph
    size = [2, *(int(extent) for extent in graph.inputs[0].type.shape[1:])]
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    (name,) = graph.outputs
    feeds = {"x": torch.from_numpy(x)}
    exact, wanted = (evaluate(each, feeds)[name].numpy() for each in (float_graph, graph))
    assert np.linalg.norm(wanted - exact) < 0.03 * np.linalg.norm(exact)
    for level, session in sessions(to_model(graph)).items():
        found = session.run(None, {"x": x})[0]
        np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max(), rtol=0, err_msg=level)


def optimized(graph: Graph, folder: Path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(to_model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def scales(graph: Graph) -> dict[str, float]:
    return {path: float(graph.weight_values(path)) for path in graph.weights if path.endswith(".scale")}


def decoded_operands(graph: Graph, kind: str) -> list[list[bool]]:
    """For each node of a kind, whether each operand is the result of a `dequantize`."""
    nodes = [node for node in graph.nodes() if node.op.name == kind]
    return [[x.producer is not None and x.producer.op.name == "dequantize" for x in node.operands] for node in nodes]


def test_residual_additions_between_convolutions_are_computed_on_integers(tmp_path: Path) -> None:
    graph = quantized(RESIDUAL)
    assert decoded_operands(graph, "add") == [[True, True]] * 3
    found = optimized(graph, tmp_path)
    assert found["QLinearAdd"] == 2, "the last addition has no integer consumer"
    assert found["Add"] == 1 and found["MaxPool"] == 0 and found["NhwcMaxPool"] == 1
    compared(graph, RESIDUAL)


def test_each_block_of_the_pytorch_module_has_the_quantizers_of_its_layers(tmp_path: Path) -> None:
    for number, text in enumerate((RESIDUAL, BRANCHES)):
        size = [2, *(int(extent) for extent in archc.parse(text).inputs[0].type.shape[1:])]
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        compiled = archc.compile(text, passes="quant(least = 65_536)", calib={"x": x})
        compiled.write(tmp_path / str(number), emit="torch")
        module = load_module(tmp_path / str(number) / "net.py").load()
        kinds = Counter(type(layer).__name__ for layer in module.modules())
        assert kinds["Int8Conv2d"] == (7 if number == 0 else 6) and kinds["Int8WeightConv2d"] == 0


def test_concatenations_and_pools_with_several_uses_stay_in_integers(tmp_path: Path) -> None:
    graph = quantized(BRANCHES)
    found = optimized(graph, tmp_path)
    assert found["QLinearConcat"] == found["NhwcMaxPool"] == 1
    assert found["Concat"] == found["MaxPool"] == 0
    assert found["QuantizeLinear"] == 1, "only the input is quantized; equal quantizers are one"
    compared(graph, BRANCHES)


def test_operands_of_a_concatenation_share_a_range_unless_they_have_other_uses() -> None:
    text = """
    model net {
        input x: f32[N, 32, 24, 24]
        a = x -> a: conv2d(32, 3, padding = 1) -> relu
        b = x * 8 -> b: conv2d(32, 3, padding = 1) -> relu
        output z = ((a, b) -> concat(1) -> last: conv2d(64, 3)) + (a -> other: conv2d(64, 3))
    }
    """
    graph = quantized(text)
    found = scales(graph)
    assert found["b_out.scale"] == found["last_in.scale"] > 4 * found["other_in.scale"]
    compared(graph, text)


def test_a_clipped_operand_keeps_its_range_if_the_common_range_has_negative_numbers(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[N, 32, 24, 24]
        a = x -> a: conv2d(32, 3, padding = 1) -> relu
        b = x -> b: conv2d(32, 3, padding = 1)
        output z = (a, b) -> concat(1) -> last: conv2d(64, 3)
    }
    """
    graph = quantized(text)
    assert graph.weight_values("a_out.zero_point") == 0 != graph.weight_values("b_out.zero_point")
    assert graph.weight_values("b_out.zero_point") == graph.weight_values("last_in.zero_point")
    found = optimized(graph, tmp_path)
    assert found["QLinearConcat"] == 1 and found["Relu"] == 0
    compared(graph, text)


def test_residual_additions_of_linear_layers_stay_in_floats() -> None:
    text = """
    model net {
        input x: f32[N, 512]
        for i in 0..2 { x = x + (x -> a[i]: linear(512) -> relu -> b[i]: linear(512)) }
        output y = x -> head: linear(512)
    }
    """
    graph = quantized(text)
    assert not any(all(operands) for operands in decoded_operands(graph, "add"))


def test_the_trait_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    model net {
        input x: f32[N, 32, 24, 24]
        y = (x -> a: conv2d(32, 3)) * (x -> b: conv2d(32, 3))
        output z = y -> last: conv2d(32, 3)
    }
    """
    without = quantized(text)
    monkeypatch.setitem(Mul._traits_by_key, INTEGER_KERNEL, INTEGER_KERNEL)
    noted = archc.compile(text, passes="quant(least = 65_536)")
    notes = [remark.message for remark in noted.passes[-1].remarks if remark.kind == "note"]
    assert "between integer layers, 1 `mul` on integers" in notes
    assert decoded_operands(noted.graph, "mul") == decoded_operands(without, "mul") == [[True, True]]


def test_a_small_head_stays_in_floats_unless_least_is_given() -> None:
    text = """
    model net {
        input x: f32[N, 16, 32, 32]
        y = x -> a: conv2d(32, 3, padding = 1) -> relu -> b: conv2d(32, 3, padding = 1) -> relu
        output z = y -> adaptive_avg_pool2d(1) -> flatten -> fc: linear(100)
    }
    """
    assert "fc_in.scale" not in scales(quantized(text, "quant"))
    assert "fc_in.scale" in scales(quantized(text, "quant(least = 0)"))


def test_a_head_after_an_integer_layer_is_quantized() -> None:
    text = """
    model net {
        input x: f32[N, 2048]
        output z = x -> a: linear(256) -> relu -> fc: linear(2)
    }
    """
    assert "fc_in.scale" in scales(quantized(text, "quant"))


def test_depthwise_convolutions_use_the_integer_kernel_in_onnx(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[N, 32, 48, 48]
        x = x -> wide: conv2d(96, 1) -> clamp(0, 6) -> depthwise: conv2d(96, 3, padding = 1, groups = 96) -> clamp(0, 6)
        output y = x -> narrow: conv2d(16, 1) -> again: conv2d(96, 1)
    }
    """
    graph = quantized(text)
    found = optimized(graph, tmp_path)
    assert found["QLinearConv"] == 4 and found["Conv"] == 0
    compared(graph, text)


def chain(count: int) -> Graph:
    """Small convolutions with relus between them, whose last result is used in floats."""
    build = Build()
    x = build.input(8, 12, 12)
    for number in range(count):
        x = build.layer("conv2d", x, 16, 3, padding=1, name=f"conv{number}")
        x = build.layer("tanh" if number == count - 1 else "relu", x)
    return build.done(x)


@pytest.mark.parametrize(("count", "scheme"), [(1, "weight"), (3, "weight"), (5, "static")])
def test_a_group_of_convolutions_is_isolated_as_a_whole(count: int, scheme: str) -> None:
    """The conversions at the ends of a group take as long for one convolution as for several."""
    (report,) = run(chain(count), Quant())
    found = {message.split(":")[0] for message in remarks(report, "rewrote").values()}
    assert found == {scheme}
