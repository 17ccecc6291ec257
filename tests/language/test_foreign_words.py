"""Words of other languages: each row of the tables, and what a text that uses them is told."""

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
from archc.diagnostics import ArchcError, Diagnostics, Source, squashed
from archc.ir.attributes import attributes
from archc.ir.types import DType
from archc.language import foreign_words, syntax_hints
from archc.language import parser as language
from archc.language.arithmetic import FUNCTIONS
from archc.language.expressions import SCAN
from archc.ops.evaluate import evaluate
from archc.ops.registry import known_operators, operator_names

TABLES = ("OPERATORS", "NAMES", "ATTRIBUTES", "KEYWORDS", "SYMBOLS")
ROWS = [(table, word, told) for table in TABLES for word, told in getattr(foreign_words, table).items()]
HINTS = [text for name, text in vars(syntax_hints).items() if name.isupper() and isinstance(text, str)]
ADVICE = sorted({snippet for _, _, told in ROWS for snippet in re.findall("`([^`]+)`", told)})
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
    """The snippet as an item, a statement and an expression, on tensors of several ranks."""
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
    """Return whether a snippet is a word or a sign of the language, or a part of the command line."""
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    options = {option for command in commands.values() for option in command._option_string_actions}
    known = {*operator_names(), *language.keywords(), *DType.__members__, *FUNCTIONS, *OPERATOR_ATTRIBUTES}
    signs = {"->", "//", "#", "{", "}", "self", "train", "eval", "partition", "0..3"}
    return snippet in known | signs | options or snippet.removeprefix("archc ") in commands


@pytest.mark.parametrize("snippet", ADVICE)
def test_what_a_row_says_to_write_is_valid(snippet: str) -> None:
    assert is_word(snippet) or any(map(is_valid, texts(snippet)))


@pytest.mark.parametrize("word", ["floor", "trunc", "ceil", "round"])
def test_what_stands_for_a_rounding_rounds_the_numbers_that_are_named(word: str) -> None:
    advice = foreign_words.OPERATORS[word]
    (snippet,) = re.findall("`([^`]+)`", advice)
    graph = parse(f"model m {{ input x: f32[N]  output y = {snippet} }}")
    numbers = torch.tensor([-2.7, -2.2, -1.0, -0.3, 0.0, 0.3, 1.0, 2.2, 2.7])
    if "not negative" in advice:
        numbers = numbers[numbers >= 0]
    if "not positive" in advice:
        numbers = numbers[numbers <= 0]
    torch.testing.assert_close(evaluate(graph, {"x": numbers})["y"], getattr(torch, word)(numbers))


def test_take_is_the_selection_of_places_of_an_axis() -> None:
    (snippet, _) = re.findall("`([^`]+)`", foreign_words.OPERATORS["take"])
    graph = parse(f"model m {{ input x: f32[N, 4]  input places: i64[K]  output y = {snippet} }}")
    x, places = torch.randn(3, 4), torch.tensor([2, 0])
    found = evaluate(graph, {"x": x, "places": places})["y"]
    assert found.numpy().tolist() == np.take(x.numpy(), places.numpy(), axis=1).tolist()


def test_no_row_is_a_name_of_the_language() -> None:
    names = set(map(squashed, operator_names()))
    assert {word for word in foreign_words.OPERATORS if squashed(word) in names} == set()
    known = {*operator_names(), *language.keywords(), *DType.__members__, *FUNCTIONS, "inf", "given"}
    assert known & set(foreign_words.NAMES) == set()
    assert language.keywords() & set(foreign_words.KEYWORDS) == set()
    assert set(foreign_words.DTYPES) & set(DType.__members__) == set()
    assert set(foreign_words.ATTRIBUTES) & OPERATOR_ATTRIBUTES == {"device", "nonlinearity"}


def test_words_are_told_apart_without_case_and_underscores() -> None:
    squashed_names = list(map(squashed, foreign_words.OPERATORS))
    assert len(set(squashed_names)) == len(squashed_names)


