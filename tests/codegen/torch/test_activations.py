"""Activations as modules: names, one module for each use, state dict, and guided backpropagation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import archc
from archc.codegen.torch import emit
from archc.declaration.base import OPERATORS
from archc.diagnostics import Diagnostics
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from tests.codegen.torch_modules import CONVOLUTIONS, GPT, assert_paths, graph_of, imported, inputs_of


def with_modules(graph: Graph) -> str:
    return emit(graph, source_name="net.arch", weights_name=f"{graph.name}.safetensors", activations="modules")


def loaded(graph: Graph, folder: Path) -> nn.Module:
    """The module with activations as modules; it agrees with the graph, and has the same state dict."""
    model: nn.Module = imported(graph, folder, with_modules(graph)).load()
    inputs = inputs_of(graph)
    with torch.no_grad():
        found = model(*inputs.values())
    (expected,) = evaluate(graph, inputs).values()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert_paths(model, graph)
    return model


def most_calls(model: nn.Module, graph: Graph, kind: type[nn.Module]) -> int:
    """The largest number of calls of a module of a class in one run of the model; each module is called."""
    calls = Counter({module: 0 for module in model.modules() if isinstance(module, kind)})
    for module in calls:
        module.register_forward_hook(lambda module, inputs, result: calls.update([module]))
    model(*inputs_of(graph).values())
    assert calls and min(calls.values()) > 0
    return max(calls.values())


@pytest.mark.parametrize(("text", "kind"), [(GPT, nn.GELU), (CONVOLUTIONS, nn.ReLU)])
def test_each_use_has_a_module_of_its_own(text: str, kind: type[nn.Module], tmp_path: Path) -> None:
    graph = graph_of(text)
    assert "F.gelu" not in with_modules(graph) and "F.relu" not in with_modules(graph)
    assert most_calls(loaded(graph, tmp_path), graph, kind) == 1


def test_names_differ_from_the_names_of_the_text(tmp_path: Path) -> None:
    graph = graph_of("""
    model m {
        input x: f32[N, 8]
        x = x -> relu1: linear(8) -> relu -> relu2: linear(8) -> relu -> act: tanh
        output y = x -> gelu: linear(8) -> gelu -> leaky_relu(0.2) -> relu6
    }
    """)
    model = loaded(graph, tmp_path)
    members = {name: type(module).__name__ for name, module in model.named_children()}
    assert members == {
        "relu1": "Linear",
        "relu3": "ReLU",
        "relu2": "Linear",
        "relu4": "ReLU",
        "act": "Tanh",
        "gelu": "Linear",
        "gelu1": "GELU",
        "leaky_relu": "LeakyReLU",
        "relu6": "ReLU6",
    }


def test_a_shared_activation_has_a_module_for_each_use(tmp_path: Path) -> None:
    graph = graph_of("""
    model m {
        input x: f32[N, 8]
        layer act = relu
        x = x -> fc1: linear(8) -> act
        for i in 0..3 { x = x -> h[i]: linear(8) -> act }
        output y = x -> fc2: linear(8) -> act
    }
    """)
    assert most_calls(loaded(graph, tmp_path), graph, nn.ReLU) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_the_activations_of_a_loop_are_a_list(first: int, tmp_path: Path) -> None:
    graph = graph_of(f"""
    model m {{
        input x: f32[N, 8]
        x = x -> h[0]: linear(8) -> sigmoid
        for i in 1..5 {{ x = x -> h[i]: linear(8){" -> relu" if first else " -> sigmoid"} }}
        output y = x
    }}
    """)
    source = with_modules(graph)
    assert f"in zip({'self.h[1:], self.relu' if first else 'self.h, self.sigmoid'}):" in source
    assert most_calls(loaded(graph, tmp_path), graph, nn.ReLU if first else nn.Sigmoid) == 1


def test_lists_of_activations_may_have_several_lengths(tmp_path: Path) -> None:
    graph = graph_of("""
    block Deep(depth, slope) {
        input x: f32[N, C]
        for i in 0..depth { x = x -> fc[i]: linear(C) -> leaky_relu(slope) }
        output x
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Deep(2, 0.1) -> b: Deep(4, 0.3)
    }
    """)
    source = with_modules(graph)
    assert source.count("class Deep") == 1
    assert "nn.LeakyReLU(negative_slope=slope) for _ in range(depth)" in source
    assert most_calls(loaded(graph, tmp_path), graph, nn.LeakyReLU) == 1


def test_an_activation_in_a_scan_is_one_module_for_all_steps(tmp_path: Path) -> None:
    graph = graph_of("""
    model m {
        input x: f32[N, 3, 4]
        scan x_t in x, h = zeros((N, 4)) {
            h = x_t + (h -> rec: linear(4)) -> tanh
        }
        output y = h
    }
    """)
    assert most_calls(loaded(graph, tmp_path), graph, nn.Tanh) == 3


def test_relus_that_an_int8_kernel_computes_get_no_module() -> None:
    text = """
    model m {
        input x: f32[N, 16]
        output y = x -> fc1: linear(16) -> relu -> fc2: linear(16) -> tanh -> fc3: linear(4)
    }
    """
    source = with_modules(graph_of(text, "quant(least = 1)"))
    assert "nn.ReLU" not in source and "self.tanh = nn.Tanh()" in source


def test_stages_have_modules(tmp_path: Path) -> None:
    compiled = archc.compile(CONVOLUTIONS, passes="partition(2)")
    compiled.write(tmp_path, emit="torch", activations="modules")
    stages = sorted(tmp_path.glob("*stage*.py"))
    assert stages
    texts = [path.read_text() for path in (tmp_path / "net.py", *stages)]
    assert all("F.relu" not in text for text in texts) and all("nn.ReLU()" in text for text in texts)


@pytest.mark.parametrize("name", sorted(name for name, op in OPERATORS.items() if op.torch_activation))
def test_module_and_function_agree(name: str, tmp_path: Path) -> None:
    """The module has the attributes of the operator, and computes the same function."""
    example = {"threshold": "threshold(0.1, 20)", "leaky_relu": "leaky_relu(0.2)", "glu": "glu(1)"}.get(name, name)
    options = {"softplus": "softplus(2.0, 3.0)", "hardtanh": "hardtanh(-2, 2)", "softmax": "softmax(1)"}
    step = options.get(name, example)
    graph = graph_of(f"model m {{\n input x: f32[N, 6, 4]\n output y = x -> {step}\n}}")
    assert f" = {OPERATORS[name].torch_activation}(" in with_modules(graph)
    loaded(graph, tmp_path)


class GuidedReLU(torch.autograd.Function):
    """ReLU whose backward passes only positive gradients (Springenberg et al. 2015, section 3.4)."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = context.saved_tensors  # type: ignore[attr-defined]
        return gradient.clamp(min=0) * (x > 0)


