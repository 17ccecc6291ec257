"""Optional inputs of blocks, and inputs of models that depend on an attribute."""

from __future__ import annotations

import pytest

import archc
from archc.language.printing.printer import print_graph

ATTENTION = """\
block Attention(heads) {
    input x: f32[B, T, D]
    input mask: bool[B, 1, T, T]?
    output (x, x, x, mask) -> attention(heads) -> out: linear(D)
}

block Layer(heads) {
    input x: f32[B, T, D]
    input mask?
    output x + ((x, mask) -> attn: Attention(heads))
}
"""
MODEL = """\
model net(masked = false) {
    input x: f32[N, T, 8]
    if masked { input mask: bool[N, 1, T, T] }
    for i in 0..2 { x = (x, mask) -> h[i]: Layer(2) }
    output y = x
}
"""


def inputs(graph: archc.Graph, operator: str) -> list[int]:
    return [len(node.operands) for node in graph.nodes() if node.op.name == operator]


def test_absent_inputs_are_left_out_at_the_end_of_a_tuple() -> None:
    absent, given = archc.parse(ATTENTION + MODEL), archc.parse(ATTENTION + MODEL, values={"masked": True})
    assert inputs(absent, "attention") == [3, 3] and [value.name for value in absent.inputs] == ["x"]
    assert inputs(given, "attention") == [4, 4] and [value.name for value in given.inputs] == ["x", "mask"]


@pytest.mark.parametrize("masked", [False, True])
def test_both_print_as_they_are_and_read_back(masked: bool) -> None:
    graph = archc.parse(ATTENTION + MODEL, values={"masked": masked})
    printed = print_graph(graph)
    assert ("mask" in printed) is masked and "?" not in printed
    assert archc.parse(printed) == graph


def test_two_uses_of_a_block_may_differ() -> None:
    text = ATTENTION + (
        "model net { input x: f32[N, T, 8]  input m: bool[N, 1, T, T]\n"
        "output y = (x -> a: Attention(2), m) -> b: Attention(2) }"
    )
    graph = archc.parse(text)
    assert inputs(graph, "attention") == [3, 4]
    assert archc.parse(print_graph(graph)) == graph


def test_given_tells_whether_an_input_is_there() -> None:
    text = """
    block Scaled {
        input x: f32[N, D]
        input scale: f32[N, D]?
        if given(scale) { x = x * scale } else { x = x -> relu }
        output x
    }
    model net { input x: f32[N, 8]  output a = x -> Scaled  output b = (x, x) -> Scaled }
    """
    assert [node.op.name for node in archc.parse(text).nodes()] == ["relu", "mul"]


def test_a_conditional_expression_makes_only_the_layers_that_it_chooses() -> None:
    text = (
        "model net(deep = true) { input x: f32[N, 8]  output y = ((x -> a: linear(4)) if deep else x) -> b: linear(3) }"
    )
    assert [path for path in archc.parse(text).weights if "weight" in path] == ["a.weight", "b.weight"]
    assert list(archc.parse(text, values={"deep": False}).weights) == ["b.weight", "b.bias"]


def test_conditional_expressions_chain_to_the_right() -> None:
    text = "model net(k = 1) { input x: f32[N, 8]  output y = x -> linear(2 if k == 0 else 3 if k == 1 else 4) }"
    for k, size in [(0, 2), (1, 3), (2, 4)]:
        assert archc.parse(text, values={"k": k}).weights["linear.weight"].shape == (size, 8)