@pytest.mark.parametrize("name", foreign_words.RENAMED)
def test_a_renamed_attribute_is_one_that_no_operator_has_beside_its_new_name(name: str) -> None:
    owners = [{info.name for info in attributes(operator)} for operator in known_operators().values()]
    for other in foreign_words.RENAMED[name]:
        assert any(other in own and name not in own for own in owners)


def test_a_name_that_begins_with_an_underscore_may_stay_unused() -> None:
    used = "output p = x -> linear(n)\n "
    assert told(used + "_, h, _ = x -> unsqueeze(1) -> lstm(8, return_state = true)\n output h") == []
    assert told(used + "_left = x -> tanh") == []
    assert [mistake[:2] for mistake in told(used + "left = x -> tanh")] == [("unused-value", "left")]


@pytest.mark.parametrize("name", sorted(foreign_words.WITH_AXIS))
def test_the_text_to_write_has_the_axis_of_the_call(name: str) -> None:
    for argument in ("(0)", "(axis = 0)", "(dim = 0)"):
        ((_, _, help_),) = told(f"z = x -> {name}{argument}")
        assert help_ == foreign_words.OPERATORS[name].replace("(1)", "(0)")
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
    ((_, _, help_),) = told(statement)
    (found,) = re.findall("`([^`]+)`", help_ or "")
    assert found == snippet
    valid = f"output q = {snippet}" if "->" in snippet else f"if {snippet} {{ output q = x -> tanh }}"
    assert [code for code, _, _ in told(valid) if code != "unused-value"] == []


def test_a_reversed_and_a_rolled_axis_are_those_of_pytorch() -> None:
    x = torch.randn(3, 8)
    for word, wanted in (("flip", x.flip(1)), ("roll", x.roll(1, 1))):
        (snippet,) = re.findall("`([^`]+)`", foreign_words.OPERATORS[word])
        graph = parse(f"model m {{ input x: f32[N, 8]  output y = {snippet} }}")
        torch.testing.assert_close(evaluate(graph, {"x": x})["y"], wanted)


@pytest.mark.parametrize("text", [foreign_words.OPEN_SIZE, foreign_words.TRANSPOSE, SCAN, *HINTS])
def test_help_that_stands_in_no_table_is_valid(text: str) -> None:
    for snippet in re.findall("`([^`]+)`", text):
        number = re.fullmatch(r"[0-9.]+", snippet)
        plain = [CONTEXT.format(item="", statement=snippet, shape=shape) for shape in SHAPES]
        layer = [
            CONTEXT.format(item="", statement="layer fc = linear(10)\n output p = x -> fc", shape=shape)
            for shape in SHAPES
        ]
        assert is_word(snippet) or number or any(map(is_valid, [*plain, *texts(snippet), *layer])), snippet


def test_dtypes_are_dtypes() -> None:
    assert set(foreign_words.DTYPES.values()) <= set(DType.__members__)


def told(statement: str, before: str = "") -> list[tuple[str, str, str | None]]:
    """Code, place and help of each mistake of a model with one statement."""
    text = f"{before}model m(n = 3) {{\n input x: f32[N, 8]\n {statement}\n output o = x -> relu\n}}"
    found = Diagnostics()
    try:
        parse(Source(text), diagnostics=found)
    except ArchcError as failure:
        found = Diagnostics(list(failure.diagnostics))
    return [(d.code, d.span.text if d.span else "", d.help) for d in found]


