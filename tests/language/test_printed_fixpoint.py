"""What is printed prints the same once it is read back, for every network and after every pass."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.ir.graph import Graph
from archc.language.printer import print_graph

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


@pytest.mark.slow
@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("spec", [s for s in SPECS if s.stem != "linear_regression"], ids=lambda path: path.stem)
def test_every_pass_leaves_a_fixpoint_of_every_network(spec: Path, passes: str) -> None:
    assert_fixpoint(archc.compile(spec, passes=passes).graph)


def test_one_block_serves_two_sizes_of_the_model() -> None:
    text = print_graph(archc.parse(Path("specs/transformer.arch")))
    assert "block Sinusoidal {" in text and "Sinusoidal2" not in text and "arange(T, dtype = f32)" in text
