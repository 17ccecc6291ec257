"""Verifier: each kind of invalid graph is found, and the message names the node, weight or output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from archc.declaration import OPERATORS
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph, Node, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import InvalidGraph, verify
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor

F32 = TensorType(DType.f32, (symbol("N"), 4))


def good() -> Graph:
    """Return a valid graph with weights: x -> fc1 -> relu -> fc2."""
    graph = Graph("m")
    rewriter = Rewriter(graph)
    value = rewriter.input("x", F32)
    value = rewriter.add(OPERATORS["linear"](4), [value], name="fc1").result
    value = rewriter.add(OPERATORS["relu"](), [value]).result
    rewriter.output("y", rewriter.add(OPERATORS["linear"](4), [value], name="fc2").result)
    bind_fresh(graph, 0)
    return graph


def fc(graph: Graph, number: int) -> Node:
    return graph.layers()[f"fc{number}"]


def cycle(graph: Graph) -> None:
    graph._set_operands(fc(graph, 1), fc(graph, 2).results)


def foreign_operand(graph: Graph) -> None:
    graph._set_operands(fc(graph, 1), (Value(F32),))


def wrong_result(graph: Graph) -> None:
    fc(graph, 1).result.type = TensorType(DType.f32, (symbol("N"), 5))


def misfit(graph: Graph) -> None:
    graph.inputs[0].type = TensorType(DType.f32, ())


def lost_weight(graph: Graph) -> None:
    del graph.weights["fc2.bias"]


def other_weights(graph: Graph) -> None:
    fc(graph, 2).weights = {"weight": "fc2.weight"}


def misshapen_weight(graph: Graph) -> None:
    graph.weights["fc2.weight"] = replace(graph.weights["fc2.weight"], shape=(4, 5))


def mistyped_weight(graph: Graph) -> None:
    graph.weights["fc2.weight"] = replace(graph.weights["fc2.weight"], dtype=DType.f16)


def unused_weight(graph: Graph) -> None:
    graph.weights["left.over"] = replace(graph.weights["fc2.weight"], path="left.over")


def two_of_a_name(graph: Graph) -> None:
    fc(graph, 2).name = "fc1"


def dead_node(graph: Graph) -> None:
    Rewriter(graph).add(OPERATORS["tanh"](), graph.inputs)


def foreign_output(graph: Graph) -> None:
    graph.outputs["z"] = Value(F32, name="z")


def unbound_tensor(graph: Graph) -> None:
    assert graph.tensors is not None
    graph.tensors.remove("fc1.bias")


def misshapen_tensor(graph: Graph) -> None:
    assert graph.tensors is not None
    graph.tensors.set("fc1.bias", ArrayTensor(np.zeros(5, np.float32)))


def surplus_tensor(graph: Graph) -> None:
    assert graph.tensors is not None
    graph.tensors.set("left.over", ArrayTensor(np.zeros(5, np.float32)))


BREAKS: list[tuple[Callable[[Graph], None], str]] = [
    (cycle, "the graph has a cycle"),
    (foreign_operand, "fc1 uses a value without a producer in the graph"),
    (wrong_result, "fc1 has results .* and its operator infers"),
    (misfit, "fc1 has operands that do not fit: "),
    (lost_weight, "fc2 uses the weight fc2.bias, which is not in the graph"),
    (other_weights, r"fc2 has the weights \['weight'\], not \['weight', 'bias'\]"),
    (misshapen_weight, r"fc2.weight is f32\[4, 5\], and fc2 needs f32\[4, 4\]"),
    (mistyped_weight, r"fc2.weight is f16\[4, 4\], and fc2 needs f32\[4, 4\]"),
    (unused_weight, "no layer uses the weight left.over"),
    (two_of_a_name, "two different layers have the path fc1"),
    (dead_node, "tanh is dead: no output depends on it"),
    (foreign_output, "the output z has no producer in the graph"),
    (unbound_tensor, "no tensor is bound to fc1.bias"),
    (misshapen_tensor, r"fc1.bias is bound to f32\[5\], not f32\[4\]"),
    (surplus_tensor, "a tensor is bound to left.over, which is not a stored tensor of a weight"),
]


def test_a_good_graph_passes() -> None:
    verify(good())


@pytest.mark.parametrize(("damage", "message"), BREAKS, ids=[damage.__name__ for damage, _ in BREAKS])
def test_damage_is_found(damage: Callable[[Graph], None], message: str) -> None:
    graph = good()
    damage(graph)
    with pytest.raises(InvalidGraph, match=f"^{message}"):
        verify(graph)


def test_a_layer_that_is_used_twice_is_one_layer() -> None:
    graph = good()
    rewriter = Rewriter(graph)
    again = rewriter.add(OPERATORS["linear"](4), [graph.outputs["y"]], name="fc2")
    rewriter.output("y", again.result)
    verify(graph)
