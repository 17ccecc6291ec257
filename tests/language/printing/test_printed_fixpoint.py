"""Printed text of graphs after every pass: parsing and printing it gives the same text."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.ir.graph import Graph
from archc.language.printing.printer import print_graph
from tests.language.random_graphs import random_graph
from tests.specs.siblings import sibling

SPECS = sorted(path for path in Path("specs").glob("*.arch") if path.stem != "net")
PASSES = [
    "simplify",
    "fold",
    "lowrank",
    "prune(0.5)",
    "prune(0.3, scheme = 'channel')",
    "partition(2)",
    "quant(least = 0)",
    "quant(scheme = weight)",
    "fold, lowrank, quant(least = 0), partition(2)",
]


FEW, MANY = range(60), range(60, 3000)
NOT_IN_ORDER = (80, 133, 221, 250, 418, 432, 537, 757, 2191)
"""Seeds of random graphs whose names, outputs and loops depend on the order of the text."""


def assert_fixpoint(graph: Graph) -> None:
    text = print_graph(graph)
    again = archc.parse(text)
    assert again == graph
    assert print_graph(again) == text


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_a_network_is_a_fixpoint(spec: Path) -> None:
    assert_fixpoint(archc.parse(spec))


@pytest.mark.parametrize("passes", PASSES)
def test_a_pass_leaves_a_fixpoint(passes: str) -> None:
    assert_fixpoint(archc.compile(Path("specs/mlp.arch"), passes=passes).graph)


@pytest.mark.parametrize("seed", [*FEW, *NOT_IN_ORDER])
def test_a_random_graph_is_a_fixpoint(seed: int) -> None:
    assert_fixpoint(random_graph(seed))


@pytest.mark.slow
def test_many_random_graphs_are_fixpoints() -> None:
    for seed in MANY:
        assert_fixpoint(random_graph(seed))


BRANCHES = """
block Scaled {
    input x
    output x * 2
}

block Doubled {
    input x
    output x + x
}

model branches {
    input x: f32[N, 4]
    input y: f32[N, 4]
    output a: f32[N, 4] = y -> p: Scaled
    output b: f32[N, 4] = x -> q: Doubled
}
"""


def test_blocks_are_in_the_order_of_their_uses_in_the_text() -> None:
    graph = archc.parse(BRANCHES)
    text = print_graph(graph)
    assert text.strip() == BRANCHES.strip()
    graph.outputs = dict(reversed(graph.outputs.items()))  # a pass may change the order of the outputs
    swapped = print_graph(graph)
    assert swapped.index("block Doubled") < swapped.index("block Scaled")
    assert_fixpoint(graph)


def test_no_tensor_has_the_name_of_a_layer_without_inputs() -> None:
    text = (
        "block Learned { t = parameter((1, 4))  output t }\n"
        "model m { input x: f32[N, 4]  layer a = Learned  p = a()  q = x * p  output y = q + q }"
    )
    graph = archc.parse(text)
    (product,) = (node for node in graph.nodes() if node.op.name == "mul")
    product.results[0].name = "a"
    assert_fixpoint(graph)


LOOP_BETWEEN = """
block Layer {
    input x
    output x -> fc: linear(4) -> relu
}

model chains {
    input x: f32[N, 4]
    h = x -> layers[0]: Layer
    other = x -> side: linear(4)
    output y = h -> layers[1]: Layer -> layers[2]: Layer
    output z = other
}
"""


def test_layers_are_reordered_to_print_a_loop() -> None:
    graph = archc.parse(LOOP_BETWEEN)
    for node in graph.nodes():
        for value in node.results:
            value.name = None
    for scope in {node.scope for node in graph.nodes()}:
        scope.names.clear()
    assert "for i in 0..3" in print_graph(graph)
    assert_fixpoint(graph)


TWO_RESULTS = """
block Both {
    input x
    output a = x -> fc: linear(4)
    output b = a -> relu
}

model chains {
    input x: f32[N, 4]
    y = x -> first: linear(4)
    for i in 0..3 {
        a, y = y -> layers[i]: Both
    }
    p, q = x -> other: Both
    output z = y -> tanh
    output w = p + q
}
"""


def test_a_tensor_keeps_its_name_through_a_loop_of_blocks_with_two_results() -> None:
    graph = archc.parse(TWO_RESULTS)
    for node in graph.nodes():
        if node.op.name in ("linear", "relu"):
            node.results[0].name = "y"
        node.scope.names.clear()
    text = print_graph(graph)
    assert ", y = y -> layers[i]: Both }" in text
    assert_fixpoint(graph)


DEEP = (
    *("bert", "clip", "densenet121", "inception_v1", "inception_v3", "mobilenet_v2"),
    *("resnet34", "resnet50", "resnet101", "ssd300", "unet", "whisper"),
)
"""Networks of many blocks like those of others, which are slow with all passes."""


@pytest.mark.parametrize("size", ["small", pytest.param("published", marks=pytest.mark.slow)])
@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("spec", [
    pytest.param(spec, id=spec.stem, marks=pytest.mark.slow if spec.stem in DEEP else ())
    for spec in SPECS
    if spec.stem != "linear_regression"
])  # fmt: skip
def test_every_pass_leaves_a_fixpoint_of_every_network(spec: Path, passes: str, size: str) -> None:
    values = sibling(spec) if size == "small" else {}
    assert_fixpoint(archc.compile(spec, passes=passes, set=values).graph)


def test_one_block_serves_two_sizes_of_the_model() -> None:
    text = print_graph(archc.parse(Path("specs/transformer.arch")))
    assert "block Sinusoidal {" in text and "Sinusoidal2" not in text and "arange(T, dtype = f32)" in text