@pytest.mark.parametrize(
    ("statement", "code", "place", "row"),
    [
        ("if n > 1 { z = x } elif n > 2 { z = x } else { z = x }", "syntax-error", "elif", ("KEYWORDS", "elif")),
        ("return x", "syntax-error", "return", ("KEYWORDS", "return")),
        ("pass", "syntax-error", "pass", ("KEYWORDS", "pass")),
        ("def f(x):", "syntax-error", "def", ("KEYWORDS", "def")),
        ("class Net(Base):", "syntax-error", "class", ("KEYWORDS", "class")),
        ("z = lambda a: a + 1", "syntax-error", "lambda", ("KEYWORDS", "lambda")),
        ("self.fc = x -> linear(3)", "syntax-error", "self", ("KEYWORDS", "self")),
        ("z = x -> self.fc", "unknown-name", "self.fc", ("NAMES", "self")),
        ("z = x => relu", "syntax-error", "=>", ("SYMBOLS", "=>")),
        ("output z = x => relu", "syntax-error", "=>", ("SYMBOLS", "=>")),
        ("z += x", "syntax-error", "+=", ("SYMBOLS", "+=")),
        ("z := x", "syntax-error", ":=", ("SYMBOLS", ":=")),
        ("z = x -> linear(**kwargs)", "syntax-error", "**", ("SYMBOLS", "**")),
        ("z = x -> linear(*args)", "syntax-error", "*", ("SYMBOLS", "*")),
        ("z = x -> relu;", "invalid-character", ";", ("SYMBOLS", ";")),
        ("// the output isn't “x”", "foreign-comment", "//", ("SYMBOLS", "//")),
        ("z = x -> relu // the input", "foreign-comment", "//", ("SYMBOLS", "//")),
        ("z = x -> linear(8, // for\n bias = false)", "foreign-comment", "//", ("SYMBOLS", "//")),
        ("// the one\n // the other\n // for", "foreign-comment", "//", ("SYMBOLS", "//")),
        ("z = x /* one\n for */ -> relu", "foreign-comment", "/*", ("SYMBOLS", "/*")),
        ("z = x |> relu", "invalid-character", "|>", ("SYMBOLS", "|>")),
        ("let b = n > 1 & n < 3\n output q = x -> linear(8, bias = b)", "invalid-character", "&", ("SYMBOLS", "&")),
        ("let b = n > 1 || n < 3\n output q = x -> linear(8, bias = b)", "invalid-character", "||", ("SYMBOLS", "||")),
        ("if n is 3 { z = x }", "syntax-error", "is", ("KEYWORDS", "is")),
        ("z = x -> hswish", "unknown-operator", "hswish", ("OPERATORS", "hswish")),
        ("z = x -> BCELoss", "unknown-operator", "BCELoss", ("OPERATORS", "adam")),
        ("z = x -> nn.CTCLoss()", "unknown-name", "nn.CTCLoss", ("OPERATORS", "adam")),
        ("z = x -> flip(1)", "unknown-operator", "flip", ("OPERATORS", "flip")),
        ("z = x.flip(1)", "no-member", "x.flip", ("OPERATORS", "flip")),
        ("z = x[:, 3:0:-1]", "bad-attribute", "3:0:-1", ("OPERATORS", "flip")),
        ("z = x -> roll(1)", "unknown-operator", "roll", ("OPERATORS", "roll")),
        ("let f = False", "unknown-name", "False", ("NAMES", "False")),
        ("let f = None", "unknown-name", "None", ("NAMES", "None")),
        ("for i in range(3) { z = x }", "unknown-name", "range", ("NAMES", "range")),
        ("z = x -> dense(128)", "unknown-operator", "dense", ("OPERATORS", "dense")),
        ("z = x -> Dense(128)", "unknown-operator", "Dense", ("OPERATORS", "dense")),
        ("z = x -> fc(128)", "unknown-operator", "fc", ("OPERATORS", "fc")),
        ("z = x -> conv(128, 3)", "unknown-operator", "conv", ("OPERATORS", "conv")),
        ("z = x -> nn.Sequential(3)", "unknown-name", "nn.Sequential", ("OPERATORS", "sequential")),
        ("z = x -> tf.keras.layers.MaxPooling2D(2)", "unknown-name", None, ("OPERATORS", "max_pooling2d")),
        ("z = x -> BatchNorm2d", "unknown-operator", "BatchNorm2d", ("OPERATORS", "batch_norm2d")),
        ("z = x -> GlobalAvgPool", "unknown-operator", "GlobalAvgPool", ("OPERATORS", "global_avg_pool")),
        ("z = x -> cumsum(1)", "unknown-operator", "cumsum", ("OPERATORS", "cumsum")),
        ("z = x.view(2, 4)", "no-member", "x.view", ("OPERATORS", "view")),
        ("let s = x.shape", "no-member", "x.shape", ("OPERATORS", "shape")),
        ("z = torch.cat((x, x), 1)", "unknown-name", "torch.cat", ("OPERATORS", "cat")),
        ("z = concatenate((x, x))", "unknown-name", "concatenate", ("OPERATORS", "concatenate")),
        ("z = np.einsum(x)", "unknown-name", "np.einsum", ("OPERATORS", "einsum")),
        ('z = x -> linear(8, activation = "relu")', "unknown-attribute", None, ("ATTRIBUTES", "activation")),
    ],
)
def test_a_mistake_is_answered_from_the_table(
    statement: str, code: str, place: str | None, row: tuple[str, str]
) -> None:
    (mistake,) = told(statement)
    assert mistake[0] == code
    assert place is None or mistake[1] == place
    assert mistake[2] == getattr(foreign_words, row[0])[row[1]]


