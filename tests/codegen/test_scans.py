"""Emitted forms of `scan`: the loop in PyTorch and the `Scan` in ONNX agree with hand-written loops."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from archc.codegen.onnx import check, run, run_tensors, to_model
from archc.interpreter.evaluate import evaluate

from .random_scans import random_text
from .scan_cases import ELMAN, TEXTS
from .torch_modules import assert_agrees, fresh, graph_of, imported, inputs_of, source_of

SIZES = [{"B": 2, "T": 4, "S": 3}, {"B": 3, "T": 1, "S": 2}, {"B": 0, "T": 3, "S": 2}]


@pytest.mark.parametrize("case", TEXTS)
def test_pytorch_onnx_and_the_graph_agree(case: str, tmp_path: Path) -> None:
    graph = graph_of(TEXTS[case])
    model = to_model(graph)
    check(model)
    for sizes in SIZES:
        assert_agrees(graph, tmp_path, **sizes)
        inputs = inputs_of(graph, **sizes)
        found = run(model, {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, wanted in evaluate(graph, inputs).items():
            torch.testing.assert_close(torch.from_numpy(found[name]), wanted, atol=1e-5, rtol=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_random_scans_agree(seed: int) -> None:
    graph = graph_of(random_text(seed))
    with TemporaryDirectory() as folder:
        assert_agrees(graph, Path(folder), B=2, T=3)
    inputs = inputs_of(graph, B=2, T=3)
    found = run(to_model(graph), {name: tensor.numpy() for name, tensor in inputs.items()})
    for name, wanted in evaluate(graph, inputs).items():
        torch.testing.assert_close(torch.from_numpy(found[name]), wanted, atol=1e-4, rtol=1e-3)


def test_scans_without_effect_are_removed() -> None:
    text = """model m {
        input x: f32[B, T, 4]
        input h0: f32[B, 4]
        scan x_t in x, h = h0 { h = h }
        output y = h * 2
    }"""
    assert "for " not in forward_of(text)


# Written by hand ----------------------------------------------------------------------------------------------


def elman(m: nn.Module, x: Tensor) -> list[Tensor]:
    h, outputs = torch.zeros(len(x), 6), []
    for t in range(x.shape[1]):
        h = torch.tanh(m.w_xh(x[:, t]) + h @ m.w_hh.weight.T)
        outputs.append(m.w_hy(h))
    return [h, torch.stack(outputs, 1)]


def swapped(m: nn.Module, x: Tensor) -> list[Tensor]:
    a, b, outputs = torch.zeros(len(x), 4), torch.ones(len(x), 4), []
    for t in range(x.shape[1]):
        a, b = b, a + x[:, t]
        outputs.append(a - b)
    return [torch.stack(outputs, 1), a, b]


def differences(m: nn.Module, x: Tensor) -> list[Tensor]:
    return [torch.diff(x, dim=1, prepend=torch.zeros(len(x), 1, 4)), x[:, -1]]


def shifted(m: nn.Module, x: Tensor) -> list[Tensor]:
    sums = x.cumsum(1)
    return [torch.cat([torch.zeros(len(x), 1, 4), sums[:, :-1]], 1), sums[:, -1]]


def nested(m: nn.Module, x: Tensor, z: Tensor) -> list[Tensor]:
    h, outputs = torch.zeros(len(x), 4), []
    for t in range(x.shape[1]):
        steps = []
        for s in range(z.shape[1]):
            h = torch.tanh(m.w(z[:, s]) + m.u(h) + x[:, t])
            steps.append(h)
        h = h * 0.5
        outputs.append(torch.stack(steps, 1).mean(1))
    return [torch.stack(outputs, 1), h]


def attentive(m: nn.Module, x: Tensor, memory: Tensor) -> list[Tensor]:
    h, outputs, alignments = torch.zeros(len(x), 4), [], []
    for t in range(x.shape[1]):
        scores = m.v(torch.tanh(m.w(memory) + m.u(h)[:, None]))
        weights = torch.softmax(scores[..., 0], 1)
        h = torch.tanh(m.fc(torch.einsum("bs,bsd->bd", weights, memory) + x[:, t]))
        outputs.append(h)
        alignments.append(weights)
    return [torch.stack(outputs, 1), torch.stack(alignments, 1)]


def stacked(m: nn.Module, x: Tensor) -> list[Tensor]:
    for i in range(3):
        h, outputs = torch.zeros(len(x), 4), []
        for t in range(x.shape[1]):
            h = torch.tanh(m.w[i](x[:, t]) + m.u[i](h))
            outputs.append(h)
        x = x + torch.stack(outputs, 1)
    return [x]


def deep(m: nn.Module, x: Tensor) -> list[Tensor]:
    h, outputs = torch.zeros(len(x), 4), []
    for t in range(x.shape[1]):
        h = h + x[:, t]
        for i in range(3):
            h = torch.tanh(m.fc[i](h))
        outputs.append(h)
    return [torch.stack(outputs, 1)]


def tied(m: nn.Module, tokens: Tensor) -> list[Tensor]:
    e = m.wte(tokens)
    h, outputs = torch.zeros(len(e), 5), []
    for t in range(e.shape[1]):
        h = torch.tanh(m.w(e[:, t]) + h @ m.w.weight.T + m.u.bias)
        outputs.append(h @ m.wte.weight.T)
    return [torch.stack(outputs, 1)]


REFERENCES: dict[str, Callable[..., list[Tensor]]] = {
    "elman": elman,
    "states that swap": swapped,
    "a state that becomes an element of the sequence": differences,
    "a yield of the state before the step": shifted,
    "a scan in a scan": nested,
    "attention in a step": attentive,
    "a scan in a loop": stacked,
    "a loop in a scan": deep,
    "tied weights in a step": tied,
}


@pytest.mark.parametrize("case", REFERENCES)
def test_results_and_gradients_agree_with_a_hand_written_loop(case: str, tmp_path: Path) -> None:
    graph = graph_of(TEXTS[case])
    model = imported(graph, tmp_path).load().train()
    inputs = list(inputs_of(graph, B=2, T=5, S=3).values())
    leaves = list(model.parameters())
    for tensor in inputs:
        if tensor.is_floating_point():
            leaves.append(tensor.requires_grad_())
    results = model(*inputs)
    found = list(results) if isinstance(results, tuple) else [results]
    wanted = REFERENCES[case](model, *inputs)
    # The gradients of squares depend on the values of the results.
    gradients = [torch.autograd.grad(sum((y**2).sum() for y in ys), leaves) for ys in (found, wanted)]
    for one, other in zip((*found, *gradients[0]), (*wanted, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert all(gradient.abs().max() > 0 for gradient in gradients[1])


# Emitted source -----------------------------------------------------------------------------------------------


def forward_of(text: str) -> str:
    """The body of the last `forward` of an emitted module."""
    source = source_of(graph_of(text))
    signature = list(re.finditer(r"def forward\(.*?\) -> .*?:\n", source, re.DOTALL))[-1]
    return source[signature.end() :].partition("\n\n\n")[0] + "\n"


def test_the_loop_reads_as_one_would_write_it() -> None:
    expected = """\
        B = x.shape[0]
        h = torch.zeros((B, 6), device=x.device)  # [B, 6]
        outputs = []
        for x_t in x.unbind(1):
            h = torch.tanh(self.w_xh(x_t) + self.w_hh(h))  # [B, 6]
            y_t = self.w_hy(h)  # [B, 3]
            outputs.append(y_t)
        return h, torch.stack(outputs, 1)
