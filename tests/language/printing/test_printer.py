"""Printed text of graphs: elaborating it gives an equal graph, and it resembles handwritten text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.declaration.base import OPERATORS
from archc.diagnostics import Diagnostics, Source
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.language.printing.printer import print_graph
from archc.language.syntax.formatter import format as format_file
from archc.language.syntax.parser import parse as parse_syntax
from archc.ops.linear import Embedding, Linear
from archc.types.dims import symbol
from archc.types.storage import Int8
from archc.types.tensor_type import DType, TensorType
from tests.language.printing.printed import FIXED, REWRITTEN
from tests.language.random_graphs import random_graph


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


def test_different_graphs_are_unequal() -> None:
    """Different graphs are unequal; otherwise the tests above would pass for any printed text."""
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


def test_names_of_operators_for_layers_tensors_and_attributes() -> None:
    """Printed text gives an equal graph if layers, tensors and attributes have names of operators."""
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
