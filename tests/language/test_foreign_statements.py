"""Statements of Python that are none here: what they are told is valid in their place."""

from __future__ import annotations

import re

import pytest

from archc.compiler import parse
from archc.diagnostics import ArchcError, Diagnostic, Source

TEXT = """model m {{
    input x: f32[N, 8]
    input y: f32[N, 8]
    input mask: bool[N, 8]
    input index: i64[N, 8]
    keys = ()
    {}
    output z = x -> relu
}}"""


def mistake(statement: str) -> Diagnostic:
    """The one mistake of a statement."""
    with pytest.raises(ArchcError) as failure:
        parse(Source(TEXT.format(statement)))
    (found,) = (one for one in failure.value.diagnostics if one.severity == "error")
    return found


@pytest.mark.parametrize(
    ("statement", "place", "code"),
    [
        ("keys.append(x)", "keys.append", ["keys = keys + (x,)", "keys = ()"]),
        ("for i in 0..3 { keys.append(x) }", "keys.append", ["keys = keys + (x,)", "keys = ()"]),
        ("keys.append((x, y))", "keys.append", ["keys = keys + (x, y)", "keys = ()"]),
        ("keys.extend((x, y))", "keys.extend", ["keys = keys + (x, y)", "keys = ()"]),
        ("keys.insert(0, x)", "keys.insert", ["keys = keys + (x,)", "keys = ()"]),
        ("x[:, 0] = 0", "x[:, 0]", ["(mask, x, y) -> where", "(x, index, y) -> scatter(1)"]),
        ("x.scale = y", "x.scale", ["x -> fc: linear(10)"]),
    ],
)
def test_a_statement_of_python_is_told_what_to_write(statement: str, place: str, code: list[str]) -> None:
    found = mistake(statement)
    assert found.span is not None and found.span.text == place
    assert re.findall("`([^`]+)`", found.help or "") == code
    for snippet in code:
        parse(Source(TEXT.format(snippet if " = " in snippet else f"output q = {snippet}")))


@pytest.mark.parametrize("target", ["(a, b)", "[a, b]", "(a, b, )", "a, (b)"])
@pytest.mark.parametrize("before", ["", "w = x -> relu\n"])
def test_names_of_several_results_stand_side_by_side(target: str, before: str) -> None:
    found = mistake(f"{before}{target} = x -> chunk(2, dim = 1)")
    assert found.span is not None and found.span.text == target
    assert found.help == "write the names side by side, without brackets: `a, b = ...`"


@pytest.mark.parametrize("statement", ["x.relu()", "x.add_(y)", "x.foo(1)"])
def test_a_call_for_its_effect_is_told_to_name_its_result(statement: str) -> None:
    assert "give the result a name" in (mistake(statement).help or "")
