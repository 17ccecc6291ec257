"""Examples in the README agree with archc."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import archc
from archc.diagnostics import ArchcError, Source, render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """The indented blocks of the page, unindented."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)
    return ["\n".join(line.removeprefix("    ") for line in block.strip("\n").split("\n")) for block in found]


def block_with(text: str) -> str:
    (block,) = (block for block in blocks() if text in block)
    return block


def test_the_readme_begins_with_the_two_commands() -> None:
    first = blocks()[0].splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make demo", "make test"]


def test_the_classifier_is_the_shipped_one() -> None:
    shipped = (ROOT / "specs" / "cnn.arch").read_text(encoding="utf-8")
    assert block_with("model cnn") in shipped


def test_the_example_of_the_language_compiles() -> None:
    graph = archc.parse(block_with("model gpt"), values={"depth": 2})
    assert str(graph.outputs["logits"].type) == "f32[N, T, 50257]"
    assert archc.parse(archc.print_graph(graph)) == graph
    # `head` shares the weight of `wte`.
    assert [path for path, weight in graph.weights.items() if 50257 in weight.shape] == ["wte.weight"]


def test_the_diagnostic_is_that_of_archc() -> None:
    shown = block_with("error[shape-mismatch]")
    case = (ROOT / "tests" / "diagnostics" / "cases" / "course-network.md").read_text(encoding="utf-8")
    source = re.search(r"```arch net.arch\n(.*?)```", case, re.DOTALL)
    assert source is not None
    with pytest.raises(ArchcError) as problem:
        archc.parse(Source(source.group(1), "net.arch"))
    assert render(problem.value.diagnostics[0]) == shown
