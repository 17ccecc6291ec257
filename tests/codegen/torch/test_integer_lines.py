"""Lines, sequences of integer layers that run in one call for a single sample."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from archc.ir.graph import Graph
from tests.codegen import torch_modules
from tests.codegen.torch.test_integer_layers import operators_of, quantized
from tests.codegen.torch_modules import assert_agrees, graph_of, inputs_of, source_of, with_exact_sums

ROW = """input x: f32[N, 24]
    output y = x -> a: linear(16, bias = false) -> relu -> b: linear(24) -> relu -> c: linear(5)"""
PLAIN = "input x: f32[N, 1, 24]  output y = x -> a: linear(16) -> b: linear(5, bias = false) -> relu"
LOOP = """model net(width = 24, depth = 3) {
    input x: f32[N, width]
    for i in 0..depth { x = x -> hidden[i]: linear(width) -> relu }
    output y = x -> head: linear(5)
}"""
CONVOLUTIONS = """input x: f32[N, 3, 14, 14]
    y = x -> a: conv2d(8, 3) -> relu -> max_pool2d(3, stride = 2, padding = 1)
        -> b: conv2d(8, 3, padding = 1, bias = false) -> max_pool2d((2, 1), ceil_mode = true) -> relu
    output z = y -> flatten -> c: linear(16) -> relu -> d: linear(16) -> relu -> e: linear(5)"""
FLATTENED = "input x: f32[N, 2, 12]  output y = x -> a: linear(16) -> relu -> flatten -> b: linear(5)"
ALONE = LOOP.replace("output y = x -> head: linear(5)", "output y = x")


@pytest.fixture(autouse=True, params=["integers", "floats", "both"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the tests with integer kernels, in floating point, and with both in one line."""

    def patched(*arguments: Any) -> ModuleType:
        module = original(*arguments)
        # A row counts as six, so the layers `a` and `b` of `ROW` have 6 x 24 x 16 MACs, and `c` has 6 x 24 x 5.
        module.CACHED = 0  # otherwise, layers of these sizes would all compute in floating point
        module.Int8Linear.least = {"integers": 1, "floats": math.inf, "both": 1000}[request.param]
        return module

    original = torch_modules.imported
    monkeypatch.setattr(torch_modules, "imported", patched)


def rounded(text: str, scheme: str = "static") -> Graph:
    return graph_of(text if "model" in text else f"model net {{ {text} }}", f'quant(scheme = "{scheme}", least = 0)')


def loaded(tmp_path: Path, scheme: str = "static") -> tuple[ModuleType, torch.nn.Module, torch.Tensor]:
    """Return the module, a model after a call with one row, and the row."""
    module = torch_modules.imported(quantized(ROW, scheme=scheme), tmp_path)
    sys.modules[module.__name__] = module  # where pickle looks for the classes
    model, x = module.load(), torch.randn(1, 24, generator=torch.Generator().manual_seed(0))
    model(x)
    return module, model, x


def one_by_one(module: ModuleType, model: torch.nn.Module, x: torch.Tensor, scheme: str = "static") -> torch.Tensor:
    """Return the result of `ROW`, computed by separate calls of its layers."""
    for name in "abc":
        rounding = getattr(model, f"{name}_in") if scheme == "static" else module.quantize
        x = getattr(model, name)(rounding(x if name == "a" else torch.nn.functional.relu(x)))
    return x


@pytest.mark.parametrize(
    ("text", "arguments", "relu_after"),
    [
        (ROW, "x, [self.a_in, self.b_in, self.c_in], [self.a, self.b, self.c], relu=True", False),
        (PLAIN, "x, [self.a_in, self.b_in], [self.a, self.b]", True),
        (LOOP, "x, [*self.hidden_in, self.head_in], [*self.hidden, self.head], relu=True", False),
        (ALONE, "x, self.hidden_in, self.hidden, relu=True", True),
    ],
)
def test_successive_linear_layers_are_a_line(text: str, arguments: str, relu_after: bool) -> None:
    for scheme in ("static", "dynamic"):
        source = source_of(rounded(text, scheme))
        forward = " ".join(source[source.index("    def forward(self, x: Tensor) -> Tensor:") :].split())
        call = f"fixed_line({arguments})"
        if scheme == "dynamic":
            first, _, rest = arguments.partition("_in, ") if "[" not in arguments else arguments.partition("], ")
            call = f"ranged_line({first[0]}, {rest})"
        assert call in forward.replace("( ", "(").replace(" )", ")")
        assert ("F.relu(" in forward) == relu_after


def test_convolutions_are_part_of_a_line_that_ends_in_a_linear_layer() -> None:
    source = source_of(rounded(CONVOLUTIONS))
    forward = " ".join(source[source.index("    def forward(self, x: Tensor) -> Tensor:") :].split())
    assert "[self.a, self.b, self.c, self.d, self.e], relu=True, moves=[" in forward
    moves = ["lambda x: pooled(x, 3, stride=2, padding=1)", "lambda x: pooled(x, (2, 1), ceil_mode=True).flatten(1)"]
    assert ", ".join([*moves, "None", "None", "None"]) in forward
    linear = CONVOLUTIONS.replace("y -> flatten -> ", "y -> ")
    residual = "input x: f32[N, 4, 6, 6]  output y = (x -> a: conv2d(4, 1) -> relu -> b: conv2d(4, 1)) + x"
    assert "fixed_line(x" not in source_of(quantized(linear)), "a sample has several rows"
    assert "fixed_line" not in source_of(quantized(residual))


