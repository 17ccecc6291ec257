"""Code in other languages: the diagnostic of each statement, and the text to write instead."""

from __future__ import annotations

import re

import pytest

from archc.compiler import parse
from archc.diagnostics import ArchcError, Diagnostic, Source
from archc.language.elaboration.expressions import SCAN_HELP
from archc.language.syntax import syntax_hints
from archc.language.syntax.foreign_names import ATTRIBUTES, NAMES, OPEN_SIZE
from archc.language.syntax.foreign_operators import OPERATORS, TRANSPOSE
from archc.language.syntax.foreign_syntax import KEYWORDS, SYMBOLS
from tests.language.syntax.statement_diagnostics import diagnose


@pytest.mark.parametrize(
    ("statement", "code", "place", "row"),
    [
        (
            "if n > 1 { z = x } elif n > 2 { z = x } else { z = x }",
            "syntax-error",
            "elif",
            (KEYWORDS, "elif"),
        ),
        ("return x", "syntax-error", "return", (KEYWORDS, "return")),
        ("pass", "syntax-error", "pass", (KEYWORDS, "pass")),
        ("def f(x):", "syntax-error", "def", (KEYWORDS, "def")),
        ("class Net(Base):", "syntax-error", "class", (KEYWORDS, "class")),
        ("z = lambda a: a + 1", "syntax-error", "lambda", (KEYWORDS, "lambda")),
        ("self.fc = x -> linear(3)", "syntax-error", "self", (KEYWORDS, "self")),
        ("z = x -> self.fc", "unknown-name", "self.fc", (NAMES, "self")),
        ("z = x => relu", "syntax-error", "=>", (SYMBOLS, "=>")),
        ("output z = x => relu", "syntax-error", "=>", (SYMBOLS, "=>")),
        ("z += x", "syntax-error", "+=", (SYMBOLS, "+=")),
        ("z := x", "syntax-error", ":=", (SYMBOLS, ":=")),
        ("z = x -> linear(**kwargs)", "syntax-error", "**", (SYMBOLS, "**")),
        ("z = x -> linear(*args)", "syntax-error", "*", (SYMBOLS, "*")),
        ("z = x -> relu;", "invalid-character", ";", (SYMBOLS, ";")),
        ("// the output isn't “x”", "foreign-comment", "//", (SYMBOLS, "//")),
        ("z = x -> relu // the input", "foreign-comment", "//", (SYMBOLS, "//")),
        ("z = x -> linear(8, // for\n bias = false)", "foreign-comment", "//", (SYMBOLS, "//")),
        ("// the one\n // the other\n // for", "foreign-comment", "//", (SYMBOLS, "//")),
        ("z = x /* one\n for */ -> relu", "foreign-comment", "/*", (SYMBOLS, "/*")),
        ("z = x |> relu", "invalid-character", "|>", (SYMBOLS, "|>")),
        (
            "let b = n > 1 & n < 3\n output q = x -> linear(8, bias = b)",
            "invalid-character",
            "&",
            (SYMBOLS, "&"),
        ),
        (
            "let b = n > 1 || n < 3\n output q = x -> linear(8, bias = b)",
            "invalid-character",
            "||",
            (SYMBOLS, "||"),
        ),
        ("if n is 3 { z = x }", "syntax-error", "is", (KEYWORDS, "is")),
        ("z = x -> hswish", "unknown-operator", "hswish", (OPERATORS, "hswish")),
        ("z = x -> BCELoss", "unknown-operator", "BCELoss", (OPERATORS, "adam")),
        ("z = x -> nn.CTCLoss()", "unknown-name", "nn.CTCLoss", (OPERATORS, "adam")),
        ("z = x -> flip(1)", "unknown-operator", "flip", (OPERATORS, "flip")),
        ("z = x.flip(1)", "no-member", "x.flip", (OPERATORS, "flip")),
        ("z = x[:, 3:0:-1]", "bad-attribute", "3:0:-1", (OPERATORS, "flip")),
        ("z = x -> roll(1)", "unknown-operator", "roll", (OPERATORS, "roll")),
        ("let f = False", "unknown-name", "False", (NAMES, "False")),
        ("let f = None", "unknown-name", "None", (NAMES, "None")),
        ("for i in range(3) { z = x }", "unknown-name", "range", (NAMES, "range")),
        ("z = x -> dense(128)", "unknown-operator", "dense", (OPERATORS, "dense")),
        ("z = x -> Dense(128)", "unknown-operator", "Dense", (OPERATORS, "dense")),
        ("z = x -> fc(128)", "unknown-operator", "fc", (OPERATORS, "fc")),
        ("z = x -> conv(128, 3)", "unknown-operator", "conv", (OPERATORS, "conv")),
        ("z = x -> nn.Sequential(3)", "unknown-name", "nn.Sequential", (OPERATORS, "sequential")),
        (
            "z = x -> tf.keras.layers.MaxPooling2D(2)",
            "unknown-name",
            None,
            (OPERATORS, "max_pooling2d"),
        ),
        ("z = x -> BatchNorm2d", "unknown-operator", "BatchNorm2d", (OPERATORS, "batch_norm2d")),
        (
            "z = x -> GlobalAvgPool",
            "unknown-operator",
            "GlobalAvgPool",
            (OPERATORS, "global_avg_pool"),
        ),
        ("z = x -> cumsum(1)", "unknown-operator", "cumsum", (OPERATORS, "cumsum")),
        ("z = x.view(2, 4)", "no-member", "x.view", (OPERATORS, "view")),
        ("let s = x.shape", "no-member", "x.shape", (OPERATORS, "shape")),
        ("z = torch.cat((x, x), 1)", "unknown-name", "torch.cat", (OPERATORS, "cat")),
        ("z = concatenate((x, x))", "unknown-name", "concatenate", (OPERATORS, "concatenate")),
        ("z = np.einsum(x)", "unknown-name", "np.einsum", (OPERATORS, "einsum")),
        (
            'z = x -> linear(8, activation = "relu")',
            "unknown-attribute",
            None,
            (ATTRIBUTES, "activation"),
        ),
    ],
)
def test_a_mistake_is_answered_from_the_table(
    statement: str, code: str, place: str | None, row: tuple[dict[str, str], str]
) -> None:
    (mistake,) = diagnose(statement)
    assert mistake[0] == code
    assert place is None or mistake[1] == place
    assert mistake[2] == row[0][row[1]]


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
        ("input z: f32[N],", "leave it out; statements need no separator"),
        ("input z: f32[None, 8]", OPEN_SIZE),
        ("input z: f32[2 * null, 8]", OPEN_SIZE),
        ("input z: f32[?, 8]", OPEN_SIZE),
        ("input z: f32[-1, 8]", OPEN_SIZE),
        ("z = x[:, None]", "write `x -> unsqueeze(1)`"),
        ("z = x[None]", "write `x -> unsqueeze(0)`"),
        ("z = x[..., None]", "write `x -> unsqueeze(-1)`"),
        ("z = x[:, np.newaxis]", "write `x -> unsqueeze(1)`"),
        ("z = x[N]", "indices start at 0; the last one is `-1`"),
        ("for i in n { z = x }", "write `for i in 0..n { ... }`"),
        ("for i in 0..N { z = x }", SCAN_HELP),
        ("for i in x { z = x }", SCAN_HELP),
        ("a, b = x -> chunk(4, 1)", "write 4 names; a name that begins with `_` can be unused"),
        (
            "a, b = x -> unsqueeze(1) -> lstm(8)",
            "write `return_state = true` in the parentheses of `lstm`, for 3 results",
        ),
        ("a, b = x -> unsqueeze(1) -> gru(8)", "write `return_state = true` in the parentheses of `gru`"),
        ("z = linear(10)(x)", "write `x -> linear(10)`"),
        ("for i in 0..3:", "write the body between braces, `{` and `}`"),
    ],
)
def test_names_that_differ_in_little_are_answered_by_the_operator(statement: str, way: str) -> None:
    assert [mistake[2] for mistake in diagnose(statement)] == [way]