def guided(model: nn.Module, image: Tensor) -> Tensor:
    """Gradient of the largest score by guided backpropagation, with hooks on each `nn.ReLU`."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda module, entering, leaving: (entering[0].clamp(min=0),))
    image = image.clone().requires_grad_()
    model(image).max().backward()
    assert image.grad is not None
    return image.grad


def test_guided_backpropagation_needs_modules(tmp_path: Path) -> None:
    graph = graph_of(CONVOLUTIONS)
    image = inputs_of(graph, N=1)["image"]
    source = emit(graph, source_name="net.arch", weights_name="net.safetensors")
    reference = imported(graph, tmp_path, source.replace("F.relu(", "GUIDED(").replace("nn.ReLU()", "GUIDED"))
    reference.__dict__["GUIDED"] = GuidedReLU.apply
    wanted = guided(reference.load(), image)
    found = guided(archc.compile(CONVOLUTIONS).module(activations="modules"), image)
    silently_wrong = guided(archc.compile(CONVOLUTIONS).module(), image)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(silently_wrong, wanted, rtol=0.1)


@pytest.mark.parametrize(
    ("text", "passes", "targets", "reason"),
    [
        (CONVOLUTIONS, "", "arch", "has no effect: no target with modules is written"),
        ("model m { input x: f32[N, 4]  output y = x -> fc: linear(4) }", "", "torch,arch", "`m` has no activation"),
        (CONVOLUTIONS, "quant(least = 0)", "torch", "has no effect in layers that compute in int8"),
    ],
)
def test_an_option_without_effect_is_reported(
    text: str, passes: str, targets: str, reason: str, tmp_path: Path
) -> None:
    found = Diagnostics()
    compiled = archc.compile(text, passes=passes, diagnostics=found)
    compiled.write(tmp_path, emit=targets, activations="modules")
    (warning,) = [one for one in found.warnings if one.code == "option-without-effect"]
    assert reason in warning.message


@pytest.mark.parametrize("given", ["classes", np.array(["modules", "functions"])])
def test_an_unknown_form_is_refused(given: Any, tmp_path: Path) -> None:
    compiled = archc.compile(CONVOLUTIONS)
    with pytest.raises(ValueError, match="`activations` takes 'functions' or 'modules', not"):
        compiled.write(tmp_path, activations=given)
