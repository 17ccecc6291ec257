"""Evaluation of graphs: outputs agree with PyTorch, and inputs of wrong shapes are refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

import archc
from archc.driver.binding import bind_fresh
from archc.interpreter.evaluate import NodeFailure, bind_sizes, evaluate, evaluate_all
from archc.ir.graph import Value


def bound(text: str, **tensors: torch.Tensor) -> archc.Graph:
    graph = archc.parse(text)
    bind_fresh(graph, 0)
    from archc.weights.tensor import ArrayTensor

    assert graph.tensors is not None
    for path, tensor in tensors.items():
        graph.tensors.set(path.replace("__", "."), ArrayTensor(tensor.detach().numpy()))
    return graph


def test_against_torch() -> None:
    torch.manual_seed(0)
    conv, fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)
    graph = bound(
        "model m { input x: f32[N, 3, 8, 8]  output y = x -> conv: conv2d(4, 3) -> relu -> flatten -> fc: linear(5) }",
        conv__weight=conv.weight,
        conv__bias=conv.bias,
        fc__weight=fc.weight,
        fc__bias=fc.bias,
    )
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(evaluate(graph, {"x": x})["y"], fc(conv(x).relu().flatten(1)))


def test_several_inputs_of_shared_sizes() -> None:
    text = "model m { input q: f32[N, T, 4]  input k: f32[N, S, 4]  input m: f32[T, S]"
    graph = bound(text + "  output w = (q, k -> transpose(1, 2)) -> matmul -> relu  output s = m * 2 }")
    q, k, m = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(3, 5)
    found = evaluate(graph, {"q": q, "k": k, "m": m})
    assert list(found) == ["w", "s"]
    torch.testing.assert_close(found["w"], (q @ k.mT).relu())
    torch.testing.assert_close(found["s"], 2 * m)
    with pytest.raises(ValueError, match="`S` is 5 in one input and 6 in `m`"):
        evaluate(graph, {"q": q, "k": k, "m": torch.randn(3, 6)})


SHAPES: list[tuple[Mapping[str, tuple[int, ...]], str]] = [
    ({"x": (2, 9), "y": (18,)}, r"`T` must be at most 8, got 9 in `x`"),
    ({"x": (2, 8, 1), "y": (16,)}, r"input `x` must be f32\[N, T\], got the shape \[2, 8, 1\]"),
    ({"x": (2, 8), "y": (17,)}, r"`2\*T` of input `y` must be 16, got 17"),
]


@pytest.mark.parametrize(("shapes", "message"), SHAPES)
def test_shapes_that_do_not_fit(shapes: Mapping[str, tuple[int, ...]], message: str) -> None:
    graph = archc.parse("model m { input x: f32[N, T <= 8]  input y: f32[2*T]  output a = x + 1  output b = y + 1 }")
    assert bind_sizes(graph, {"x": (2, 8), "y": (16,)}) == {"N": 2, "T": 8}
    with pytest.raises(ValueError, match=message):
        bind_sizes(graph, shapes)


@pytest.mark.parametrize(("scale", "offset"), [(1, 3), (2, 1), (2, 5), (4, 9), (16, 16), (3, -2)])
def test_a_size_is_bound_through_scale_and_offset(scale: int, offset: int) -> None:
    graph = archc.parse(f"model m {{ input x: f32[N, {scale} * H + ({offset})]  output y = arange(H) }}")
    for size in (1, 2, 7):
        length = scale * size + offset
        assert bind_sizes(graph, {"x": (3, length)}) == {"N": 3, "H": size}
        assert len(evaluate(graph, {"x": torch.zeros(3, length)})["y"]) == size
        if scale > 1:
            with pytest.raises(ValueError, match=f"must be {length}, got {length + 1}"):
                bind_sizes(graph, {"x": (3, length + 1)})


@pytest.mark.parametrize(
    ("length", "message"), [(103, "must be at most 101, got 103"), (3, "must be at least 5, got 3")]
)
def test_a_bound_holds_for_a_size_with_scale_and_offset(length: int, message: str) -> None:
    graph = archc.parse("model m { input x: f32[N, 2 * T + 5 <= 101]  output y = arange(T) }")
    assert bind_sizes(graph, {"x": (1, 101)})["T"] == 48 and bind_sizes(graph, {"x": (1, 5)})["T"] == 0
    with pytest.raises(ValueError, match=message):
        bind_sizes(graph, {"x": (1, length)})


def test_a_missing_input() -> None:
    with pytest.raises(KeyError):
        evaluate(archc.parse("model m { input x: f32[N]  output y = x + 1 }"), {})


def test_sizes_in_attributes_take_their_values() -> None:
    graph = bound("model m { input x: f32[N, T]  output y = x + arange(T, dtype = f32) * 2 + T }")
    x = torch.zeros(2, 3)
    assert evaluate(graph, {"x": x})["y"][0].tolist() == [3, 5, 7]


def test_values_come_in_order_and_an_input_may_be_an_output() -> None:
    graph = bound("model m { input x: f32[N]  h = x + 1  output y = h * h  output z = x }")
    x = torch.tensor([1.0, 2.0])
    assert [tensor.tolist() for _, tensor in evaluate_all(graph, {"x": x})] == [[1, 2], [2, 3], [4, 9]]
    assert evaluate(graph, {"x": x})["z"] is x


def test_operators_run_in_inference_mode() -> None:
    graph = bound("model m { input x: f32[N, 4]  output y = x -> dropout(0.5) -> bn: batch_norm }")
    x = torch.randn(64, 4)
    torch.testing.assert_close(evaluate(graph, {"x": x})["y"], x / np.sqrt(1 + 1e-5))


def test_operators_use_decoded_weights() -> None:
    graph = bound("model m { input x: f32[N, 8]  output y = x -> fc: linear(4, weight = int8(axis = 0)) }")
    weight, bias = (torch.from_numpy(graph.weight_values(f"fc.{name}").copy()) for name in ("weight", "bias"))
    x = torch.randn(3, 8)
    torch.testing.assert_close(evaluate(graph, {"x": x})["y"], nn.functional.linear(x, weight, bias))


def test_activations_are_freed() -> None:
    import weakref

    graph = bound("model m { input x: f32[N]  output y = x -> relu -> tanh -> sigmoid -> relu }")
    seen: list[weakref.ref[torch.Tensor]] = []
    alive = []
    for value, tensor in evaluate_all(graph, {"x": torch.ones(4)}):
        if value.producer is not None:
            seen.append(weakref.ref(tensor))
        del tensor
        alive.append(sum(one() is not None for one in seen))
    assert len(seen) == 4 and max(alive) <= 2


def test_a_scan_that_yields_needs_a_step() -> None:
    text = "model m { input x: f32[N, T, 2]  scan t in x, h = zeros((N, 2)) { h = h + t  yield y = h }  output z = y }"
    with pytest.raises(NodeFailure, match="0 steps"):
        evaluate(archc.parse(text), {"x": torch.ones(3, 0, 2)})


def test_values_of_a_scan_are_replaced() -> None:
    text = "model m { input x: f32[N, T, 2]  scan t in x, h = zeros((N, 2)) { h = h + t  yield y = h }"
    graph = archc.parse(text + "  output z = y[:, 0] + h }")
    replaced: list[Value] = []

    def change(value: Value, tensor: torch.Tensor) -> torch.Tensor:
        replaced.append(value)
        return tensor + 1 if tensor.is_floating_point() else tensor

    x = torch.ones(3, 4, 2)
    seen = dict(evaluate_all(graph, {"x": x}, change=change))
    assert set(replaced) == set(seen)
    # Each value is 1 more: t = 3; h = 1 before the scan and 5 more after each step; h = 22 and y[:, 0] = 8 after it.
    assert seen[graph.outputs["z"]].unique().tolist() == [8 + 22 + 1]