@pytest.mark.parametrize(
    ("statement", "way"),
    [
        ('"""doc"""', syntax_hints.COMMENT),
        ('z = x -> "relu"', syntax_hints.QUOTED),
        ("z = x -> fc{n}: linear(8)", syntax_hints.NUMBERED),
        ('z = x -> f"fc{n}": linear(8)', syntax_hints.NUMBERED),
        ("input q: f32[N, 8], z = x -> relu", SYMBOLS[";"]),
        ("input q (f32, 3)", syntax_hints.INPUT),
        ("input q: f32(N, 8)", syntax_hints.INPUT),
        ("input q: f32<N, 8>", syntax_hints.INPUT),
        ("input q: f32[*, 8]", syntax_hints.INPUT),
        ("input q: [N, 8]", syntax_hints.INPUT),
        ("input q = f32[N, 8]", syntax_hints.INPUT),
        ("input q, r: f32[N, 8]", syntax_hints.INPUT),
        ("input q: f32[..., 8]", OPEN_SIZE),
        ("output: x", syntax_hints.OUTPUT),
        ("output y: x", syntax_hints.OUTPUT),
        ("output x, x", syntax_hints.OUTPUTS),
        ("layer fc1: linear(3)", syntax_hints.LAYER),
        ("layer fc1 = linear 3", syntax_hints.LAYER),
        ("fc1: linear(3)", syntax_hints.LABEL),
        ("z = x -> fc1 = linear(3)", syntax_hints.LABEL),
        ("z = x -> linear 3", syntax_hints.ATTRIBUTES),
        ("z = x -> relu, tanh", syntax_hints.TUPLE),
        ("z = x -> [relu, tanh]", syntax_hints.STEP),
        ("z = x -> relu * 3", syntax_hints.CHAIN),
        ("z = x -> relu == x", syntax_hints.CHAIN),
        ("z = x * .5", syntax_hints.POINT),
        ("z = x * 1.", syntax_hints.POINT),
        ("z = +x", syntax_hints.PLUS),
        ("for (i = 0) { z = x }", syntax_hints.FOR),
        ("for i in 0...3 { z = x }", syntax_hints.RANGE),
        ("if n == 3 { z = x } else z = x", syntax_hints.BODY),
        ("z = x % 2", OPERATORS["remainder"]),
        ("z = x // 2", OPERATORS["floor_divide"]),
        ("let d = len(x)", OPERATORS["len"]),
        ("z = x.half()", "write `x -> cast(f16)`"),
        ("z = x -> half", "write `x -> cast(f16)`"),
        ("z = x -> float", "write `x -> cast(f32)`"),
        ("z = x -> long", "write `x -> cast(i64)`"),
        ("z = x.t()", TRANSPOSE),
        ("z = x.T", TRANSPOSE),
        ("z = x -> linear(10).relu()", syntax_hints.METHOD),
        ("z = (x -> linear(10).relu())", syntax_hints.METHOD),
        ("z = x -> fc: linear(10).relu()", syntax_hints.METHOD),
        ("z = x -> reverse", OPERATORS["reverse"]),
        ("z = x -> expand_dims(x)", OPERATORS["expand_dims"]),
        ("z = x[:, [0, 1]]", "write `(x, index) -> index_select(1)` with a vector of indices"),
        ("z = x -> linear[3]", "write attributes in parentheses: `x -> linear(...)`"),
        ("z = x -> pad(1)", "write a tuple: `(1, 1)`"),
        ("z = x -> permute(0)", "write a tuple: `(0,)`"),
    ],
)
def test_the_help_depends_on_the_statement(statement: str, way: str) -> None:
    assert [mistake[2] for mistake in diagnose(statement)] == [way]


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
        (f'import "std/attention"\nmodel net {_BODY}', "add the suffix: `std/attention.arch`"),
        (_BLOCK + "model m { input x: f32[N, 8]  output B(x) }", "pass a tensor to an input of the block: `x -> B`"),
        (
            "block B(x) { output x -> relu }\nmodel m { input x: f32[N, 8]  output x -> B }",
            r"give `B\(x = ...\)`, or a default; if it is a tensor, declare `input x` in the body",
        ),
        (_BLOCK + "model m { output B }", "apply it to a tensor: `x -> B`"),
        (_BLOCK + "model m { input x: f32[N, 8]  output B() }", "write `x -> B`"),
        ("model m { input x: f32[N, 8]  layer fc = linear(3)  output fc(x) }", "write `x -> fc`"),
        ("model m { input x: f32[N, 8]  if x > 0 { y = x }  output x }", "conditions are evaluated .* -> where` .*"),
        ("model m { input x: f32[N, 8]  output x -> linear(N) }", "`N` is known only when .*"),
    ],
)
def test_definitions_and_calls_of_other_languages(text: str, way: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse(Source(text))
    helps = [mistake.help or "" for mistake in failure.value.diagnostics if mistake.severity == "error"]
    assert helps == [way] or (len(helps) == 1 and re.fullmatch(way, helps[0]))


def test_the_users_own_names_precede_the_table() -> None:
    block = "block Dens { input x output x -> relu }\n"
    assert [mistake[2] for mistake in diagnose("z = x -> Dense", before=block)] == ["did you mean `Dens`?"]
    assert [mistake[2] for mistake in diagnose("z = x -> Dense(3)")] == [OPERATORS["dense"]]
    for name in ("dense", "cumsum"):
        assert {code for code, _, _ in diagnose(f"{name} = x -> relu\n output {name}")} <= {"unused-value"}


def test_a_division_by_an_unknown_name_is_no_comment() -> None:
    assert [mistake[0] for mistake in diagnose("let z = n // 2 oops")] == ["syntax-error"]
    assert diagnose("output z = x -> linear(n\n // n)") == []


TEXT = """model m {{
    input x: f32[N, 8]
    input y: f32[N, 8]
    input mask: bool[N, 8]
    input index: i64[N, 8]
    keys = ()
    {}
    output z = x -> relu
}}"""


def mistake_of(statement: str) -> Diagnostic:
    """Return the error of a statement with one error."""
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
    found = mistake_of(statement)
    assert found.span is not None and found.span.text == place
    assert re.findall("`([^`]+)`", found.help or "") == code
    for snippet in code:
        parse(Source(TEXT.format(snippet if " = " in snippet else f"output q = {snippet}")))


@pytest.mark.parametrize("target", ["(a, b)", "[a, b]", "(a, b, )", "a, (b)"])
@pytest.mark.parametrize("before", ["", "w = x -> relu\n"])
def test_names_of_several_results_have_no_brackets(target: str, before: str) -> None:
    found = mistake_of(f"{before}{target} = x -> chunk(2, dim = 1)")
    assert found.span is not None and found.span.text == target
    assert found.help == "write the names without brackets: `a, b = ...`"


@pytest.mark.parametrize("statement", ["x.relu()", "x.add_(y)", "x.foo(1)"])
def test_a_call_for_its_effect_is_told_to_name_its_result(statement: str) -> None:
    assert "assign the result to a name" in (mistake_of(statement).help or "")
