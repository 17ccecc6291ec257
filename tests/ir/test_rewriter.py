"""Rewriter: the graph stays valid after every change."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.declaration import OPERATORS
from archc.declaration.base import OperatorError
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.types.dims import symbol
from archc.types.storage import Int8
from archc.types.tensor_type import DType, TensorType
from archc.weights.scratch import HELD_BYTES
from tests.language.random_graphs import random_graph

N = symbol("N")


def f32(*shape: int) -> TensorType:
    return TensorType(DType.f32, (N, *shape))


def start(*shape: int) -> tuple[Graph, Rewriter, Value]:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    return graph, rewriter, rewriter.input("x", f32(*shape))


def check_edges(graph: Graph) -> None:
    """Compare the consumers that the graph stores with the operands of all nodes."""
    for node in graph.nodes():
        users = {id(user) for user in graph.nodes() if any(value.producer is node for value in user.operands)}
        assert {id(user) for user in graph.users(node)} == users
    for value in graph.inputs:
        users = {id(user) for user in graph.nodes() if value in user.operands}
        assert {id(user) for user in graph.consumers(value)} == users


@settings(deadline=None)
@given(st.integers(0, 5000))
def test_random_rewrites_leave_a_valid_graph(seed: int) -> None:
    chance = random.Random(seed)
    graph = random_graph(seed)
    rewriter = Rewriter(graph, by="test")
    for _ in range(8):
        nodes = graph.nodes()
        if not nodes:
            break
        node = chance.choice(nodes)
        act = chance.choice(["before", "after", "bypass", "swap"])
        if act == "before":
            made = rewriter.add(OPERATORS["relu"](), [node.operands[0]], near=node)
            rewriter.set_operands(node, (made.result, *node.operands[1:]))
        elif act == "after":
            users = graph.consumers(node.results[0])
            made = rewriter.add(OPERATORS["tanh"](), [node.results[0]], near=node)
            for user in users:
                rewriter.set_operands(user, tuple(made.result if v is node.results[0] else v for v in user.operands))
        elif act == "bypass" and all(v.type == node.operands[0].type for v in node.results):
            rewriter.replace(node, [node.operands[0]] * len(node.results))
        elif act == "swap" and not node.op.parameters and len(node.operands) == len(node.results) == 1:
            rewriter.set_operator(node, OPERATORS["sigmoid"]())
    rewriter.remove_unused_nodes()
    rewriter.remove_unused_weights()
    verify(graph)
    check_edges(graph)
    used = {path for node in graph.nodes() for path in node.weights.values()}
    assert set(graph.weights) == used


def test_types_are_inferred_again_downstream() -> None:
    graph, rewriter, x = start(4)
    first = rewriter.add(OPERATORS["relu"](), [x])
    wide = rewriter.add(OPERATORS["concat"](1), [first.result, first.result])
    last = rewriter.add(OPERATORS["relu"](), wide.results)
    rewriter.output("y", last.result)
    rewriter.set_operands(last, first.results)
    assert last.result.type == f32(4)
    rewriter.set_operands(last, wide.results)
    longer = rewriter.add(OPERATORS["concat"](1), [x, x, x])
    rewriter.replace(first, longer.results)
    assert (wide.result.type, last.result.type) == (f32(24), f32(24))
    verify(graph)


def test_the_type_of_a_sum_changes_with_both_operands() -> None:
    graph, rewriter, x = start(8)
    start_ = rewriter.add(OPERATORS["relu"](), [x])
    inner = rewriter.add(OPERATORS["tanh"](), start_.results)
    for _ in range(3):  # with three nodes, type inference reaches the sum before this operand has its new type
        inner = rewriter.add(OPERATORS["sigmoid"](), inner.results)
    total = rewriter.add(OPERATORS["add"](), [start_.result, inner.result])
    last = rewriter.add(OPERATORS["softmax"](-1), total.results)
    rewriter.output("y", last.result)
    half = rewriter.add(OPERATORS["slice"]((..., (None, 4, None))), [x])
    rewriter.replace(start_, half.results)
    assert [n.result.type for n in (inner, total, last)] == [f32(4)] * 3
    verify(graph)


def test_every_use_of_a_value_is_replaced() -> None:
    graph, rewriter, x = start(4)
    old, new = (rewriter.add(OPERATORS[name](), [x]) for name in ("relu", "tanh"))
    old.result.name = "features"
    square = rewriter.add(OPERATORS["mul"](), [old.result, old.result])
    rewriter.output("a", old.result)
    rewriter.output("b", square.result)
    rewriter.replace(old, new.results)
    assert square.operands == (new.result, new.result) and graph.outputs["a"] is new.result
    assert new.result.name == "features" and old not in graph
    verify(graph)
    check_edges(graph)


def test_used_nodes_cannot_be_removed() -> None:
    _, rewriter, x = start(4)
    relu = rewriter.add(OPERATORS["relu"](), [x])
    user = rewriter.add(OPERATORS["tanh"](), relu.results)
    for node in (relu, user):
        rewriter.output("y", user.result)
        with pytest.raises(ValueError, match="still in use"):
            rewriter.remove(node)


def test_weights_are_removed_with_their_last_node() -> None:
    graph, rewriter, x = start(4)
    first = rewriter.add(OPERATORS["linear"](4), [x], name="a")
    again = rewriter.add(OPERATORS["linear"](4), first.results, name="a")
    rewriter.output("y", again.result)
    bind_fresh(graph, 0)
    assert graph.tensors is not None and set(graph.tensors) == {"a.weight", "a.bias"}
    rewriter.replace(again, first.results)
    assert rewriter.remove_unused_weights() == []
    rewriter.replace(first, [x])
    assert rewriter.remove_unused_weights() == ["a.weight", "a.bias"]
    assert not graph.weights and not list(graph.tensors)


def test_a_weight_has_one_shape_and_one_storage() -> None:
    graph, rewriter, x = start(4)
    node = rewriter.add(OPERATORS["linear"](3), [x], name="a", storages={"weight": Int8(0)})
    rewriter.output("y", node.result)
    bind_fresh(graph, 0)
    assert graph.tensors is not None
    assert list(graph.tensors) == ["a.weight", "a.weight_scale", "a.bias"]
    verify(graph)
    before = graph.weight_values("a.weight")
    rewriter.set_storage("a.weight", Int8())
    assert graph.tensors["a.weight_scale"].shape == ()
    verify(graph)
    rewriter.set_weight("a.weight", np.zeros((3, 4), np.float32))
    assert before.any() and not graph.weight_values("a.weight").any()
    rewriter.set_operator(node, OPERATORS["linear"](3, bias=False))
    assert set(node.weights) == {"weight"} and rewriter.remove_unused_weights() == ["a.bias"]
    verify(graph)


def test_values_that_a_pass_sets_do_not_pile_up_in_memory() -> None:
    """Of 100 MB of new weights, at most `HELD_BYTES` stay in memory; all weights can be read."""
    graph, rewriter, x = start(1024)
    for number in range(6):
        rewriter.add(OPERATORS["linear"](4096, bias=False), [x], name=f"fc{number}")
    bind_fresh(graph, 0)
    tracemalloc.start()
    for number in range(6):
        rewriter.set_weight(f"fc{number}.weight", np.full((4096, 1024), number, np.float32))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < HELD_BYTES + 1_000_000
    assert all((graph.weight_values(f"fc{number}.weight") == number).all() for number in range(6))


def test_owners_of_weights_need_a_name() -> None:
    graph, rewriter, x = start(4)
    with pytest.raises(ValueError, match="needs a name"):
        rewriter.add(OPERATORS["linear"](3), [x])
    assert not len(graph) and not graph.weights
    rewriter.add(OPERATORS["linear"](3), [x], weights={"weight": "w", "bias": "b"})
    assert set(graph.weights) == {"w", "b"}


def test_a_refused_operator_changes_nothing() -> None:
    graph, rewriter, x = start(4)
    node = rewriter.add(OPERATORS["relu"](), [x])
    with pytest.raises(OperatorError):
        rewriter.set_operator(node, OPERATORS["conv2d"](3, 3))
    assert node.op == OPERATORS["relu"]() and len(graph) == 1


def test_origin_lists_the_passes_that_changed_a_node() -> None:
    graph, rewriter, x = start(4)
    node = rewriter.add(OPERATORS["relu"](), [x])
    assert node.origin == ()
    made = Rewriter(graph, by="fold").add(OPERATORS["relu"](), [x], near=node)
    Rewriter(graph, by="quant").set_operator(made, OPERATORS["tanh"]())
    Rewriter(graph, by="quant").set_operator_and_operands(made, OPERATORS["relu"](), [x])
    assert made.origin == ("fold", "quant")


def test_dead_nodes_are_removed_in_order() -> None:
    graph, rewriter, x = start(4)
    live = rewriter.add(OPERATORS["relu"](), [x])
    dead = [rewriter.add(OPERATORS["tanh"](), [x])]
    dead.append(rewriter.add(OPERATORS["relu"](), dead[0].results))
    rewriter.output("y", live.result)
    assert rewriter.remove_unused_nodes() == dead
    assert graph.nodes() == [live] and graph.consumers(x) == [live]


def test_a_class_in_place_of_an_operator_is_refused() -> None:
    _, rewriter, x = start(4)
    relu = OPERATORS["relu"]
    node = rewriter.add(relu(), [x])
    for change in (
        lambda op: rewriter.set_operator(node, op),
        lambda op: rewriter.add(op, [x]),
        lambda op: rewriter.resize({node: op}, {}),
        lambda op: rewriter.set_operator_and_operands(node, op, [x]),
    ):
        with pytest.raises(TypeError, match=r"such as `Relu\(\)`, not the class `Relu`"):
            change(relu)
        with pytest.raises(TypeError, match="not 'relu'"):
            change("relu")
