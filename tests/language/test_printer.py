"""Graphs as text: reading it back gives the graph, and it reads as a person would have written it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.diagnostics import Diagnostics, Source
from archc.ir.dims import symbol
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.ir.storage import Int8
from archc.ir.types import DType, TensorType
from archc.language.formatter import format as format_file
from archc.language.parser import parse as parse_syntax
from archc.language.printer import print_graph
from archc.ops.linear import Embedding, Linear
from archc.ops.operator import OPERATORS
from tests.language.random_graphs import random_graph

# Texts that are printed just as they stand.
FIXED = {
    "chain": """\
# The classifier of the course,
# in two lines.
model cnn {
    input image: f32[N, 1, 28, 28]

    features = image
        -> conv1: conv2d(32, 3) -> relu -> max_pool2d(2)
        -> conv2: conv2d(64, 3) -> relu -> max_pool2d(2)

    output logits: f32[N, 10] = features -> flatten -> fc1: linear(128) -> relu -> fc2: linear(10)
}
""",
    "loop": """\
model mlp {
    input x: f32[N, 784]

    for i in 0..3 { x = x -> hidden[i]: linear(1024) -> relu }
    output logits: f32[N, 10] = x -> head: linear(10)
}
""",
    "loop over what differs": """\
model mlp {
    input x: f32[N, 784]

    let out_features = [64, 32, 16]
    for i in 0..3 { x = x -> hidden[i]: linear(out_features[i]) -> relu }

    output y: f32[N, 16] = x
}
""",
    "tied weight and bounded size": """\
model gpt {
    input tokens: i64[B, T <= 1024]

    x = (tokens -> wte: embedding(50, 16)) + (arange(T) -> wpe: embedding(1024, 16))
    output logits: f32[B, T, 50] = x -> head: linear(50, bias = false, weight = wte.weight)
}
""",
    "layer used twice": """\
model siamese {
    input a: f32[N, 8]
    input b: f32[N, 8]
    layer encoder = linear(4)

    p = a -> encoder
    q = b -> encoder

    output distance: f32[N, 4] = -(p - q) ** 2 * 0.5
}
""",
    "block with what differs": """\
block Block(width) {
    input x
    output x + (x -> up: linear(width) -> gelu -> down: linear(8))
}

model net {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> first: Block(32) -> second: Block(64)
}
""",
    "several results": """\
model heads {
    input x: f32[N, 12]

    q, k, v = x -> split(4, dim = 1)
    output y: f32[N, 4] = q * k + v * q
    output z: f32[N, 12] = x -> split(6, dim = 1) -> concat(dim = 1)
}
""",
    "indices": """\
model crop {
    input x: f32[N, 8, 8]
    output y: f32[N, 6] = x[:, 0, 1:-1]
    output z: f32[N, 4] = x[..., ::2][:, -1]
}
""",
    "names of their own": """\
model plain {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> linear(8) -> linear(8) -> out: linear(8) -> linear(8)
}
""",
    "parts of a layer": """\
model compressed {
    input x: f32[N, 8]

    output y: f32[N, 8] = x
        -> fc1.a: linear(2, bias = false)
        -> fc1.b: linear(8, weight = int8(axis = 0))
}
""",
    "values swapped in a loop": """\
model swap {
    input x: f32[N, 8]

    a = x -> p: linear(8)
    b = x -> q: linear(8)

    for i in 0..4 {
        t = a + b -> f[i]: linear(8)
        a = b -> g[i]: linear(8)
        b = t
    }

    output y: f32[N, 8] = a * b
}
""",
    "outputs called like what they are made of": """\
model names {
    input x: f32[N, 8]

    a = x -> p: linear(8)
    b = x -> q: linear(8)
    rest = x[:, 1:]
    z = a + b

    output b: f32[N, 8] = z -> relu
    output rest: f32[N, 7] = rest -> tanh
    output a: f32[N, 8] = a + z
}
""",
    "an output called like an input that is read later": """\
model passing {
    input x: f32[N, 8]

    y = x
    output x: f32[N, 8] = y -> relu
    output other: f32[N, 8] = y
}
""",
    "a block's own names for its inputs": """\
block Cross {
    input query
    input memory
    output query + (memory -> value: linear(8))
}

model net {
    input x: f32[N, 8]
    input y: f32[N, 8]
    output z: f32[N, 8] = (x, y) -> first: Cross
}
""",
    "one block at two depths": """\
block Inner(width) {
    input x
    output x -> fc: linear(width) -> tanh
}

block Outer {
    input x
    output x -> Inner(4) -> fc: linear(8)
}

model net {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> first: Outer -> second: Inner(8)
}
""",
    "numbers and truth values are not one attribute": """\
block Conv(padding, ceil_mode) {
    input x
    output x -> conv: conv2d(4, 3, padding = padding) -> pool: max_pool2d(2, ceil_mode = ceil_mode)
}

