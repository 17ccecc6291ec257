"""Tables of names and signs of other languages: suggested text is valid and has the same meaning."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from archc.cli import make_parser
from archc.compiler import parse
from archc.declaration.registry import known_operators, operator_names
from archc.diagnostics import ArchcError, squashed
from archc.interpreter.evaluate import evaluate
from archc.language.elaboration.arithmetic import FUNCTIONS
from archc.language.elaboration.expressions import SCAN_HELP
from archc.language.syntax import parser as language
from archc.language.syntax import syntax_hints
from archc.language.syntax.foreign_names import ATTRIBUTES, DTYPES, NAMES, OPEN_SIZE, RENAMED
from archc.language.syntax.foreign_operators import OPERATORS, TRANSPOSE, WITH_AXIS
from archc.language.syntax.foreign_syntax import KEYWORDS, SYMBOLS
from archc.types.attributes import attributes
from archc.types.tensor_type import DType
from tests.language.syntax.statement_diagnostics import diagnose

TABLES = (
    OPERATORS,
    NAMES,
    ATTRIBUTES,
    KEYWORDS,
    SYMBOLS,
)
HINTS = [text for name, text in vars(syntax_hints).items() if name.isupper() and isinstance(text, str)]
ADVICE = sorted({snippet for table in TABLES for help_ in table.values() for snippet in re.findall("`([^`]+)`", help_)})
SHAPES = ("2, 8", "2, 8, 16, 16", "2, 16, 16", "2, 8, 4, 4, 4", "8", "8, 8, 8", "2, 3")
OPERATOR_ATTRIBUTES = {info.name for operator in known_operators().values() for info in attributes(operator)}

CONTEXT = """
import "std/attention.arch" as att
import "std/transformer.arch" as tr
import "std/feed_forward.arch" as ff
{item}
model m(n = 3) {{
    input x: f32[{shape}]
    input y: f32[{shape}]
    input index: i64[{shape}]
    input mask: bool[{shape}]
    input places: i64[5]
    input q: f32[2, 8, 16]
    input k: f32[2, 8, 16]
    input v: f32[2, 8, 16]
    input tokens: i64[2, 3]
    {statement}
    output m_result = x -> relu
}}
"""


def texts(snippet: str) -> Iterator[str]:
    """Texts with the snippet as an item, a statement or an expression, on tensors of several ranks."""
    for shape in SHAPES:
        if snippet.startswith(("block ", "model ", "import ", "pipeline ")):
            yield CONTEXT.format(item=snippet.replace(" as ", " as other_"), statement="", shape=shape)
            continue
        if snippet.startswith(("input ", "if ", "for ", "let ", "assert ", "output ", "z = ", "y = ", "x = ", "w = ")):
            yield CONTEXT.format(item="", statement=snippet, shape=shape)
            continue
        yield CONTEXT.format(item="", statement=f"output r = {snippet}", shape=shape)
        yield CONTEXT.format(item="", statement=f"let r = {snippet}", shape=shape)


def is_valid(text: str) -> bool:
    try:
        parse(text, model="m")
    except ArchcError:
        return False
    return True


def is_word(snippet: str) -> bool:
    """Return whether a snippet is a word or sign of the language or of the command line."""
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    options = {option for command in commands.values() for option in command._option_string_actions}
    known = {*operator_names(), *language.keywords(), *DType.__members__, *FUNCTIONS, *OPERATOR_ATTRIBUTES}
    signs = {".", ":", "->", "//", "#", "{", "}", "self", "train", "eval", "partition", "0..3"}
    return snippet in known | signs | options or snippet.removeprefix("archc ") in commands


@pytest.mark.parametrize("snippet", ADVICE)
def test_suggested_text_is_valid(snippet: str) -> None:
    assert is_word(snippet) or any(map(is_valid, texts(snippet)))


@pytest.mark.parametrize("word", ["floor", "trunc", "ceil", "round"])
def test_suggested_text_rounds_as_pytorch(word: str) -> None:
    advice = OPERATORS[word]
    (snippet,) = re.findall("`([^`]+)`", advice)
    graph = parse(f"model m {{ input x: f32[N]  output y = {snippet} }}")
    numbers = torch.tensor([-2.7, -2.2, -1.0, -0.3, 0.0, 0.3, 1.0, 2.2, 2.7])
    if "not negative" in advice:
        numbers = numbers[numbers >= 0]
    if "not positive" in advice:
        numbers = numbers[numbers <= 0]
    torch.testing.assert_close(evaluate(graph, {"x": numbers})["y"], getattr(torch, word)(numbers))


def test_suggested_text_for_take_selects_along_an_axis() -> None:
    (snippet, _) = re.findall("`([^`]+)`", OPERATORS["take"])
    graph = parse(f"model m {{ input x: f32[N, 4]  input places: i64[K]  output y = {snippet} }}")
    x, places = torch.randn(3, 4), torch.tensor([2, 0])
    found = evaluate(graph, {"x": x, "places": places})["y"]
    assert found.numpy().tolist() == np.take(x.numpy(), places.numpy(), axis=1).tolist()


def test_no_row_is_a_name_of_the_language() -> None:
    names = set(map(squashed, operator_names()))
    assert {word for word in OPERATORS if squashed(word) in names} == set()
    known = {*operator_names(), *language.keywords(), *DType.__members__, *FUNCTIONS, "inf", "given"}
    assert known & set(NAMES) == set()
    assert language.keywords() & set(KEYWORDS) == set()
    assert set(DTYPES) & set(DType.__members__) == set()
    assert set(ATTRIBUTES) & OPERATOR_ATTRIBUTES == {"device", "nonlinearity"}


def test_words_are_told_apart_without_case_and_underscores() -> None:
    squashed_names = list(map(squashed, OPERATORS))
    assert len(set(squashed_names)) == len(squashed_names)


@pytest.mark.parametrize("name", RENAMED)
def test_no_operator_has_both_names_of_a_renamed_attribute(name: str) -> None:
    owners = [{info.name for info in attributes(operator)} for operator in known_operators().values()]
    for other in RENAMED[name]:
        assert any(other in own and name not in own for own in owners)


def test_a_name_that_begins_with_an_underscore_may_stay_unused() -> None:
    used = "output p = x -> linear(n)\n "
    assert diagnose(used + "_, h, _ = x -> unsqueeze(1) -> lstm(8, return_state = true)\n output h") == []
    assert diagnose(used + "_left = x -> tanh") == []
    assert [mistake[:2] for mistake in diagnose(used + "left = x -> tanh")] == [("unused-value", "left")]


@pytest.mark.parametrize("name", sorted(WITH_AXIS))
def test_the_text_to_write_has_the_axis_of_the_call(name: str) -> None:
    for argument in ("(0)", "(axis = 0)", "(dim = 0)"):
        ((_, _, help_),) = diagnose(f"z = x -> {name}{argument}")
        assert help_ == OPERATORS[name].replace("(1)", "(0)")
        for snippet in re.findall("`([^`]+)`", help_):
            assert "(0)" in snippet
            assert any(map(is_valid, texts(snippet))), snippet


@pytest.mark.parametrize(
    ("statement", "snippet"),
    [
        ("z = x -> expand_dims(0)", "x -> unsqueeze(0)"),
        ("z = x -> expand_dims(axis = -1)", "x -> unsqueeze(-1)"),
        ("z = [x, x] -> concat(1)", "(x, x) -> concat(1)"),
        ("z = [x, x -> tanh] -> joined: concat(dim = 1)", "(x, x -> tanh) -> joined: concat(dim = 1)"),
        ("z = x[..., ::-1]", "(x, 8 - 1 - arange(8)) -> index_select(-1)"),
        ("z = x[::-1]", "(x, N - 1 - arange(N)) -> index_select(0)"),
        ("z = (x + x)[:, ::-1]", "((x + x), 8 - 1 - arange(8)) -> index_select(1)"),
        ("if x is None { output q = x }", "not given(x)"),
        ("if x is not None { output q = x }", "given(x)"),
    ],
)
def test_the_text_to_write_is_made_of_the_statement(statement: str, snippet: str) -> None:
    ((_, _, help_),) = diagnose(statement)
    (found,) = re.findall("`([^`]+)`", help_ or "")
    assert found == snippet
    valid = f"output q = {snippet}" if "->" in snippet else f"if {snippet} {{ output q = x -> tanh }}"
    assert [code for code, _, _ in diagnose(valid) if code != "unused-value"] == []


def test_a_reversed_and_a_rolled_axis_are_those_of_pytorch() -> None:
    x = torch.randn(3, 8)
    for word, wanted in (("flip", x.flip(1)), ("roll", x.roll(1, 1))):
        (snippet,) = re.findall("`([^`]+)`", OPERATORS[word])
        graph = parse(f"model m {{ input x: f32[N, 8]  output y = {snippet} }}")
        torch.testing.assert_close(evaluate(graph, {"x": x})["y"], wanted)


@pytest.mark.parametrize("text", [OPEN_SIZE, TRANSPOSE, SCAN_HELP, *HINTS])
def test_suggested_text_outside_the_tables_is_valid(text: str) -> None:
    for snippet in re.findall("`([^`]+)`", text):
        number = re.fullmatch(r"[0-9.]+", snippet)
        plain = [CONTEXT.format(item="", statement=snippet, shape=shape) for shape in SHAPES]
        layer = [
            CONTEXT.format(item="", statement="layer fc = linear(10)\n output p = x -> fc", shape=shape)
            for shape in SHAPES
        ]
        assert is_word(snippet) or number or any(map(is_valid, [*plain, *texts(snippet), *layer])), snippet


def test_dtypes_are_dtypes() -> None:
    assert set(DTYPES.values()) <= set(DType.__members__)


def test_the_tables_import_nothing() -> None:
    heavy = {"torch", "numpy", "onnx"}
    code = f"import sys, archc.language.syntax.foreign_syntax; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