@pytest.mark.parametrize(
    ("statement", "way"),
    [
        ("z = x → relu", "write `->`"),
        ("if n ≥ 3 { z = x }", "write `>=`"),
        ("z = x -> nn.ReLU()", "write `relu`, for example `x -> relu`"),
        ("z = F.relu(x)", "write `relu`, for example `x -> relu`"),
        ("z = x.relu()", "write `relu`, for example `x -> relu`"),
        ("z = x -> Linear(8)", "write `linear`, for example `x -> fc1: linear(128)`"),
        ("z = x -> cast(torch.float32)", "write `f32`"),
        ("z = x -> cast(half)", "write `f16`"),
        ('z = x -> cast("float32")', "write `f32`"),
        ('z = zeros((2,), dtype = "torch.int64")', "write `i64`"),
        ('z = x -> cast("f16")', "write `f16`"),
        ("input z: torch.float32[N]", "write `f32`"),
        ("input z: np.int64[N]", "write `i64`"),
        ("input z: double[N]", "write `f64`"),
        ("z = x -> softmax(axis = 1)", "write `dim`"),
        ("z = x -> linear(units = 8)", "write `out_features`"),
        ("Output z = x", "write `output`"),
        ("input z: f32[N],", "statements need no separator"),
        ("input z: f32[None, 8]", foreign_words.OPEN_SIZE),
        ("input z: f32[2 * null, 8]", foreign_words.OPEN_SIZE),
        ("input z: f32[?, 8]", foreign_words.OPEN_SIZE),
        ("input z: f32[-1, 8]", foreign_words.OPEN_SIZE),
        ("z = x[:, None]", "write `x -> unsqueeze(1)`"),
        ("z = x[None]", "write `x -> unsqueeze(0)`"),
        ("z = x[..., None]", "write `x -> unsqueeze(-1)`"),
        ("z = x[:, np.newaxis]", "write `x -> unsqueeze(1)`"),
        ("z = x[N]", "indices start at 0; the last one is `-1`"),
        ("for i in n { z = x }", "write `for i in 0..n { ... }`"),
        ("for i in 0..N { z = x }", SCAN),
        ("for i in x { z = x }", SCAN),
        ("a, b = x -> chunk(4, 1)", "give 4 names; one that begins with `_` may stay unused"),
        (
            "a, b = x -> unsqueeze(1) -> lstm(8)",
            "write `return_state = true` in the parentheses of `lstm`, which gives 3 tensors",
        ),
        ("a, b = x -> unsqueeze(1) -> gru(8)", "write `return_state = true` in the parentheses of `gru`"),
        ("z = linear(10)(x)", "a tensor flows into it: `x -> linear(10)`"),
        ("for i in 0..3:", "a body is between braces, `{` and `}`"),
    ],
)
def test_names_that_differ_in_little_are_answered_by_the_operator(statement: str, way: str) -> None:
    assert [mistake[2] for mistake in told(statement)] == [way]


