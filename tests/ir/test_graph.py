"""Graphs: order of nodes, equality, and consumers of values."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.declaration import OPERATORS
from archc.ir.graph import Graph, Node, Value
from archc.ir.rewriter import Rewriter
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.language.random_graphs import random_graph

F32 = TensorType(DType.f32, (symbol("N"), 4))
SEEDS = st.integers(0, 10_000)

# Plan of a graph: two operands for each node. 0 and 1 are the inputs, 2 is the result of the first node, and so on.
PLANS = st.integers(1, 8).flatmap(
    lambda count: st.tuples(*(st.tuples(st.integers(0, 1 + k), st.integers(0, 1 + k)) for k in range(count)))
)


def build(plan: tuple[tuple[int, int], ...], order: list[int]) -> Graph:
    """Build the graph of a plan; `order` lists its nodes, each after its operands."""
    graph = Graph("m")
    rewriter = Rewriter(graph)
    values: dict[int, Value] = {k: rewriter.input("xy"[k], F32) for k in range(2)}
    for number in order:
        left, right = plan[number]
        kind = ("add", "sub", "mul")[number % 3]
        values[number + 2] = rewriter.add(OPERATORS[kind](), (values[left], values[right])).result
    for number in range(len(plan)):
        rewriter.output(f"out{number}", values[number + 2])
    return graph


def shuffled(plan: tuple[tuple[int, int], ...], seed: int) -> list[int]:
    chance, done, order = random.Random(seed), {0, 1}, []
    while len(order) < len(plan):
        ready = [k for k, operands in enumerate(plan) if k not in order and done.issuperset(operands)]
        order.append(chance.choice(ready))
        done.add(order[-1] + 2)
    return order


@given(PLANS, SEEDS)
def test_equality_ignores_the_order_of_insertion(plan: tuple[tuple[int, int], ...], seed: int) -> None:
    one, other = build(plan, list(range(len(plan)))), build(plan, shuffled(plan, seed))
    assert one == other and one.canonical() == other.canonical()


@given(PLANS, st.data())
def test_another_operand_makes_another_graph(plan: tuple[tuple[int, int], ...], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(plan) - 1))
    left, right = plan[number]
    changed = (*plan[:number], (left, (right + 1) % (number + 2)), *plan[number + 1 :])
    # If two nodes of a plan have equal operands, different plans can describe equal graphs.
    if len(set(plan)) == len(plan) == len(set(changed)):
        assert build(plan, list(range(len(plan)))) != build(changed, list(range(len(plan))))


@settings(deadline=None)
@given(SEEDS)
def test_the_order_is_topological_and_the_same_on_every_run(seed: int) -> None:
    graph = random_graph(seed)
    nodes = graph.nodes()
    place = {node: number for number, node in enumerate(nodes)}
    assert len(place) == len(graph) and all(node in graph for node in nodes)
    for node in nodes:
        assert all(place[v.producer] < place[node] for v in node.operands if v.producer is not None)
    graph._sorted = None
    assert graph.nodes() == nodes
    assert [str(node.op) for node in random_graph(seed).nodes()] == [str(node.op) for node in nodes]
    assert random_graph(seed) == graph


@settings(deadline=None)
@given(SEEDS)
def test_consumers_of_a_value_have_it_as_operand(seed: int) -> None:
    graph = random_graph(seed)
    for value in (*graph.inputs, *(value for node in graph.nodes() for value in node.results)):
        expected = {id(node) for node in graph.nodes() if any(operand is value for operand in node.operands)}
        found = graph.consumers(value)
        assert len(found) == len(expected) and {id(node) for node in found} == expected


def chain(names: str = "abc") -> tuple[Graph, Rewriter, list[Node]]:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    value = rewriter.input("x", F32)
    nodes = []
    for name in names:
        nodes.append(rewriter.add(OPERATORS["linear"](4), [value], name=name))
        value = nodes[-1].result
    rewriter.output("y", value)
    return graph, rewriter, nodes


def test_the_order_of_the_text_is_kept_where_data_allow() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", F32)
    made = [rewriter.add(OPERATORS["relu"](), [x]) for _ in range(5)]
    assert graph.nodes() == made
    beside = [rewriter.add(OPERATORS["tanh"](), [x], near=made[1]) for _ in range(2)]
    assert graph.nodes() == [*made[:2], *beside, *made[2:]]
    again = Rewriter(graph).add(OPERATORS["tanh"](), [x], near=made[1])
    assert graph.nodes().index(again) in (2, 3, 4)


@pytest.mark.parametrize("change", ["name", "input", "output", "type", "operator", "label", "storage", "trainable"])
def test_equality_compares_each_property(change: str) -> None:
    from dataclasses import replace

    from archc.types.storage import Int8

    one, (graph, _, nodes) = chain()[0], chain()
    assert one == graph
    if change == "name":
        graph.name = "other"
    elif change == "input":
        graph.inputs[0].name = "z"
    elif change == "output":
        graph.outputs["z"] = graph.outputs.pop("y")
    elif change == "type":
        graph.inputs[0].type = TensorType(DType.f32, (symbol("M"), 4))
    elif change == "operator":
        nodes[1].op = OPERATORS["linear"](4, in_features=4)
    elif change == "label":
        nodes[1].name = "d"
    else:
        new = {"storage": {"storage": Int8(0)}, "trainable": {"trainable": False}}[change]
        graph.weights["b.weight"] = replace(graph.weights["b.weight"], **new)
    assert one != graph


def test_names_of_values_and_spans_do_not_count() -> None:
    one, (graph, _, nodes) = chain()[0], chain()
    nodes[0].result.name = "features"
    nodes[0].origin = ("simplify",)
    assert one == graph
    assert one != "a graph"
    with pytest.raises(TypeError):
        hash(one)


def test_layers_and_titles() -> None:
    graph, rewriter, nodes = chain("ab")
    relu = rewriter.add(OPERATORS["relu"](), [nodes[1].result])
    again = rewriter.add(OPERATORS["linear"](4), [relu.result], name="a")
    rewriter.output("y", again.result)
    assert graph.layers() == {"a": nodes[0], "b": nodes[1]}
    assert again.weights == nodes[0].weights
    assert (nodes[0].title, relu.title) == ("a", "relu")


def test_a_cycle_has_no_order() -> None:
    graph, _, nodes = chain()
    graph._set_operands(nodes[0], nodes[2].results)
    with pytest.raises(ValueError, match="cycle"):
        graph.nodes()


def test_a_long_chain_needs_no_recursion() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    value = rewriter.input("x", F32)
    for _ in range(3000):
        value = rewriter.add(OPERATORS["relu"](), [value]).result
    rewriter.output("y", value)
    assert len(graph.nodes()) == 3000 and graph == graph
    rewriter.set_operator(graph.nodes()[0], OPERATORS["tanh"]())
    assert len(graph.canonical()[2]) == 3000