"""
    assert forward_of(ELMAN) == expected


def test_sequences_side_by_side_and_lists_with_names() -> None:
    body = forward_of(TEXTS["several sequences and states"])
    assert "for x_t, z_t, i in zip(x.unbind(1), z.unbind(1), ids.unbind(1)):" in body
    assert "a = torch.stack(a_steps, 1)" in body


def test_states_are_assigned_at_once() -> None:
    assert "            a, b, c = x, a, b\n" in forward_of(TEXTS["states that rotate"])


def test_loops_around_and_within_a_scan_are_loops() -> None:
    around, within = forward_of(TEXTS["a scan in a loop"]), forward_of(TEXTS["a loop in a scan"])
    assert around.count("for x_t in x.unbind(1):") == 1 and "for layer, layer2 in zip(self.w, self.u):" in around
    assert "            for fc in self.fc:\n                z = torch.tanh(fc(z))\n" in within


def test_unused_results_are_not_stacked() -> None:
    assert "a_steps" not in forward_of(TEXTS["results that are not used"])


def test_torch_compile_traces_one_graph(tmp_path: Path) -> None:
    graph = graph_of(ELMAN)
    model = imported(graph, tmp_path).load()
    x = inputs_of(graph, B=2, T=3)["x"]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for one, other in zip(compiled(x), model(x), strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_draws_anew_in_each_step(tmp_path: Path) -> None:
    text = """model m {
        input x: f32[B, T, 4]
        scan x_t in x { yield y = x_t -> dropout(0.5) }
        output y
    }"""
    model = fresh(graph_of(text), tmp_path)
    torch.manual_seed(0)
    dropped = model(torch.ones(1, 50, 4)) == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert not (dropped == dropped[:, :1]).all()


def test_onnx_has_one_node_with_the_steps_in_it_and_the_rest_before(tmp_path: Path) -> None:
    model = to_model(graph_of(TEXTS["values from outside"]))
    (scan,) = [node for node in model.graph.node if node.op_type == "Scan"]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert {node.op_type for node in body.node} == {"Mul", "Add"}
    assert "Gemm" in {node.op_type for node in model.graph.node}
    assert [len(side) for side in (scan.input, scan.output, body.input, body.output)] == [2, 2, 2, 2]
    onnx.checker.check_model(model, full_check=True)


def test_a_scale_in_f16_that_a_step_reads_is_not_cast_twice() -> None:
    """ONNX Runtime loses a value that is cast to f16 outside a `Scan` and used only inside."""
    graph = graph_of(
        "model m { input x: f16[B, T, 2]"
        "  scan s in x, h = x, k = x { _q, scale, _z = x -> quantize(u8)  h = h + scale }  output y = k }"
    )
    model = to_model(graph)
    assert [node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i == 10] == []
    inputs = inputs_of(graph, B=2, T=3)
    torch.testing.assert_close(run_tensors(model, [*inputs.values()])[0], inputs["x"], atol=0, rtol=0)