@pytest.mark.parametrize(
    ("statement", "way"),
    [
        ('"""doc"""', syntax_hints.COMMENT),
        ('z = x -> "relu"', syntax_hints.QUOTED),
        ("z = x -> fc{n}: linear(8)", syntax_hints.NUMBERED),
        ('z = x -> f"fc{n}": linear(8)', syntax_hints.NUMBERED),
        ("input q: f32[N, 8], z = x -> relu", foreign_words.SYMBOLS[";"]),
        ("input q (f32, 3)", syntax_hints.INPUT),
        ("input q: f32(N, 8)", syntax_hints.INPUT),
        ("input q: f32<N, 8>", syntax_hints.INPUT),
        ("input q: f32[*, 8]", syntax_hints.INPUT),
        ("input q: [N, 8]", syntax_hints.INPUT),
        ("input q = f32[N, 8]", syntax_hints.INPUT),
        ("input q, r: f32[N, 8]", syntax_hints.INPUT),
        ("input q: f32[..., 8]", foreign_words.OPEN_SIZE),
        ("output: x", syntax_hints.OUTPUT),
        ("output y: x", syntax_hints.OUTPUT),
        ("output x, x", syntax_hints.OUTPUTS),
        ("layer fc1: linear(3)", syntax_hints.LAYER),
        ("layer fc1 = linear 3", syntax_hints.LAYER),
        ("fc1: linear(3)", syntax_hints.LABEL),
        ("z = x -> fc1 = linear(3)", syntax_hints.LABEL),
        ("z = x -> linear 3", syntax_hints.ATTRIBUTES),
        ("z = x -> relu, tanh", syntax_hints.TUPLE),
        ("z = x -> [relu, tanh]", syntax_hints.STAGE),
        ("z = x -> relu * 3", syntax_hints.CHAIN),
        ("z = x -> relu == x", syntax_hints.CHAIN),
        ("z = x * .5", syntax_hints.POINT),
        ("z = x * 1.", syntax_hints.POINT),
        ("z = +x", syntax_hints.PLUS),
        ("for (i = 0) { z = x }", syntax_hints.FOR),
        ("for i in 0...3 { z = x }", syntax_hints.RANGE),
        ("if n == 3 { z = x } else z = x", syntax_hints.BODY),
        ("z = x % 2", foreign_words.OPERATORS["remainder"]),
        ("z = x // 2", foreign_words.OPERATORS["floor_divide"]),
        ("let d = len(x)", foreign_words.OPERATORS["len"]),
        ("z = x.half()", "a cast is a stage: `x -> cast(f16)`"),
        ("z = x -> half", "a cast is a stage: `x -> cast(f16)`"),
        ("z = x -> float", "a cast is a stage: `x -> cast(f32)`"),
        ("z = x -> long", "a cast is a stage: `x -> cast(i64)`"),
        ("z = x.t()", foreign_words.TRANSPOSE),
        ("z = x.T", foreign_words.TRANSPOSE),
        ("z = x -> linear(10).relu()", syntax_hints.METHOD),
        ("z = (x -> linear(10).relu())", syntax_hints.METHOD),
        ("z = x -> fc: linear(10).relu()", syntax_hints.METHOD),
        ("z = x -> reverse", foreign_words.OPERATORS["reverse"]),
        ("z = x -> expand_dims(x)", foreign_words.OPERATORS["expand_dims"]),
        ("z = x[:, [0, 1]]", "write `(x, index) -> index_select(1)`, with the places in a vector"),
        ("z = x -> linear[3]", "attributes go in parentheses: `x -> linear(...)`"),
        ("z = x -> pad(1)", "a tuple has parentheses of its own: `(1, 1)`"),
    ],
)
def test_the_statement_tells_what_was_meant(statement: str, way: str) -> None:
    assert [mistake[2] for mistake in told(statement)] == [way]


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("model m:\n    input x: f32[N, 8]\n    output y = x -> relu\n", "syntax-error", ":"),
        ("Model m { input x: f32[N]  output x -> relu }", "syntax-error", "Model"),
        ("import torch\nmodel m { input x: f32[N]  output x -> relu }", "syntax-error", "torch"),
        ("from torch import nn\nmodel m { input x: f32[N]  output x -> relu }", "syntax-error", "from"),
        ("// a comment: model input\nmodel m { input x: f32[N]  output x -> relu }", "foreign-comment", "//"),
        ("class Net(nn.Module):\n    def f(self, x):\n        return F.relu(x)\n", "syntax-error", "class"),
    ],
)
def test_a_whole_text_of_another_language_is_one_mistake(text: str, code: str, place: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse(text)
    (mistake,) = failure.value.diagnostics
    assert (mistake.code, mistake.span and mistake.span.text) == (code, place)
    assert mistake.help is not None


_BODY = "{ input x: f32[N, 8]  output y = x -> relu }"
_BLOCK = "block B { input x: f32[N, D]  output x -> relu }\n"


@pytest.mark.parametrize(
    ("text", "way"),
    [
        (f"model {_BODY}", syntax_hints.HEAD),
        (f'model "net" {_BODY}', syntax_hints.HEAD),
        (f"model my-net {_BODY}", syntax_hints.HEAD),
        (f"model net = {_BODY}", syntax_hints.HEAD),
        (f"model net(n: int = 3) {_BODY}", syntax_hints.HEAD),
        (f"model net<n = 3> {_BODY}", syntax_hints.HEAD),
        (f"pipeline p = fold, quant\nmodel net {_BODY}", syntax_hints.PIPELINE),
        (f'import "std/attention"\nmodel net {_BODY}', "the names of files end in `.arch`: `std/attention.arch`"),
        (_BLOCK + "model m { input x: f32[N, 8]  output B(x) }", "tensors flow along arrows, .*: `x -> B`"),
        (
            "block B(x) { output x -> relu }\nmodel m { input x: f32[N, 8]  output x -> B }",
            r"give one: `B\(x = ...\)`, or a default; what it receives is an `input x` in its body",
        ),
        (_BLOCK + "model m { output B }", "let a tensor flow through it: `x -> B`"),
        (_BLOCK + "model m { input x: f32[N, 8]  output B() }", "a tensor flows into it: `x -> B`"),
        ("model m { input x: f32[N, 8]  layer fc = linear(3)  output fc(x) }", "a tensor flows into it: `x -> fc`"),
        ("model m { input x: f32[N, 8]  if x > 0 { y = x }  output x }", "`if` decides when .* -> where`"),
        ("model m { input x: f32[N, 8]  output x -> linear(N) }", "`N` is known only when .*"),
    ],
)
def test_definitions_and_their_use_are_answered_by_what_was_meant(text: str, way: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse(Source(text))
    helps = [mistake.help or "" for mistake in failure.value.diagnostics if mistake.severity == "error"]
    assert helps == [way] or (len(helps) == 1 and re.fullmatch(way, helps[0]))


def test_the_users_own_names_precede_the_table() -> None:
    block = "block Dens { input x output x -> relu }\n"
    assert [mistake[2] for mistake in told("z = x -> Dense", before=block)] == ["did you mean `Dens`?"]
    assert [mistake[2] for mistake in told("z = x -> Dense(3)")] == [foreign_words.OPERATORS["dense"]]
    for name in ("dense", "cumsum"):
        assert {code for code, _, _ in told(f"{name} = x -> relu\n output {name}")} <= {"unused-value"}


def test_a_division_by_an_unknown_name_is_no_comment() -> None:
    assert [mistake[0] for mistake in told("let z = n // 2 oops")] == ["syntax-error"]
    assert told("output z = x -> linear(n\n // n)") == []


def test_the_tables_import_nothing() -> None:
    code = "import sys, archc.language.foreign_words; sys.exit(bool({'torch', 'numpy', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
