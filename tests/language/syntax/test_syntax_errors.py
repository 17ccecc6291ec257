"""Diagnostics of invalid texts: code, place and message, and recovery after an error."""

from __future__ import annotations

import pytest

from archc.diagnostics import Diagnostics, Source
from archc.language.syntax import tree
from archc.language.syntax.parser import MOST_SYNTAX_ERRORS, parse, parse_pipeline, parse_value
from tests.language.syntax.trees import parsed, plain


def mistakes(text: str) -> list[tuple[str, int, int, str]]:
    """Code, line, column and message of each diagnostic."""
    diagnostics = Diagnostics()
    parse(Source(text), diagnostics)
    assert all(found.span is not None for found in diagnostics)
    return [(d.code, d.span.line, d.span.column, d.message) for d in diagnostics if d.span is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model m { x = relu(y\n z = 3 output z }", ("syntax-error", 1, 20, "expected `)` or `,` after `y`")),
        ("model m { x = y ->\n output x }", ("syntax-error", 1, 17, "expected a name after `->`")),
        ("model m { input x: f32\n output x }", ("syntax-error", 1, 20, "expected `[` after `f32`")),
        ("model m { x = foo bar\n output x }", ("syntax-error", 1, 19, "unexpected `bar`")),
        ("model m { foo\n output x }", ("syntax-error", 1, 11, "`foo` alone is not a statement")),
        (
            "model m { x -> relu }",
            ("unused-chain", 1, 11, "the result of the chain that starts with `x` is not used"),
        ),
        ("model m { output x + }", ("syntax-error", 1, 22, "expected an expression, found `}`")),
        (
            "model m { input layer: f32[3] }",
            ("reserved-word", 1, 17, "`layer` is a keyword, and cannot be a name"),
        ),
        (
            "model m { output = x }",
            ("reserved-word", 1, 11, "`output` is a keyword, and cannot be a name"),
        ),
        ("model m { if a = 3 { } }", ("syntax-error", 1, 16, "expected `{`, found `=`")),
        ("model m { y = a < b < c }", ("chained-comparison", 1, 21, "comparisons do not chain")),
        ("model m { y = ) }", ("unmatched-bracket", 1, 15, "unmatched `)`")),
        ("model m { } }", ("unmatched-bracket", 1, 13, "unmatched `}`")),
        ("model m { output (x }", ("unclosed-bracket", 1, 18, "`(` is never closed")),
        ("model m { output f(x] }", ("unclosed-bracket", 1, 19, "`(` is never closed")),
        ("model m {\n for i in n {\n output x\n}", ("unclosed-bracket", 1, 9, "`{` is never closed")),
        ("model m {\n x = y\nmodel n { }", ("unclosed-bracket", 1, 9, "`{` is never closed")),
        ("model m { else { } }", ("syntax-error", 1, 11, "`else` without an `if`")),
        (
            "output x",
            ("syntax-error", 1, 1, "expected `model`, `block`, `pipeline`, `import` or `devices`, found `output`"),
        ),
        ("model m\n input x }", ("syntax-error", 1, 7, "expected `(`, `{` or `=` after `m`")),
        ("model", ("syntax-error", 1, 1, "expected a name after `model`")),
        ("import foo", ("syntax-error", 1, 8, "expected a string, found `foo`")),
        ('import "a" as model', ("reserved-word", 1, 15, "`model` is a keyword, and cannot be a name")),
        ("pipeline p = -> b", ("syntax-error", 1, 14, "expected a name, found `->`")),
        ("devices d { link a - b = 3 }", ("syntax-error", 1, 20, "expected `<->`, found `-`")),
        (
            "model m { y = f(a = 1, 2) }",
            ("positional-after-keyword", 1, 24, "a positional argument comes after a keyword argument"),
        ),
        ("model m { y = f(a = 1, a = 2) }", ("duplicate-argument", 1, 24, "`a` is given twice")),
        ("model m { y = 12abc }", ("invalid-number", 1, 15, "`12abc` is neither a number nor a name")),
        ("model m { y = 1e999 }", ("number-too-large", 1, 15, "the number 1e999 is too large")),
        (
            "model m { y = 9223372036854775808 }",
            ("number-too-large", 1, 15, "the number 9223372036854775808 is too large"),
        ),
        ('model m { y = "abc\n}', ("unterminated-string", 1, 15, "the string is not closed on its line")),
        (r'model m { y = "a\qb" }', ("invalid-escape", 1, 17, r"`\q` is not an escape")),
        (r'model m { y = "\u{D800}" }', ("invalid-escape", 1, 16, r"`\u{D800}` is not an escape")),
        ("model m { y = a & b }", ("invalid-character", 1, 17, "unexpected `&`")),
        ("model m { y = 3; z = 4 }", ("invalid-character", 1, 16, "unexpected `;`")),
        ("model m { café = 3 }", ("invalid-character", 1, 14, "unexpected `é`")),
        ("model m { \x00\x00 }", ("invalid-character", 1, 11, "NUL character in the text")),
        ("model m { # \u202e\n }", ("invalid-character", 1, 13, "invisible character U+202E")),
    ],
)
def test_one_mistake_is_reported_once_and_in_its_place(text: str, expected: tuple[str, int, int, str]) -> None:
    assert mistakes(text) == [expected]


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("model m(classes = 10 {\n output x\n}", "model m(classes = 10) {"),
        ("model m(classes = 10\n input x: f32[N]\n output x\n}", "model m(classes = 10) {"),
        ("block m(\n    a,\n    b = (1 + 2 {\n output x\n}", "block m( a, b = (1 + 2)) {"),
        (f"model m({'a' * 100} {{ output x }}", ") {"),
    ],
)
def test_an_open_parenthesis_of_a_head_is_closed(text: str, head: str) -> None:
    diagnostics = Diagnostics()
    parse(Source(text), diagnostics)
    assert next(iter(diagnostics)).help == f"close the `(` before the body: `{head}`"


