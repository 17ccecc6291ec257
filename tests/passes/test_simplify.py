"""`simplify`: outputs stay bitwise equal, and a second run changes nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.ir.graph import Graph, Scope, Value
from archc.passes.simplify import Simplify
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.passes.graphs import Build, operators, outputs, remarks, run

Step = Callable[[Build, Value], Value]

NOTHING: dict[str, Step] = {
    "x + 0": lambda b, x: b.layer("add", x, scalar=0),
    "0.0 + x": lambda b, x: b.layer("add", x, scalar=0.0, reverse=True),
    "x - 0": lambda b, x: b.layer("sub", x, scalar=0),
    "x * 1": lambda b, x: b.layer("mul", x, scalar=1.0),
    "x / 1": lambda b, x: b.layer("div", x, scalar=1),
    "x ** 1": lambda b, x: b.layer("pow", x, scalar=1),
    "x * ones": lambda b, x: b.layer("mul", x, b.layer("ones", (4, 6))),
    "zeros + x": lambda b, x: b.layer("add", b.layer("zeros", (6,)), x),
    "x + (1 - 1)": lambda b, x: b.layer("add", x, b.layer("sub", b.layer("ones", (6,)), scalar=1)),
    "-(-x)": lambda b, x: b.layer("neg", b.layer("neg", x)),
    "cast to the same": lambda b, x: b.layer("cast", x, DType.f32),
    "identity": lambda b, x: b.layer("identity", x),
    "two transposes": lambda b, x: b.layer("transpose", b.layer("transpose", x, 1, 2), 2, 1),
    "rearranged back": lambda b, x: b.layer("rearrange", b.layer("rearrange", x, "n c d -> d n c"), "d n c -> n c d"),
    "merged and split": lambda b, x: b.layer("rearrange", b.layer("flatten", x), "n (c d) -> n c d", (("c", 4),)),
    "reshaped and back": lambda b, x: b.layer("reshape", b.layer("reshape", x, (-1, 24)), (-1, 4, 6)),
    "unsqueezed and squeezed": lambda b, x: b.layer("squeeze", b.layer("unsqueeze", x, 1), 1),
    "a slice of everything": lambda b, x: b.layer("slice", x, (None, ...)),
    "padding by nothing": lambda b, x: b.layer("pad", x, (0, 0)),
    "expanded to its shape": lambda b, x: b.layer("expand", x, (-1, 4, 6)),
    "concat of one": lambda b, x: b.layer("concat", x),
    "dropout of nothing": lambda b, x: b.layer("dropout", x, 0.0),
}

SOMETHING: dict[str, Step] = {
    "0 - x": lambda b, x: b.layer("sub", x, scalar=0, reverse=True),
    "1 / x": lambda b, x: b.layer("div", b.layer("exp", x), scalar=1, reverse=True),
    "relu": lambda b, x: b.layer("relu", x),
    "sin": lambda b, x: b.layer("sin", x),
    "x + x": lambda b, x: b.layer("add", x, x),
    "x * 2": lambda b, x: b.layer("mul", x, scalar=2),
    "x + sin(arange)": lambda b, x: b.layer("add", x, b.layer("sin", b.layer("arange", 6, dtype=DType.f32))),
    "the same twice": lambda b, x: b.layer("add", b.layer("cos", x), b.layer("cos", x)),
    "turned": lambda b, x: b.layer("permute", b.layer("reshape", x, (-1, 6, 4)), (0, 2, 1)),
    "a layer": lambda b, x: b.layer("linear", x, 6, name=f"fc{len(b.graph)}"),
    "one layer twice": lambda b, x: b.layer("add", shared(b, x), shared(b, x)),
    "dropout": lambda b, x: b.layer("dropout", x, 0.5),
}


def shared(build: Build, x: Value) -> Value:
    return build.layer("linear", x, 6, name="shared")


@pytest.mark.parametrize("name", NOTHING)
def test_nodes_without_effect_are_removed(name: str) -> None:
    build = Build()
    x = build.layer("exp", build.input(4, 6))
    graph = build.done(build.layer("exp", NOTHING[name](build, x)))
    before = outputs(graph)["y0"]
    (report,) = run(graph, Simplify())
    assert operators(graph) == ["exp", "exp"]
    assert torch.equal(outputs(graph)["y0"], before)
    assert remarks(report, "rewrote")


@given(st.lists(st.sampled_from([*NOTHING, *SOMETHING]), max_size=12), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_random_graphs_keep_every_bit_and_a_second_run_finds_nothing(steps: list[str], seed: int) -> None:
    chance = random.Random(seed)
    build = Build()
    values = [build.input(4, 6)]
    for step in steps:
        values.append((NOTHING | SOMETHING)[step](build, chance.choice(values[-3:])))
    graph = build.done(*values[-2:])
    before = outputs(graph)
    run(graph, Simplify())
    for name, value in outputs(graph).items():
        assert torch.equal(value, before[name]), name
    once = graph.canonical()
    (report,) = run(graph, Simplify())
    assert graph.canonical() == once
    assert {remark.kind for remark in report.remarks} <= {"note", "left"}


def test_equal_nodes_are_merged() -> None:
    build = Build()
    x = build.input(8)
    first, second = build.layer("sin", x), build.layer("sin", x)
    drops = [build.layer("dropout", x, 0.5) for _ in range(2)]
    layers = [build.layer("linear", x, 8, name=name) for name in ("a", "b", "a")]
    everything = [first, second, *drops, *layers]
    total = everything[0]
    for value in everything[1:]:
        total = build.layer("add", total, value)
    graph = build.done(total)
    run(graph, Simplify())
    names = [node.op.name for node in graph.nodes()]
    assert (names.count("sin"), names.count("dropout"), names.count("linear")) == (1, 2, 2)


@pytest.mark.parametrize("name", ["sub", "div", "pow", "matmul", "concat", "lt"])
def test_operands_in_another_order_are_another_value(name: str) -> None:
    build = Build()
    a, b = (build.layer("exp", build.input(4, 4, name=letter)) for letter in "ab")
    graph = build.done(build.layer(name, a, b), build.layer(name, b, a), build.layer(name, a, b))
    before = outputs(graph)
    assert not torch.equal(before["y0"], before["y1"])
    run(graph, Simplify())
    assert operators(graph).count(name) == 2
    for output, value in outputs(graph).items():
        assert torch.equal(value, before[output]), output


def test_a_layer_that_shares_all_its_weights_keeps_its_name() -> None:
    """A layer is not merged with a layer of equal weights, since other text may refer to its name."""
    build = Build()
    x = build.input(8)
    first = build.layer("linear", x, 8, name="a")
    second = build.layer("linear", x, 8, name="b", weights={"weight": "a.weight", "bias": "a.bias"})
    graph = build.done(first, second)
    run(graph, Simplify())
    assert list(graph.layers()) == ["a", "b"]


@pytest.mark.parametrize(
    ("operator", "arguments", "options"),
    [("attention", (2,), {}), ("scaled_dot_product_attention", (), {}), ("lstm", (8, 2), {"name": "a"})],
)
def test_operators_with_dropout_are_not_merged(operator: str, arguments: tuple[int], options: dict[str, str]) -> None:
    for share, left in ((0.5, 2), (0.0, 1)):
        build = Build()
        x = build.rewriter.input("x", TensorType(DType.f32, (symbol("N"), 5, 8)))
        operands = [x] if operator == "lstm" else [x, x, x]
        dropout = {"dropout_p" if operator.startswith("scaled") else "dropout": share}
        first, second = (build.layer(operator, *operands, *arguments, **options, **dropout) for _ in range(2))
        graph = build.done(build.layer("add", first, second))
        run(graph, Simplify())
        assert [node.op.name for node in graph.nodes()].count(operator) == left


def test_batch_norm_is_not_merged_since_it_keeps_statistics() -> None:
    build = Build()
    x = build.input(8)
    graph = build.done(build.layer("add", *(build.layer("batch_norm", x, name="bn") for _ in range(2))))
    run(graph, Simplify())
    assert [node.op.name for node in graph.nodes()].count("batch_norm") == 2


@pytest.mark.parametrize(("name", "left"), [("add", 1), ("mul", 1), ("maximum", 1), ("sub", 2), ("div", 2)])
def test_operands_of_commutative_operators_have_any_order(name: str, left: int) -> None:
    build = Build()
    x, y = build.input(8), build.input(8)
    first, second = build.layer(name, x, y), build.layer(name, y, x)
    graph = build.done(first, second)
    before = outputs(graph)
    run(graph, Simplify())
    assert operators(graph).count(name) == left
    for output, value in outputs(graph).items():
        assert torch.equal(value, before[output]), output


def test_a_common_subexpression_of_two_blocks_moves_outside() -> None:
    build = Build()
    scopes = [Scope(f"h.{number}", "Block", build.graph.scope) for number in range(2)]
    x = build.input(6)
    for scope in scopes:
        mask = build.rewriter.add(type_of("cos"), [build.graph.inputs[0]], scope=scope).result
        x = build.rewriter.add(type_of("add"), [x, mask], scope=scope).result
    graph = build.done(x)
    run(graph, Simplify())
    (cos,) = [node for node in graph.nodes() if node.op.name == "cos"]
    assert cos.scope is graph.scope
    assert [node.scope for node in graph.nodes() if node.op.name == "add"] == scopes


def type_of(name: str) -> object:
    from archc.declaration import OPERATORS

    return OPERATORS[name]()


def constant_graph(size: int) -> Graph:
    build = Build()
    x = build.input(size)
    numbers = build.layer("sin", build.layer("arange", size, dtype=DType.f32))
    return build.done(build.layer("add", x, numbers))


def test_constants_are_folded() -> None:
    graph = constant_graph(10)
    before = outputs(graph)["y0"]
    run(graph, Simplify())
    assert operators(graph) == ["constant((10,))", "add"]
    assert graph.weight_values("constant.value").tolist() == torch.arange(10).float().sin().tolist()
    assert not graph.weights["constant.value"].trainable
    assert torch.equal(outputs(graph)["y0"], before)


def test_large_constants_are_not_folded() -> None:
    graph = constant_graph(100_000)
    (report,) = run(graph, Simplify())
    assert operators(graph) == ["arange(100000, dtype = f32)", "sin", "add"]
    assert remarks(report, "left") == {"sin": "it is constant, but storing it would take 400,000 bytes"}


def test_uniform_constants_are_written_out() -> None:
    build = Build()
    half = build.layer("div", build.layer("ones", (6,)), scalar=2)
    graph = build.done(build.layer("add", build.input(6), half))
    run(graph, Simplify())
    assert operators(graph) == ["full((6,), 0.5)", "add"]
    assert not graph.weights


def test_open_sizes_and_weights_are_no_constants() -> None:
    build = Build()
    x = build.input(6)
    places = build.layer("arange", symbol("N"))
    table = build.layer("embedding", build.layer("arange", 6), 6, 6, name="wpe")
    graph = build.done(
        build.layer("sin", build.layer("cast", places, DType.f32)), build.layer("add", x, scalar=1), table
    )
    before = operators(graph)
    run(graph, Simplify())
    assert operators(graph) == before


def test_dead_code_is_removed() -> None:
    build = Build()
    x = build.input(6)
    build.layer("linear", x, 6, name="dead")
    graph = build.done(build.layer("sin", x))
    (report,) = run(graph, Simplify())
    assert operators(graph) == ["sin"]
    assert remarks(report, "rewrote") == {"dead": "removed: no output depends on it"}
    assert not graph.weights


def test_a_constant_that_is_infinite_by_itself_is_stored() -> None:
    text = "model m { input x: f32[N, 4]  output y = x + (arange(4, dtype = f32) -> log) }"
    compiled = archc.compile(text, passes="simplify")
    (path,) = compiled.graph.weights
    assert compiled.graph.weight_values(path)[0] == -math.inf
