"""Integer layers of emitted modules agree with dequantized layers, and follow changes of weights."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from archc.declaration import OPERATORS
from archc.declaration.traits import Quantizable
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.types.storage import Dense, Int8
from archc.types.tensor_type import DType
from tests.codegen import torch_modules
from tests.codegen.torch_modules import assert_agrees, graph_of, inputs_of, source_of, with_exact_sums

TRANSFORMER = """
block Attention(heads) {
    input x: f32[B, T, D]
    q = x -> query: linear(D)
    k = x -> key: linear(D)
    v = x -> value: linear(D)
    output (q, k, v) -> attention(heads) -> proj: linear(D)
}
model net(width = 16, depth = 3) {
    input tokens: i64[B, T]
    layer wte = embedding(11, width)
    x = tokens -> wte
    for i in 0..depth { x = x + (x -> h[i]: Attention(2)) }
    output logits = x -> head: linear(11, bias = false, weight = wte.weight)
}
"""


def quantized(text: str, axis: int | None = 0, scheme: str = "static") -> Graph:
    """Build a graph with int8 weights, and quantized operands of linear layers and convolutions.

    The scales fit operands with a standard normal distribution.  An operand of several layers is quantized once.
    """
    graph = graph_of(text if "model" in text else f"model net {{ {text} }}")
    rewriter = Rewriter(graph)
    decoded: dict[Value, Value] = {}
    for node in graph.nodes():
        weight = node.weights.get("weight")
        if weight is not None and isinstance(graph.weights[weight].storage, Dense):
            quantizable = node.op.trait(Quantizable)
            assert quantizable is not None
            rewriter.set_storage(weight, Int8(quantizable.channel_axis if axis is not None else None))
        if scheme == "weight" or node.op.name not in ("linear", "conv2d"):
            continue
        (value,) = node.operands
        if value not in decoded:
            granularity = "token" if scheme == "token" else "tensor"
            quantize = OPERATORS["quantize"](DType.u8, dynamic=scheme != "static", granularity=granularity)
            made = rewriter.add(quantize, [value], name=f"{(node.name or '').replace('.', '_')}_in", near=node)
            if scheme == "static":
                rewriter.set_weight(made.weights["scale"], np.asarray(0.03, np.float32))
                rewriter.set_weight(made.weights["zero_point"], np.asarray(131, np.uint8))
            decoded[value] = rewriter.add(
                OPERATORS["dequantize"](granularity=granularity), made.results, near=node
            ).result
        rewriter.set_operands(node, (decoded[value],))
    verify(graph)
    return graph


@pytest.fixture(autouse=True, params=["onednn", "_int_mm", "floats"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the tests with each integer kernel of linear layers, and with floating-point kernels."""

    def patched(*arguments: Any) -> ModuleType:
        module = original(*arguments)
        for name in {"Int8Linear", "Int8Conv2d"} & vars(module).keys():
            getattr(module, name).least = math.inf if request.param == "floats" else 1
        if hasattr(module, "Int8Linear"):
            module.Int8Linear.many = 0 if request.param == "onednn" else math.inf
        return module

    original = torch_modules.imported
    monkeypatch.setattr(torch_modules, "imported", patched)
    return request.param  # type: ignore[no-any-return]


