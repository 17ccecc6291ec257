"""Trees of valid texts."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest
from lark import Lark

from archc.diagnostics import Diagnostics, Source, Span
from archc.language.syntax import tables, tree
from archc.language.syntax.parser import parse, parse_pipeline, parse_value
from archc.language.syntax.tree_builder import TreeBuilder
from archc.language.syntax.unparse import expression_text
from tests.language.syntax.trees import parsed, plain, value_of


def nested(expression: tree.Expression) -> str:
    """Text of an expression with parentheses around each operator."""
    match expression:
        case tree.BinaryExpression():
            return f"({nested(expression.left)} {expression.operator} {nested(expression.right)})"
        case tree.UnaryExpression():
            return f"({expression.operator} {nested(expression.operand)})"
        case tree.Chain():
            return f"({nested(expression.source)} -> {' -> '.join(s.span.text for s in expression.steps)})"
        case tree.RangeExpression():
            return f"({nested(expression.start)} .. {nested(expression.stop)})"
        case _:
            return expression_text(expression)


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b -> relu", "((a + b) -> relu)"),
        ("a + (b -> relu)", "(a + (b -> relu))"),
        ("x -> f -> g(1)", "(x -> f -> g(1))"),
        ("a or b -> f", "((a or b) -> f)"),
        ("a or b and not c == d", "(a or (b and (not (c == d))))"),
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a // b % c * d", "(((a // b) % c) * d)"),
        ("-a ** -b", "(- (a ** (- b)))"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("-a * b", "((- a) * b)"),
        ("- -a", "(- (- a))"),
        ("0..a + 1", "(0 .. (a + 1))"),
        ("a < b + 1", "(a < (b + 1))"),
    ],
)
def test_precedence_is_that_of_python_and_arrows_bind_loosest(text: str, grouped: str) -> None:
    assert nested(value_of(text)) == grouped


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("0", 0, None),
        ("1_000", 1000, None),
        ("9223372036854775807", 2**63 - 1, None),
        ("0.5", 0.5, None),
        ("1e-5", 1e-5, None),
        ("2.5E3", 2500.0, None),
        ("50GB/s", 50, "GB/s"),
        ("16GiB", 16, "GiB"),
        ("10us", 10, "us"),
        ("0.5ms", 0.5, "ms"),
    ],
)
def test_numbers(text: str, value: float, unit: str | None) -> None:
    number = value_of(text)
    assert isinstance(number, tree.Number)
    assert (number.value, type(number.value), number.unit) == (value, type(value), unit)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a b"', "a b"),
        ("'\"it\"'", '"it"'),
        (r'"\n\t\\\"\'"', "\n\t\\\"'"),
        (r'"\u{1F600}\u{41}"', "\U0001f600A"),
        ('"# no comment"', "# no comment"),
        ('"{"', "{"),
        ('""', ""),
    ],
)
def test_strings(text: str, value: str) -> None:
    string = value_of(text)
    assert isinstance(string, tree.String)
    assert string.value == value


def test_statements_need_no_separator() -> None:
    one_line = "model m { input x y = x -> f z, w = y let n = 3 layer l[n] = a.b(1) if n > 2 { } output z }"
    many_lines = one_line.replace(" ", "\n")
    assert plain(parsed(one_line)) == plain(parsed(many_lines))
    kinds = [type(statement).__name__ for statement in parsed(one_line).items[0].body]
    assert kinds == ["Input", "Assign", "Assign", "Let", "LayerStatement", "If", "Output"]


def test_devices_on_one_line() -> None:
    (devices,) = parsed("devices box { a = cuda(0)   b = cuda(1)   link a <-> b = 50GB/s }").items
    assert isinstance(devices, tree.DevicesStatement)
    assert [type(item).__name__ for item in devices.items] == ["Assign", "Assign", "LinkStatement"]


def test_else_if_is_an_if_within_the_other_branch() -> None:
    (definition,) = parsed("model m { if a { } else if b { x = 1 } else { y = 2 } }").items
    (outer,) = definition.body
    (inner,) = outer.otherwise
    assert isinstance(inner, tree.If)
    assert [statement.targets[0].name for statement in (*inner.body, *inner.otherwise)] == ["x", "y"]


def test_steps_with_labels_indices_and_slices() -> None:
    chain = value_of("x -> h[i].a: att.Block(2:4, on = [1, 2]) -> relu() -> relu -> h[0].a")
    assert isinstance(chain, tree.Chain)
    block, called, bare, again = chain.steps
    assert block.label is not None
    index, field = block.label.parts
    assert block.label.name == "h"
    assert isinstance(index, tree.Name)
    assert isinstance(field, tree.Field)
    assert (index.name, field.name) == ("i", "a")
    assert isinstance(block.callee, tree.MemberExpression)
    assert isinstance(block.arguments[0].value, tree.SliceExpression)
    assert (called.called, bare.called) == (True, False)
    assert again.label is None
    assert expression_text(again.callee) == "h[0].a"


def test_types() -> None:
    (definition,) = parsed("model m { input x: f32[N, T <= context, 2*D] input y: f32[] input z }").items
    x, y, z = definition.body
    assert [dim.bound is not None for dim in x.type.dims] == [False, True, False]
    assert y.type.dims == ()
    assert z.type is None


def test_spans_are_those_of_the_text() -> None:
    source = Source("model m {\n  y = (a + b) -> c1: conv(3)  # end\n}\n")
    file = parse(source, Diagnostics())
    (definition,) = file.items
    assert definition.span == Span(source, 0, len(source.text) - 1)
    (assign,) = definition.body
    assert assign.span.text == "y = (a + b) -> c1: conv(3)"
    assert assign.targets[0].span.text == "y"
    assert assign.value.source.span.text == "(a + b)"
    assert assign.value.source.left.span.text == "a"
    (step,) = assign.value.steps
    assert [step.span.text, step.label.span.text, step.callee.span.text] == ["c1: conv(3)", "c1", "conv"]
    assert [comment.text for comment in file.comments] == ["# end"]
    assert (assign.span.line, assign.span.column) == (2, 3)


def test_the_comment_right_above_a_definition_documents_it() -> None:
    text = "# licence\n\n# One.\n#  Two.\n#\nmodel a { }  # after\nblock b { }\n# far\n\nblock c { }"
    assert [item.doc for item in parsed(text).items] == ["One.\n Two.\n", "", ""]
    assert [comment.own_line for comment in parsed(text).comments] == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    "text", ["lowrank(energy=0.95, on='fc*'), quant(int8)", "lowrank(energy=0.95, on='fc*') -> quant(int8)"]
)
def test_pipelines_of_the_command_line(text: str) -> None:
    diagnostics = Diagnostics()
    steps = parse_pipeline(Source(text), diagnostics)
    assert [step.callee.name for step in steps if isinstance(step.callee, tree.Name)] == ["lowrank", "quant"]
    assert [argument.name for argument in steps[0].arguments] == ["energy", "on"]
    assert not diagnostics.found


def test_values_of_the_command_line() -> None:
    diagnostics = Diagnostics()
    assert plain(parse_value(Source("-3 * 2"), diagnostics)) == plain(value_of("-3 * 2"))
    assert not diagnostics.found


def test_long_texts_do_not_recurse() -> None:
    terms = 20_000
    value = value_of(" + ".join(["a"] * terms))
    count = 1
    while isinstance(value, tree.BinaryExpression):
        value, count = value.left, count + 1
    assert count == terms
    chain = value_of("x" + " -> f" * terms)
    assert isinstance(chain, tree.Chain)
    assert len(chain.steps) == terms


def test_the_garbage_collector_runs_again_after_a_parse() -> None:
    assert gc.isenabled()
    parsed("model m { }")
    parse(Source("model ("), Diagnostics())
    assert gc.isenabled()


def test_the_tables_on_disk_are_those_of_the_grammar() -> None:
    stored = json.loads(tables._TABLES.read_text("utf-8"))
    made = json.loads(tables.make_tables())
    assert stored["fingerprint"] == made["fingerprint"], "run `python -m archc.language.syntax.tables`"
    loaded, built = tables.load_grammar(TreeBuilder()), tables._build(tables._GRAMMAR.read_text("utf-8"), None)
    assert isinstance(loaded, Lark)
    rules = [{str(rule) for rule in machine.rules} for machine in (loaded, built)]
    assert rules[0] == rules[1]


def test_parsing_imports_no_heavy_library() -> None:
    code = (
        "import sys; import archc.language.syntax.formatter, archc.language.elaboration.loading;"
        "print([m for m in ('torch', 'onnx', 'numpy', 'rich', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
