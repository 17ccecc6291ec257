"""The reference page of the language agrees with the parser."""

from __future__ import annotations

import re
from pathlib import Path

import archc

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "language.md").read_text()


def test_the_grammar_on_the_page_is_the_parsers() -> None:
    grammar = (ROOT / "archc" / "language" / "syntax" / "grammar.lark").read_text().strip()
    assert grammar in PAGE, "copy archc/language/syntax/grammar.lark into docs/reference/language.md"


def test_the_example_on_the_page_compiles() -> None:
    example = re.search(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert example is not None
    graph = archc.parse(example.group(1))
    assert [value.name for value in graph.inputs] == ["image"]
    assert str(graph.outputs["logits"].type) == "f32[N, 10]"


def test_the_recurrence_on_the_page_compiles() -> None:
    example = re.search(r"^## Recurrence\n.*?^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert example is not None
    graph = archc.parse(example.group(1))
    assert [str(value.type) for value in graph.outputs.values()] == ["f32[B, T, 10]", "f32[B, 64]"]


def test_the_optional_input_on_the_page_is_given_or_absent() -> None:
    example = re.search(r"^## Optional inputs\n.*?^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert example is not None
    for masked in (False, True):
        graph = archc.parse(example.group(1), values={"masked": masked})
        assert len(graph.inputs) == 1 + masked
