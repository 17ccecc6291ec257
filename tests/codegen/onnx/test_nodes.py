"""Nodes of an ONNX graph under construction: order, uses and constants after random changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto

import archc
from archc.codegen.onnx import rewrites
from archc.codegen.onnx.nodes import OnnxNode, OnnxNodes
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import one_of, pattern, result_of
from archc.types.tensor_type import DType


def nodes_of(*rows: tuple[str, ...]) -> OnnxNodes:
    """Nodes of one result; a row has the operator, the result and the operands.  `w` is an initializer."""
    nodes = OnnxNodes({"w": DType.f32}.get)
    for kind, result, *operands in rows:
        nodes.append(nodes.new(kind, operands, [result]))
    return nodes


def consumers(nodes: OnnxNodes, name: str) -> list[str]:
    return [node.name for node in nodes.uses.consumers(nodes.value(name))]


def test_values_know_their_producers_and_consumers() -> None:
    nodes = nodes_of(("Relu", "a", "x"), ("Add", "b", "a", "x"), ("Mul", "c", "b", "b"))
    assert consumers(nodes, "x") == ["a", "b"] and consumers(nodes, "b") == ["c"]
    assert nodes.value("x").producer is None
    assert [nodes.value(name).producer for name in "abc"] == list(nodes)
    assert nodes.uses.only_consumer(nodes.value("b")) is None, "`c` uses `b` twice"
    assert nodes.is_unused(nodes.value("c"))


def test_only_results_of_constants_are_constant() -> None:
    nodes = nodes_of(("Cast", "a", "w"), ("Add", "b", "a", "w"), ("Add", "c", "b", "x"), ("Clip", "d", "a", "", "w"))
    assert [nodes.value(name).constant for name in "wabcdx"] == [*[DType.f32] * 3, None, DType.f32, None]


def test_a_value_that_a_body_captures_is_used_elsewhere() -> None:
    nodes, body = nodes_of(("Relu", "a", "x")), nodes_of(("Add", "b", "a", "w"))
    nodes.capture(body)
    assert nodes.uses.is_output(nodes.value("a")) and not nodes.uses.is_output(nodes.value("b"))


def test_another_node_can_produce_a_value() -> None:
    nodes = nodes_of(("Relu", "a", "x"), ("Tanh", "b", "a"))
    relu, tanh = nodes
    nodes.release(nodes.value("a"), "before")
    after = nodes.new("Neg", ["before"], ["a"])
    nodes.insert_after(after, relu)
    assert list(nodes) == [relu, after, tanh]
    assert tanh.operands[0].producer is after and after.operands[0].producer is relu  # type: ignore[union-attr]


def test_a_renamed_value_keeps_its_uses() -> None:
    nodes = nodes_of(("Relu", "a", "x"), ("Tanh", "b", "a"))
    nodes.rename(nodes.value("a"), "z")
    assert consumers(nodes, "z") == ["b"] and consumers(nodes, "a") == []


@given(st.lists(st.tuples(st.sampled_from(["append", "before", "after", "remove", "operand"]), st.integers(0, 99))))
def test_order_and_uses_agree_with_a_list(steps: list[tuple[str, int]]) -> None:
    nodes = nodes_of(("Relu", "r0", "x"))
    expected = list(nodes)
    for number, (step, choice) in enumerate(steps):
        place = choice % len(expected) if expected else 0
        made = nodes.new("Add", [f"v{choice % 3}", f"v{choice % 2}"], [f"y{number}"])
        if step == "append" or not expected:
            nodes.append(made)
            expected.append(made)
        elif step == "before":
            nodes.insert_before(made, expected[place])
            expected.insert(place, made)
        elif step == "after":
            nodes.insert_after(made, expected[place])
            expected.insert(place + 1, made)
        elif step == "remove":
            nodes.remove(expected.pop(place))
        else:
            nodes.set_operand(expected[place], 0, nodes.value(f"v{choice % 5}"))
    assert list(nodes) == expected
    assert {node.kind for node in nodes} <= nodes.present
    for name in ("x", "v0", "v1", "v2", "v3", "v4"):
        assert set(nodes.uses.consumers(nodes.value(name))) == users(expected, name)


def users(nodes: list[OnnxNode], name: str) -> set[OnnxNode]:
    return {node for node in nodes if any(value is not None and value.name == name for value in node.operands)}


def test_the_dtypes_of_constants_and_new_operators_are_present() -> None:
    nodes = nodes_of(("Relu", "a", "x"))
    assert nodes.present == {"Relu"}
    nodes.set_kind(nodes.new("Add", ["a", "w"], ["b"]), "Sub")
    assert nodes.present == {"Relu", "Sub", DType.f32}


def relu_then_tanh() -> OnnxGraph:
    graph = archc.parse("model m { input x: f32[N]  output y = x -> relu -> tanh }")
    onnx = OnnxGraph(graph, GraphProto(), owns_weights=True)
    for kind, operand, result in (("Relu", "x", "r"), ("Tanh", "r", "y")):
        onnx.nodes.append(onnx.nodes.new(kind, [operand], [result]))
    return onnx


def test_a_rewrite_is_skipped_if_something_that_it_needs_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = relu_then_tanh()
    tried: list[str] = []
    for second, expected in (("Relu", ["Tanh"]), ("Exp", [])):
        tried.clear()
        form = pattern("Tanh", result_of(pattern(second)), where=lambda node: not tried.append(node.kind))
        monkeypatch.setattr(rewrites, "REWRITES", ((form, lambda onnx, node, found: None),))
        rewrites.rewrite(onnx, ["y"])
        assert tried == expected


def test_a_rewrite_of_every_operator_reaches_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = relu_then_tanh()
    reached: list[str] = []
    form = one_of(pattern("Relu"), pattern())
    monkeypatch.setattr(rewrites, "REWRITES", ((form, lambda onnx, node, found: reached.append(node.kind)),))
    rewrites.rewrite(onnx, ["y"])
    assert reached == ["Relu", "Tanh"]