def operators_of(model: torch.nn.Module, *inputs: torch.Tensor) -> set[str]:
    """The names of the operators that a model runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        model(*inputs)
    return {event.name for event in seen.events() or ()}


LINEAR = "input x: f32[N, 24]  output y = x -> fc: linear(16)"
CONVOLUTIONS = [
    "input x: f32[N, 3, 9, 9]  output y = x -> c: conv2d(8, 3)",
    "input x: f32[N, 4, 9, 8]  output y = x -> c: conv2d(8, (3, 2), stride = 2, padding = (1, 0), bias = false)",
    'input x: f32[N, 4, 9, 9]  output y = x -> c: conv2d(8, 3, padding = "same", groups = 4, dilation = 2)',
    'input x: f32[N, 4, 9, 9]  output y = x -> c: conv2d(4, 3, padding = "valid", groups = 2)',
    'input x: f32[N, 4, 9, 9]  output y = x -> c: conv2d(4, 2, padding = "same")',
]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("text", [LINEAR, LINEAR.replace("[N, 24]", "[N, 5, 24]"), *CONVOLUTIONS])
@pytest.mark.parametrize("axis", [0, None])
def test_an_integer_layer_agrees_with_its_dequantized_form(
    text: str, axis: int | None, rows: int, tmp_path: Path
) -> None:
    graph = quantized(text, axis)
    # A single layer rounds its operand like the graph, and its integer sums are exact, so the tolerance is small.
    assert_agrees(graph, tmp_path, atol=1e-5, N=rows)


@pytest.mark.parametrize("scheme", ["static", "dynamic", "token"])
def test_linear_layers_multiply_integers(scheme: str, tmp_path: Path, kernels: str) -> None:
    graph = quantized(LINEAR, scheme=scheme)
    source = source_of(graph)
    assert "Int8Linear(24, 16)" in source and "dequantize" not in source
    model = with_exact_sums(assert_agrees(graph, tmp_path, N=3))
    wanted = {"onednn": "onednn::qlinear_pointwise", "_int_mm": "aten::_int_mm", "floats": "aten::linear"}
    if kernels != "onednn" or torch.backends.mkldnn.is_available():
        assert operators_of(model, *inputs_of(graph, N=3).values()) & {*wanted.values()} == {wanted[kernels]}


@pytest.mark.parametrize("scheme", ["dynamic", "token"])
@pytest.mark.parametrize("text", CONVOLUTIONS)
def test_a_convolution_with_a_dynamic_range(text: str, scheme: str, tmp_path: Path) -> None:
    assert_agrees(quantized(text, scheme=scheme), tmp_path, N=2)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this processor has no integer kernels")
def test_the_kernel_depends_on_the_size_of_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the module chooses its kernels
    kernels = {"aten::linear", "aten::_int_mm", "onednn::qlinear_pointwise", "aten::conv2d", "onednn::qconv_pointwise"}
    for text, few, many in [
        ("input x: f32[N, 256]  output y = x -> fc: linear(256)", "aten::linear", "aten::_int_mm"),
        ("input x: f32[N, 1024]  output y = x -> fc: linear(1024)", "aten::_int_mm", "onednn::qlinear_pointwise"),
        ("input x: f32[N, 8, 14, 14]  output y = x -> c: conv2d(16, 3)", "aten::conv2d", "onednn::qconv_pointwise"),
    ]:
        graph = quantized(text)
        model = with_exact_sums(torch_modules.imported(graph, tmp_path).load())
        for rows, expected in ((1, few), (32, many)):
            assert operators_of(model, *inputs_of(graph, N=rows).values()) & kernels == {expected}


@pytest.mark.parametrize(
    "text",
    [
        LINEAR,
        "input x: i64[N, 3]  output y = x -> e: embedding(9, 4)",
        "input x: f32[N, 3, 7]  output y = x -> c: conv1d(4, 3)",
        "input x: f32[N, 3, 7, 7]  output y = x -> c: conv_transpose2d(4, 3)",
    ],
)
def test_other_layers_decode_their_weight_once(text: str, tmp_path: Path) -> None:
    graph = quantized(text, scheme="weight")
    model = assert_agrees(graph, tmp_path)
    (child,) = model.children()
    assert child.weight.dtype == torch.int8
    assert child.decoded() is child.decoded()


def test_a_quantized_value_is_shared_by_its_layers(tmp_path: Path) -> None:
    graph = quantized(TRANSFORMER)
    source = source_of(graph)
    assert_agrees(graph, tmp_path, atol=0.02, B=2, T=4)
    assert source.count("class Attention") == 1
    assert "quantized = self.query_in(x)\n        q = self.query(quantized)\n" in source
    assert "for attention in self.h:" in source


def test_a_layer_used_twice_reads_two_ranges(tmp_path: Path) -> None:
    graph = quantized("input x: f32[N, 8]  layer fc = linear(8)  output y = x -> fc -> relu -> fc")
    assert_agrees(graph, tmp_path, atol=0.02)


@pytest.mark.parametrize("between", ["", " -> identity", " -> relu", " -> flatten"])
def test_quantizers_in_a_row(between: str, tmp_path: Path) -> None:
    graph = graph_of(
        "model net { input x: f32[N, 2, 4]"
        f"  output y = x -> q0: quantize(u8) -> dequantize{between} -> q1: quantize(u8) -> dequantize }}"
    )
    rewriter = Rewriter(graph)
    for name, scale, zero_point in (("q0", 0.05, 100), ("q1", 0.11, 120)):
        rewriter.set_weight(f"{name}.scale", np.asarray(scale, np.float32))
        rewriter.set_weight(f"{name}.zero_point", np.asarray(zero_point, np.uint8))
    assert_agrees(graph, tmp_path)


def loaded(tmp_path: Path, text: str = LINEAR) -> tuple[torch.nn.Module, torch.Tensor]:
    graph = quantized(text)
    module = torch_modules.imported(graph, tmp_path)
    sys.modules[module.__name__] = module  # where pickle looks for the classes
    model = module.load()
    x = next(iter(inputs_of(graph, N=2).values()))
    model(x)  # packs the weight
    return model, x


@pytest.mark.parametrize("text", [LINEAR, CONVOLUTIONS[0]])
def test_packed_weights_follow_the_state_dict(text: str, tmp_path: Path) -> None:
    model, x = loaded(tmp_path, text)
    before = model(x)
    (layer_,) = (child for child in model.children() if hasattr(child, "weight"))
    state: dict[str, Any] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bias = torch.zeros_like(before) if layer_.bias is None else layer_.bias.view(-1, *[1] * (before.dim() - 2))
    for name in state:
        if name.endswith(".weight_scale"):
            state[name] *= 2
    for assign in (False, True):
        other, _ = loaded(tmp_path, text)
        other.load_state_dict(state, assign=assign)
        torch.testing.assert_close(other(x), 2 * before - bias, rtol=1e-4, atol=1e-5)
    for name in state:
        if name.endswith(".weight"):
            state[name] = -state[name]
    model.load_state_dict(state)
    torch.testing.assert_close(model(x), 3 * bias - 2 * (before - bias) - 2 * bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", [LINEAR, CONVOLUTIONS[0]])
def test_cached_forms_follow_changes_in_place(text: str, tmp_path: Path) -> None:
    """Cached forms of weights follow changes in place, such as a bias correction or a wider range."""
    model, x = loaded(tmp_path, text)
    before = model(x)
    (layer,) = (child for child in model.children() if hasattr(child, "weight"))
    (rounding,) = (child for child in model.children() if hasattr(child, "zero_point"))
    bias = layer.bias.clone().view(-1, *[1] * (x.dim() - 2))
    layer.bias.add_(1)
    torch.testing.assert_close(model(x), before + 1, rtol=1e-4, atol=1e-5)
    rounding.scale.mul_(2)
    torch.testing.assert_close(model(2 * x), 2 * (before - bias) + bias + 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", ["weight", "static"])
def test_forms_cached_in_inference_mode_are_valid_outside(scheme: str, tmp_path: Path) -> None:
    model = torch_modules.imported(quantized(LINEAR, scheme=scheme), tmp_path).load()
    x = torch.randn(2, 24)
    with torch.inference_mode():
        expected = model(x)
    x.requires_grad_()
    y = model(x)
    torch.testing.assert_close(y, expected.clone())
    if scheme == "weight":
        y.sum().backward()
        torch.testing.assert_close(x.grad, model.fc.decoded().sum(0).expand(2, -1))


def test_packed_weights_survive_copies(tmp_path: Path) -> None:
    model, x = loaded(tmp_path)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_large_operands_saturate_and_an_empty_batch_runs(tmp_path: Path) -> None:
    model, x = loaded(tmp_path)
    huge = model(torch.full_like(x, 1e9))
    assert torch.isfinite(huge).all()
    assert torch.equal(huge, model(torch.full_like(x, 2e9)))
    assert model(x[:0]).shape == (0, 16)


@pytest.mark.parametrize("zero_point", [0, 3, 128, 255])
def test_rounding_is_that_of_onnx(zero_point: int, tmp_path: Path) -> None:
    model, _ = loaded(tmp_path)
    quantize = next(child for child in model.children() if hasattr(child, "zero_point"))
    quantize.scale.fill_(0.5)
    quantize.zero_point.fill_(zero_point)
    x = torch.linspace(-80, 80, 1281)
    expected = np.clip(np.rint(x.numpy() / np.float32(0.5)) + zero_point, 0, 255).astype(np.uint8)
    assert np.array_equal(quantize(x).integers().numpy(), expected)


def test_a_value_that_is_needed_decoded_as_well(tmp_path: Path) -> None:
    graph = quantized("input x: f32[N, 8]  output y = x -> fc: linear(8)")
    decoder = next(node for node in graph.nodes() if node.op.name == "dequantize")
    rewriter = Rewriter(graph)
    total = rewriter.add(OPERATORS["add"](), [decoder.result, graph.outputs["y"]]).result
    rewriter.output("y", total)
    assert "quantized.decoded()" in source_of(graph)
    assert_agrees(graph, tmp_path)


def test_an_encoding_of_another_parameter_is_decoded_in_place(tmp_path: Path) -> None:
    graph = graph_of("model net { input x: f32[N, 8]  output y = x -> fc: linear(6) }")
    Rewriter(graph).set_storage("fc.bias", Int8(None))
    assert_agrees(graph, tmp_path)


def test_modules_run_without_the_integer_kernels_of_the_cpu(tmp_path: Path) -> None:
    """Results agree also without the integer kernels of the CPU, as on other devices."""
    for text in (LINEAR, CONVOLUTIONS[1]):
        graph = quantized(text)
        module = torch_modules.imported(graph, tmp_path)
        model = module.load()
        module.MKLDNN = False
        inputs = inputs_of(graph, N=2)
        torch.testing.assert_close(model(*inputs.values()), evaluate(graph, inputs)["y"], rtol=1e-4, atol=1e-5)


NETWORK = """
    input x: f32[N, 3, 14, 14]
    y = x -> a: conv2d(8, 3) -> relu -> max_pool2d(3, stride = 2, padding = 1)
        -> b: conv2d(8, 3, bias = false) -> max_pool2d((2, 1), ceil_mode = true) -> relu
    output z = y -> c: conv2d(16, 2) -> relu -> d: conv2d(5, 1)