def test_several_mistakes_are_reported_in_one_run() -> None:
    text = """\
model a(x == 3) {
    input layer: f32[3]
    y = f(
    for i in {
        z = * 3
    }
    if a < b < c { output ) }
    output y
}
block b { output x y }
pipeline = q
model c { output x }
"""
    assert [(code, line) for code, line, _, _ in mistakes(text)] == [
        ("syntax-error", 1),
        ("reserved-word", 2),
        ("syntax-error", 3),
        ("syntax-error", 4),
        ("syntax-error", 5),
        ("chained-comparison", 7),
        ("unmatched-bracket", 7),
        ("syntax-error", 10),
        ("syntax-error", 11),
    ]


def test_valid_statements_are_read_in_spite_of_mistakes() -> None:
    file = parse(Source("model a { x = 1 y = = z = 2 }\nblock ( { output x }\nmodel c { output w }"), Diagnostics())
    names = [item.name.name for item in file.items if isinstance(item, tree.Definition)]
    assert names[0] == "a" and names[-1] == "c"
    assert plain(file.items[-1]) == plain(parsed("model c { output w }").items[0])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model m { y = " + "(" * 10_000 + "x" + ")" * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = " + "f(a = " * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = " + "[" * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = " + "-" * 10_000 + "x }", "nesting-too-deep"),
        ("model m { y = " + "not " * 10_000 + "x }", "nesting-too-deep"),
        ("model m { y = a" + " ** a" * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = a" + "[0]" * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = a" + ".b()" * 10_000 + " }", "nesting-too-deep"),
        ("model m {" + "if a {" * 10_000, "nesting-too-deep"),
        ("model m { if a { }" + " else if a { }" * 10_000 + " }", "nesting-too-deep"),
        ("model m { y = " + "9" * 10_000 + " }", "number-too-large"),
        ("model m { y = 1" + "_" * 100_000 + "x }", "invalid-number"),
        ("}" * 100_000, "unmatched-bracket"),
        ("\x00" * 100_000, "invalid-character"),
        ('model m { y = "' + "a" * 100_000, "unterminated-string"),
    ],
)
def test_hostile_texts_are_one_mistake(text: str, code: str) -> None:
    assert [found[0] for found in mistakes(text)] == [code]


def test_a_hundred_parentheses_are_not_too_many() -> None:
    assert mistakes("model m { y = " + "(" * 100 + "x" + ")" * 100 + " }") == []


def test_a_binary_file_is_given_up_on() -> None:
    found = mistakes(bytes(range(256)).decode("latin-1") * 4000)
    assert len(found) == MOST_SYNTAX_ERRORS + 1
    assert found[-1][0] == "too-many-mistakes"


@pytest.mark.parametrize("text", ["", "a,,b", "a(", "3", "a b", "a -> ", "x: a"])
def test_mistakes_in_a_pipeline_of_the_command_line(text: str) -> None:
    diagnostics = Diagnostics()
    assert parse_pipeline(Source(text), diagnostics) == ()
    assert len(diagnostics.errors) == 1


@pytest.mark.parametrize("text", ["", "3 4", "x = 3", "(", "model"])
def test_mistakes_in_a_value_of_the_command_line(text: str) -> None:
    diagnostics = Diagnostics()
    assert isinstance(parse_value(Source(text), diagnostics), tree.Number)
    assert len(diagnostics.errors) == 1


@pytest.mark.parametrize(
    ("text", "help"),
    [("12mb", "did you mean `12MB`?"), ("1.5gib", "did you mean `1.5GiB`?"), ("3b", "begin a name with a letter")],
)
def test_units_in_another_case_are_corrected(text: str, help: str) -> None:
    diagnostics = Diagnostics()
    parse_value(Source(text), diagnostics)
    (found,) = diagnostics.errors
    assert found.code == "invalid-number" and (found.help or "").startswith(help)
