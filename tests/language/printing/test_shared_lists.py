"""Declared lists of layers with several uses: their attributes and their printed text."""

from __future__ import annotations

import pytest

import archc

OVER = "for i in 0..4 { x = x -> l[i] -> relu }"
TEXTS = {
    "used in a second loop": f"for i in 0..4 {{ layer l[i] = linear(8) }} {OVER} {OVER} output y = x",
    "one used after the loop": f"for i in 0..4 {{ layer l[i] = linear(8) }} {OVER} output y = x -> l[3]",
    "one used before": f"for i in 0..4 {{ layer l[i] = linear(8) }} x = x -> l[2] -> tanh {OVER} output y = x",
    "backwards": f"for i in 0..4 {{ layer l[i] = linear(8) }} {OVER} for i in 0..4 {{ x = x -> l[3 - i] }} output x",
    "overlapping": """
        for i in 0..6 { layer l[i] = linear(8) }
        for i in 0..4 { x = x -> l[i] -> relu }
        for i in 2..6 { x = x -> l[i] -> tanh }
        output y = x
    """,
    "of several sizes": """
        let w = [5, 6, 7, 8]
        for i in 0..4 { layer l[i] = linear(w[i]) }
        for i in 0..4 { x = x -> l[i] }
        output y = x -> l[0]
    """,
    "a weight lent": """
        for i in 0..4 { layer l[i] = linear(8) }
        x = x -> head: linear(8, weight = l[1].weight)
        for i in 0..4 { x = x -> l[i] -> relu }
        output y = x
    """,
    "of blocks": """
        for i in 0..3 { layer l[i] = E(4) }
        for r in 0..2 { for i in 0..3 { x = x -> l[i] } }
        output y = x -> l[0]
    """,
}
BLOCK = "block E(hidden) { input x: f32[N, D]  output x + (x -> linear(hidden) -> relu -> linear(D)) }"


@pytest.mark.parametrize("passes", ["", "lowrank(rank = 2)", 'prune(0.5, scheme = "channel")', "quant(least = 0)"])
@pytest.mark.parametrize("case", TEXTS)
def test_a_list_that_is_used_again_reads_back(case: str, passes: str) -> None:
    graph = archc.compile(f"{BLOCK} model m {{ input x: f32[N, 8] {TEXTS[case]} }}", passes=passes).graph
    text = archc.print_graph(graph)
    assert archc.parse(text) == graph, text


def test_a_list_is_declared_in_one_loop() -> None:
    text = archc.print_graph(archc.parse(f"model m {{ input x: f32[N, 8] {TEXTS['one used before']} }}"))
    assert "for i in 0..4 { layer l[i] = linear(8) }" in text and text.count("layer") == 1


def shapes(body: str) -> dict[str, tuple[int, ...]]:
    graph = archc.parse(f"model m {{ input x: f32[N, 4] {body} }}")
    return {path: weight.shape for path, weight in graph.weights.items() if path.endswith("weight")}


def test_attributes_are_evaluated_at_the_declaration() -> None:
    """Attributes of a declared layer have their values at the declaration, not at its first use."""
    assert shapes("let k = 6  layer l = linear(k)  let k = 9  output x -> l") == {"l.weight": (6, 4)}
    loop = "let w = [4, 5]  for i in 0..2 { layer l[i] = linear(w[i]) }"
    assert shapes(f"{loop} for i in 0..1 {{ y = x -> l[1] }} output y") == {"l.1.weight": (5, 4)}
    assert shapes(f"{loop} output x -> l[0] -> l[1]") == {"l.0.weight": (4, 4), "l.1.weight": (5, 4)}


def test_a_use_of_a_layer_does_not_restore_old_values_of_names() -> None:
    body = "let k = 6  layer l = linear(k)  let k = 9  output x -> l -> m: linear(k)"
    assert shapes(body) == {"l.weight": (6, 4), "m.weight": (9, 6)}