model net {
    input x: f32[N, 4, 20, 20]

    output y: f32[N, 4, 4, 4] = x
        -> a: Conv(padding = 1, ceil_mode = true)
        -> b: Conv(padding = 0, ceil_mode = false)
}
""",
}

# What the author wrote, and what is printed.
REWRITTEN = {
    "attributes are evaluated": (
        "model m(width = 4) { input x: f32[N, 2 * width] output y = x -> fc: linear(width // 2) }",
        "model m {\n    input x: f32[N, 8]\n    output y: f32[N, 2] = x -> fc: linear(2)\n}\n",
    ),
    "uses that differ are told apart": (
        """
        block Residual(stride) {
            input x
            y = x -> conv: conv2d(4, 3, stride = stride, padding = 1)
            if stride > 1 { x = x -> down: conv2d(4, 1, stride = stride) }
            output (x + y) -> relu
        }
        model net {
            input x: f32[N, 4, 8, 8]
            output y = x -> a: Residual(1) -> b: Residual(2) -> c: Residual(1)
        }
        """,
        """\
block Residual {
    input x

    y = x -> conv: conv2d(4, 3, padding = 1)
    output x + y -> relu
}

block ResidualWithDown {
    input x

    y = x -> conv: conv2d(4, 3, stride = 2, padding = 1)
    x = x -> down: conv2d(4, 1, stride = 2)

    output x + y -> relu
}

model net {
    input x: f32[N, 4, 8, 8]
    output y: f32[N, 4, 4, 4] = x -> a: Residual -> b: ResidualWithDown -> c: Residual
}
""",
    ),
    "a size that a block mentions is handed to it": (
        """
        block Positions { input x: f32[B, T, D] output x + (arange(T) -> table: embedding(9, D)) }
        model m { input x: f32[N, S <= 9, 4] output y = x -> p: Positions }
        """,
        """\
block Positions(S) {
    input x
    output x + (arange(S) -> table: embedding(9, 4))
}

model m {
    input x: f32[N, S <= 9, 4]
    output y: f32[N, S, 4] = x -> p: Positions(S)
}
""",
    ),
}


@pytest.mark.parametrize("case", FIXED)
def test_prints_as_written(case: str) -> None:
    graph = archc.parse(FIXED[case])
    assert print_graph(graph) == FIXED[case]


@pytest.mark.parametrize("case", REWRITTEN)
def test_prints_what_was_elaborated(case: str) -> None:
    written, printed = REWRITTEN[case]
    graph = archc.parse(written)
    assert print_graph(graph) == printed
    assert archc.parse(printed) == graph


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_reads_back_as_the_same_graph(seed: int) -> None:
    graph = random_graph(seed)
    assert archc.parse(print_graph(graph)) == graph


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_is_laid_out_as_the_formatter_would(seed: int) -> None:
    text = print_graph(random_graph(seed))
    diagnostics = Diagnostics()
    assert format_file(parse_syntax(Source(text), diagnostics)) == text
    assert not diagnostics.found


def test_equality_is_not_blind() -> None:
    """The law above would hold of anything if graphs were equal too easily."""
    text = FIXED["tied weight and bounded size"]
    for old, new in ((", weight = wte.weight", ""), ("wpe", "pos"), ("50", "51"), ("i64[B, T <=", "i32[B, T <=")):
        assert archc.parse(text.replace(old, new)) != archc.parse(text)


def test_a_weight_used_above_its_owner_is_declared_first() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    tokens = rewriter.input("tokens", TensorType(DType.i64, (symbol("N"),)))
    one_hot = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 4)))
    head = rewriter.add(Linear(9, bias=False), [one_hot], name="head", weights={"weight": "wte.weight"})
    table = rewriter.add(Embedding(9, 4), [tokens], name="wte")
    rewriter.output("a", head.result)
    rewriter.output("b", table.result)
    graph.weights["wte.weight"] = type(graph.weights["wte.weight"])("wte.weight", (9, 4), DType.f32, Int8(0))
    text = print_graph(graph)
    assert text.index("layer wte = embedding(9, 4, weight = int8(axis = 0))") < text.index("weight = wte.weight")
    assert archc.parse(text) == graph


def test_a_weight_survives_its_owner() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 4)))
    weights = {"weight": "gone.weight"}
    rewriter.output("y", rewriter.add(Linear(4), [x], name="left", weights=weights, storages={"weight": Int8()}).result)
    text = print_graph(graph)
    assert "weight = gone.weight" in text
    assert archc.parse(text) == graph


def test_no_name_changes_what_another_means() -> None:
    """A declared layer, tensors and attributes that bear the names of operators."""
    text = """
        block B(dropout) { input relu  output relu -> dropout(dropout) -> relu }
        model m {
            input x: f32[N, 8]
            layer linear = linear(8)
            tanh = x -> linear -> linear
            output y = (tanh -> tanh -> other: linear(8) -> a: B(0.5)) + (tanh -> b: B(0.25))
        }
        """
    graph = archc.parse(text)
    operators = [node.op.name for node in graph.nodes()]
    assert operators.count("linear") == 3 and operators.count("tanh") == 1 and operators.count("relu") == 2
    assert archc.parse(print_graph(graph)) == graph


def test_deep_expressions_get_names() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 8)))
    value = x
    for _ in range(300):
        value = rewriter.add(OPERATORS["mul"](), [rewriter.add(OPERATORS["relu"](), [value]).result, x]).result
    rewriter.output("y", value)
    text = print_graph(graph)
    assert max(len(line) for line in text.splitlines()) <= 120
    assert archc.parse(text) == graph


def test_ten_thousand_alike_layers_are_one_loop() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 8)))
    value = x
    for number in range(10_000):
        value = rewriter.add(Linear(8), [value], name=f"h.{number}").result
    rewriter.output("y", value)
    assert "for i in 0..10000 { x = x -> h[i]: linear(8) }" in print_graph(graph)
