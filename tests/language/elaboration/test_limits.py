"""Limits on the work of elaboration and on the number of mistakes."""

from __future__ import annotations

import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest

import archc
from archc.diagnostics import MOST_MISTAKES, ArchcError, Diagnostics, Source
from archc.language.elaboration.step_budget import StepBudget
from archc.language.syntax.scanner import Token
from archc.types.tensor_type import MOST_AXES

MOST_CALLS = 400_000
"""Limit on function calls until a text is refused; a call takes at most a microsecond."""


class TooManyCalls(Exception):
    pass


def refused(text: str) -> list[str]:
    """Return the codes of the mistakes in a text; fail if finding them takes more than `MOST_CALLS` calls."""
    count = 0

    def called(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"
        if count > MOST_CALLS:
            sys.setprofile(None)
            raise TooManyCalls

    sys.setprofile(called)
    try:
        archc.parse(text)
    except ArchcError as failure:
        return [found.code for found in failure.diagnostics]
    finally:
        sys.setprofile(None)
    return []


def model(body: str, sizes: str = "N, 8") -> str:
    return f"model m {{\n    input x: f32[{sizes}]\n    {body}\n    output x -> relu\n}}\n"


def ones(count: int) -> str:
    return ", ".join("1" * count)


NAMES = " ".join(f"a{number}" for number in range(MOST_AXES + 1))


@pytest.mark.parametrize(
    "text",
    [
        model("", ones(MOST_AXES + 1)),
        model(f"y = x -> unflatten(1, ({ones(MOST_AXES)}, 8))"),
        model(f"x = x -> rearrange('{NAMES} -> {NAMES}')"),
        model(f"x = x -> rearrange('n ({NAMES}) -> n ({NAMES})')"),
        model(f"x = ones(({ones(MOST_AXES + 1)}))"),
        model(f"x = x -> reshape(({ones(MOST_AXES + 1)}))", sizes="1"),
        model("for i in 0..100000 { x = x -> unsqueeze(0) }"),
    ],
)
def test_axes_have_a_limit(text: str) -> None:
    assert refused(text) == ["too-many-axes"]


def test_as_many_axes_as_the_limit_are_fine() -> None:
    assert refused(model("for i in 0..62 { x = x -> unsqueeze(0) }")) == []


LINES = 2 * MOST_MISTAKES


@pytest.mark.parametrize(
    "text",
    [
        model("y = x -> linear\n" * LINES),
        model("assert 1 == 2\n" * LINES),
        model("input x: f32[N]\n" * LINES),
        model("") + "block b { input x  output x }\n" * LINES,
        model("output y = x -> relu\n" * LINES),
        "".join(f'import "missing{number}.arch"\n' for number in range(LINES)) + model(""),
        model("") + "".join(f"pipeline p{number} = fool{number}\n" for number in range(LINES)),
        model("") + "devices d {\n" + "".join(f"d{number} = cud(0)\n" for number in range(LINES)) + "}\n",
    ],
)
def test_mistakes_have_a_limit(text: str) -> None:
    codes = refused(text)
    assert len(codes) == MOST_MISTAKES + 1
    assert codes[-1] == "too-many-mistakes"


def test_warnings_have_a_limit_and_what_follows_is_checked() -> None:
    found = Diagnostics()
    archc.parse(model("".join(f"y{number} = x -> relu\n" for number in range(LINES))), diagnostics=found)
    assert len(found.warnings) == MOST_MISTAKES + 1
    assert found.warnings[-1].code == "too-many-warnings"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_long_string_takes_no_more_memory_than_its_characters(quote: str) -> None:
    text = model(f"assert true, {quote}{'a' * 1_000_000}{quote}")
    tracemalloc.start()
    try:
        archc.parse(text)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


class Characters(str):
    """String that allows indices and refuses slices, which would copy it."""

    def __getitem__(self, key: Any) -> str:
        assert isinstance(key, int)
        return super().__getitem__(key)


@pytest.mark.parametrize(("text", "first"), [("x", True), ("  \t x", True), ("a\n x", True), ("a x", False)])
def test_the_first_word_of_a_long_line_is_told_without_a_copy_of_the_line(text: str, first: bool) -> None:
    token = Token("NAME", "x", Source(Characters(text)), len(text) - 1, len(text))
    assert token.first_on_line is first


@pytest.mark.parametrize("part", ["[0]", ".a", "(0)"])
def test_rows_have_a_limit(part: str) -> None:
    assert refused(model("y = f(x" + part * 10_000 + ")")) == ["nesting-too-deep"]


@pytest.mark.parametrize(
    "body",
    [
        "for i in 0..100000 { if i >= 0 { x = x -> relu } }",
        "for i in 0..100000 { if i >= 0 { x = x -> linear(8) } }",
        "k = (x, x)\n for i in 0..5000 { k = k + (x,)  y = k -> concat(0) }",
        "k = (x, x)\n for i in 0..20000 { k = k + (x,) }",
        "for i in 0..190000 { if true { } else { " + "let a = 1 " * 300 + "} }",
        "for i in 0..190000 { " + "let a = i + 1 " * 100 + "}",
        "let k = [" + ones(3900) + "]  for i in 0..190000 { let b = max(k) }",
        "let k = [" + ones(3900) + "]  for i in 0..190000 { assert k == k }",
        "let k = 'a'\n for i in 0..19 { let k = k + k }  for i in 0..190000 { let b = k + 'b' }",
        f"let k = {' + '.join(f'N ** {power}' for power in range(1, 9))}\n for i in 0..190000 {{ let b = k * k }}",
        "x = ones((1000, 8))  for i in 0..1000 { k = x -> split(1, 0) }",
    ],
)
def test_work_beyond_the_size_bound_has_a_limit(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archc.language.elaboration.step_budget.ALLOWED_BY_AN_ITERATION", 0)
    monkeypatch.setattr("archc.language.elaboration.step_budget.ALLOWED_BY_A_PART", 0)
    monkeypatch.setattr(StepBudget.__init__, "__defaults__", (20_000, 0, 0))
    assert refused(model(body)) == ["model-too-large"]


def test_work_within_the_size_bound_is_allowed() -> None:
    assert refused(model("for i in 0..1000 { x = x -> fc[i]: linear(8) -> relu }")) == []


def test_lists_that_double_have_a_limit() -> None:
    assert refused(model("let k = [1]\n" + "let k = [k, k]\n" * 100)) == ["number-too-large"]


def test_a_tuple_of_tensors_that_let_begins_is_told_the_way_out() -> None:
    with pytest.raises(ArchcError) as failure:
        archc.parse(model("let keys = ()\n keys = keys + (x,)"))
    assert failure.value.diagnostics[0].help == "begin a tuple of tensors without `let`: `keys = ()`"