def test_a_convolution_is_called_if_its_integer_kernel_pays(tmp_path: Path) -> None:
    graph = rounded(CONVOLUTIONS)
    module = torch_modules.imported(graph, tmp_path)
    model, (x,) = module.load(), inputs_of(graph, N=1).values()
    called: list[str] = []
    for name, child in model.named_children():
        child.register_forward_hook(lambda *_, name=name: called.append(name))
    expected = model(x)
    called.clear()
    model(x)
    assert not called
    exact, module.Int8Conv2d.least = module.EXACT, 1
    with_exact_sums(model).e.line = None
    found = model(x)
    if exact:  # without VNNI the kernel saturates
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    called.clear()
    model(x)
    assert {*"abcde"} <= {*called}
    module.Int8Conv2d.least = math.inf
    model.e.line = None
    larger = torch.randn(2, 3, 14, 14)
    alone = torch.cat([model(image[None]) for image in larger])
    torch.testing.assert_close(model(larger), alone, atol=0.02, rtol=0)


def test_shared_layers_and_layers_of_one_operand_are_no_line() -> None:
    twice = "input x: f32[N, 8]  layer fc = linear(8)  output y = x -> fc -> relu -> fc"
    together = "input x: f32[N, 8]  output y = (x -> a: linear(8)) + (x -> b: linear(8))"
    for scheme in ("static", "dynamic"):
        assert all("_line(" not in source_of(quantized(text, scheme=scheme)) for text in (twice, together))
        assert "self.a(quantized) + self.b(quantized)" in source_of(quantized(together, scheme=scheme))


@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("scheme", ["static", "dynamic"])
@pytest.mark.parametrize("text", [ROW, PLAIN, LOOP, ALONE, CONVOLUTIONS, FLATTENED])
def test_a_line_computes_what_the_graph_does(text: str, scheme: str, rows: int, tmp_path: Path) -> None:
    # Sums at a tie may be rounded to either neighbour.
    assert_agrees(rounded(text, scheme), tmp_path, atol=0.02, N=rows)


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_a_row_agrees_with_separate_layers(scheme: str, tmp_path: Path) -> None:
    module, model, _ = loaded(tmp_path, scheme)
    rows = torch.randn(64, 24, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([model(row[None]) for row in rows])
    expected = torch.cat([one_by_one(module, model, row[None], scheme) for row in rows])
    apart = ((alone - expected).abs() > 1e-5).any(1).float().mean()
    assert apart < 0.05, "rounded to the other side of a tie"
    torch.testing.assert_close(alone, expected, atol=0.1, rtol=0)
    if scheme == "static":
        torch.testing.assert_close(model(rows), alone, atol=0.1, rtol=0)


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_a_row_calls_no_layer_and_follows_their_changes(scheme: str, tmp_path: Path) -> None:
    module, model, x = loaded(tmp_path, scheme)
    called: list[str] = []
    for name, child in model.named_children():
        child.register_forward_hook(lambda *_, name=name: called.append(name))
    model(x)
    assert not called
    for name, buffer in model.named_buffers():
        before, kept = model(x), buffer.clone()
        if name.endswith("zero_point"):
            buffer.fill_(0)  # clamps negative operands
        elif buffer.dtype == torch.int8:
            buffer.neg_()
        else:
            buffer.mul_(8)
        after = model(x)
        torch.testing.assert_close(after, one_by_one(module, model, x, scheme), atol=1e-4, rtol=1e-4, msg=name)
        assert not torch.equal(before, after) or not name.endswith(("weight", "weight_scale", "bias")), name
        buffer.copy_(kept)


def test_a_row_follows_the_state_dict_and_other_layers(tmp_path: Path) -> None:
    _, model, x = loaded(tmp_path)
    _, other, _ = loaded(tmp_path)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["c.weight_scale"] *= 2
    expected = 2 * (model(x) - model.c.bias) + model.c.bias
    other.load_state_dict(state, assign=True)
    torch.testing.assert_close(other(x), expected)
    model.load_state_dict(state)
    torch.testing.assert_close(model(x), expected)
    _, fresh, _ = loaded(tmp_path)
    fresh.b, fresh.c = copy.deepcopy(fresh.b), other.c
    torch.testing.assert_close(fresh(x), expected)


def test_a_row_after_copies_and_in_inference_mode(tmp_path: Path) -> None:
    _, model, x = loaded(tmp_path)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    with torch.inference_mode():
        expected = model(x).clone()
    _, fresh, _ = loaded(tmp_path)
    with torch.inference_mode():
        fresh(x)
    torch.testing.assert_close(fresh(x.requires_grad_()), expected)
    assert model(x[:0]).shape == (0, 5)


def test_a_row_multiplies_integers_in_large_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the module chooses its kernels
    for width, wanted in ((128, {"aten::linear"}), (512, {"aten::_int_mm"})):
        text = f"input x: f32[N, {width}]  output y = x -> a: linear({width}) -> relu -> b: linear({width})"
        model = with_exact_sums(torch_modules.imported(rounded(text), tmp_path).load())
        found = operators_of(model, *inputs_of(rounded(text), N=1).values())
        assert found & {"aten::linear", "aten::_int_mm", "onednn::qlinear_pointwise"} == wanted


@pytest.mark.parametrize(
    ("tail", "scheme"),
    [
        ("output y = x -> hidden.norm: layer_norm", "static"),
        ("output y = x -> hidden.head: linear(5)", "dynamic"),
        ("output y = x -> hidden.keys: linear(5)", "static"),
    ],
)
def test_a_list_with_named_members(tail: str, scheme: str, tmp_path: Path) -> None:
    """A line has only the numbered layers of a list: `hidden[0]`, but not `hidden.norm`."""
    graph = rounded(LOOP.replace("output y = x -> head: linear(5)", tail), scheme)
    assert "for k in range(3)" in source_of(graph)
    assert_agrees(graph, tmp_path, atol=0.02)