"""


def test_kernels_quantize_results_for_the_next_layer(tmp_path: Path) -> None:
    graph = quantized(NETWORK)
    source = source_of(graph)
    forward = source[source.index("def forward(self, x: Tensor)") :]
    assert forward.count("relu=True") == 3 and "F.relu" not in forward
    assert "pooled(x, 3, stride=2, padding=1)" in forward and "pooled(x, (2, 1), ceil_mode=True)" in forward
    assert forward.count("_in(") == 1, "what arrives is rounded, and all else where it is made"
    # Sums at a tie may be rounded to either neighbour: a difference of one step each.
    assert_agrees(graph, tmp_path, atol=0.1, N=3)


def test_kernels_round_as_the_graph_does(tmp_path: Path) -> None:
    """A layer that includes the `relu` and the next quantizer agrees with separate calls, up to one step."""
    graph = quantized(NETWORK)
    module = torch_modules.imported(graph, tmp_path)
    model = module.load()
    (x,) = inputs_of(graph, N=8).values()
    a = model.a(model.a_in(x), model.b_in, relu=True)
    alone = torch.nn.functional.relu(model.a(model.a_in(x)))
    steps = (a.integers().int() - model.b_in(alone).integers().int()).abs()
    assert steps.max() <= 1 and (steps > 0).float().mean() < 1e-3
    assert torch.equal(module.pooled(a, 3, 2, 1).decoded(), torch.nn.functional.max_pool2d(a.decoded(), 3, 2, 1))


LOOP = """model net(width = 24, depth = 3) {
    input x: f32[N, width]
    for i in 0..depth { x = x -> hidden[i]: linear(width) -> relu }
    output y = x -> hidden.head: linear(5)
}"""


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("scheme", ["static", "dynamic", "token"])
@pytest.mark.parametrize(
    "text",
    [
        "input x: f32[N, 24]  output y = x -> a: linear(16, bias = false) -> relu -> b: linear(24) -> relu",
        "input x: f32[N, 1, 24]  output y = x -> a: linear(16) -> b: linear(5, bias = false) -> relu",
        "input x: f32[N, 2, 12]  output y = x -> a: linear(16) -> relu -> flatten -> b: linear(5)",
        """input x: f32[N, 3, 14, 14]
        output y = x -> a: conv2d(8, 3) -> relu -> max_pool2d(2) -> flatten -> b: linear(16) -> relu -> c: linear(5)""",
        LOOP,
    ],
)
def test_successive_layers_agree_with_the_graph(text: str, scheme: str, rows: int, tmp_path: Path) -> None:
    options = 'scheme = "dynamic", granularity = "token"' if scheme == "token" else f'scheme = "{scheme}"'
    graph = graph_of(text if "model" in text else f"model net {{ {text} }}", f"quant({options}, least = 0)")
    assert "Int8Linear(" in source_of(graph)
    # Sums at a tie may be rounded to either neighbour.
    assert_agrees(graph, tmp_path, atol=0.02, N=rows)


def test_a_result_with_other_uses_is_quantized_separately(tmp_path: Path) -> None:
    graph = quantized("input x: f32[N, 3, 6, 6]  y = x -> a: conv2d(4, 3)  output z = (y -> b: conv2d(4, 1)) + y")
    assert "self.b_in(" in source_of(graph), "the numbers themselves are needed too"
    assert_agrees(graph, tmp_path, atol=1e-4)
