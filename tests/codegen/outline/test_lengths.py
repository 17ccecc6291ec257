"""Loops with a different number of iterations in each use of a block.

The uses share one definition, one emitted class and one printed block.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.codegen.outline.build import outline
from archc.codegen.outline.definitions import Loop
from archc.language.printing.printer import print_graph
from tests.codegen.torch_modules import assert_agrees, graph_of, source_of

STAGES = """
block Stage(depth, width = 8) {
    input x: f32[N, C]
    for i in 0..depth { x = x -> fc[i]: linear(width) -> relu }
    output x
}
model m {
    input x: f32[N, 8]
    output y = x -> a: Stage(2) -> b: Stage(3) -> c: Stage(1)
}
"""


def classes(source: str) -> list[str]:
    return [line.split("(")[0].removeprefix("class ") for line in source.splitlines() if line.startswith("class ")]


def assert_prints_back(text: str) -> str:
    """Return the printed text of a graph; assert that it parses to the same graph."""
    graph = archc.parse(text)
    printed = print_graph(graph)
    assert archc.parse(printed) == graph
    assert print_graph(archc.parse(printed)) == printed
    return printed


def test_shorter_instances_repeat_their_last_iteration() -> None:
    stage, _ = outline(archc.parse(STAGES)).definitions
    assert sorted(scope.path for scope in stage.scopes) == ["a", "b", "c"]
    (loop,) = (statement for statement in stage.body if isinstance(statement, Loop))
    lengths = dict(zip((scope.path for scope in stage.scopes), loop.counts))
    assert lengths == {"a": 2, "b": 3, "c": 1} and loop.count == 3
    for number, iteration in enumerate(loop.iterations):
        paths = [node.path for node in iteration[0].nodes]
        assert paths == [f"{scope.path}.fc.{min(number, lengths[scope.path] - 1)}" for scope in stage.scopes]


def test_the_class_takes_the_length(tmp_path: Path) -> None:
    graph = graph_of(STAGES)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert classes(source) == ["Stage", "M"]
    assert "def __init__(self, depth: int):" in source
    assert "self.fc = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))" in source
    assert "self.c = Stage(depth=1)" in source


def test_the_printed_block_takes_the_length() -> None:
    printed = assert_prints_back(STAGES)
    assert printed.count("block ") == 1
    assert "for i in 0..depth { x = x -> fc[i]: linear(8) -> relu }" in printed
    assert "a: Stage(2) -> b: Stage(3) -> c: Stage(1)" in printed


def test_a_first_element_of_another_size_is_constructed_separately(tmp_path: Path) -> None:
    text = STAGES.replace("Stage(3)", "Stage(3, width = 16)").replace("Stage(1)", "Stage(1, width = 4)")
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert "[nn.Linear(C, width), *(nn.Linear(width, width) for _ in range(depth - 1))]" in source
    assert_prints_back(text)


def test_sizes_that_grow_with_the_iteration_are_a_formula(tmp_path: Path) -> None:
    """As in DenseNet, each layer receives the results of all layers before it."""
    text = """
    block Grow(depth) {
        input x: f32[N, C]
        for i in 0..depth { x = (x, x -> fc[i]: linear(4)) -> concat(1) }
        output x
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Grow(2) -> b: Grow(4)
    }
    """
    graph = graph_of(text)
    model = assert_agrees(graph, tmp_path)
    assert [layer.in_features for layer in model.b.fc] == [16, 20, 24, 28]
    assert "self.fc = nn.ModuleList(nn.Linear(C + 4 * i, 4) for i in range(depth))" in source_of(graph)
    assert_prints_back(text)


def test_sizes_without_a_rule_are_a_list(tmp_path: Path) -> None:
    text = """
    block Mix(rates) {
        input x: f32[N, C]
        for i in 0..len(rates) { x = x -> norm[i]: layer_norm(eps = rates[i]) -> relu }
        output x
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Mix([0.1, 0.2, 0.1]) -> b: Mix([0.2, 0.2, 0.5, 0.1])
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert classes(source) == ["Mix", "M"]
    assert "nn.LayerNorm(8, eps=rates[i]) for i in range(depth)" in source
    printed = assert_prints_back(text)
    assert printed.count("block ") == 1


def test_a_list_may_begin_with_another_kind_of_element(tmp_path: Path) -> None:
    """The first element has other layers, so the loop begins with the second element."""
    text = """
    block Layer(wide = false) {
        input x: f32[N, C]
        y = x -> fc: linear(C)
        if wide { y = y -> more: linear(C) }
        output x + y
    }
    block Stage(depth) {
        input x
        x = x -> blocks[0]: Layer(wide = true)
        for i in 1..depth { x = x -> blocks[i]: Layer }
        output x
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Stage(2) -> b: Stage(4) -> c: Stage(3)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert source.count("class Stage") == 1
    assert "[LayerWithMore(), *(Layer() for _ in range(depth - 1))]" in source
    assert "for layer in self.blocks:" in source
    printed = assert_prints_back(text)
    assert "for i in 1..depth { x = x -> blocks[i]: Layer }" in printed


@pytest.mark.parametrize("first", ["(2, 3)", "(3, 2)"])
def test_uses_share_a_class_if_one_of_them_is_the_longest(first: str, tmp_path: Path) -> None:
    """Uses of (2, 3) and (3, 2) iterations share a definition only with a use of (3, 3) iterations."""
    text = """
    block Two(depths) {
        input x: f32[N, C]
        for i in 0..depths[0] { x = x -> a[i]: linear(8) }
        x = x -> tanh
        for i in 0..depths[1] { x = x -> b[i]: linear(8) }
        output x
    }
    model m {
        input x: f32[N, 8]
        output y = x -> p: Two(FIRST) -> q: Two((2, 3)) -> r: Two((3, 3))
    }
    """.replace("FIRST", first)
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert source_of(graph).count("class Two") == 1
    assert assert_prints_back(text).count("block ") == 1
    crossed = text.replace(" -> r: Two((3, 3))", "").replace(f"p: Two({first})", "p: Two((3, 2))")
    assert_agrees(graph_of(crossed), tmp_path)
    assert assert_prints_back(crossed).count("block ") == 2


def test_an_operand_of_the_last_iteration_used_after_the_loop(tmp_path: Path) -> None:
    """The operand of the last iteration is used after the loop, but a loop returns only results."""
    text = """
    block Stage(depth) {
        input x: f32[N, C]
        last = x
        for i in 0..depth { last = x  x = x -> fc[i]: linear(8) }
        output x + last
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Stage(2) -> b: Stage(3) -> c: Stage(1)
    }
    """
    assert_agrees(graph_of(text), tmp_path)
    assert_prints_back(text)


def test_lengths_of_the_blocks_of_a_list(tmp_path: Path) -> None:
    """The blocks of different lengths are the elements of a list, which is itself a loop."""
    text = STAGES.replace(
        "output y = x -> a: Stage(2) -> b: Stage(3) -> c: Stage(1)",
        "for i in 0..4 { x = x -> stages[i]: Stage(1 + i) }  output y = x",
    )
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert classes(source_of(graph)) == ["Stage", "M"]
    printed = assert_prints_back(text)
    assert "let depths = [1, 2, 3, 4]" in printed
