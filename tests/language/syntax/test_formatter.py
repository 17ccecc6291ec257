"""Formatter: it preserves the tree and the comments, and is idempotent."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from archc.diagnostics import Diagnostics, Source
from archc.language.syntax import tree
from archc.language.syntax.formatter import WIDTH, format
from archc.language.syntax.parser import _machine
from archc.language.syntax.unparse import expression_text, number_text, string_text
from tests.language.syntax.trees import KEYWORDS, SPAN, Drawn, drawn, expressions, files, parsed, plain, value_of

# Hypothesis draws constants of the imported modules too, so a seed gives other trees if other modules are imported.
# Shrinking is off because it takes minutes for trees of this size.
laws = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)


@given(drawn(files, format))
@laws
def test_parsing_a_formatted_tree_gives_the_tree_back(file: Drawn) -> None:
    text = format(file.tree)
    assert plain(parsed(text)) == plain(file.tree)
    assert format(parsed(text)) == text


@given(drawn(expressions, expression_text))
@laws
def test_parsing_an_expression_text_gives_the_expression_back(expression: Drawn) -> None:
    text = expression_text(expression.tree)
    assert "\n" not in text
    assert plain(value_of(text)) == plain(expression.tree)


@st.composite
def rewritten(draw: st.DrawFn) -> str:
    """Text of a random tree with random spaces, line breaks and comments between its tokens."""
    text = format(draw(files))
    words = [token.text for token in _machine().scanner.scan(Source(text), [], Diagnostics())]
    gaps = st.sampled_from([" "] * 6 + ["\n", "\n\n\n", " # c%d\n", "\n# c%d\n", "\n\n\n  # c%d\n\n\n"])
    pieces = [draw(gaps).replace("%d", str(i)) + word for i, word in enumerate(words)]
    return "".join(pieces)


@given(rewritten())
@laws
def test_formatting_keeps_meaning_and_comments_and_is_idempotent(text: str) -> None:
    file = parsed(text)
    formatted = format(file)
    again = parsed(formatted)
    assert plain(again) == plain(file)
    assert sorted(comment.text for comment in again.comments) == sorted(comment.text for comment in file.comments)
    assert format(again) == formatted
    assert "\n\n\n" not in formatted
    assert not any(line != line.rstrip() for line in formatted.split("\n"))


def canonical(text: str) -> str:
    return format(parsed(text))


def test_the_design_is_already_canonical() -> None:
    text = """\
# LeNet-style digit classifier.
model cnn(classes = 10) {
    input image: f32[N, 1, 28, 28]

    features = image
        -> conv1: conv2d(32, 3) -> relu -> max_pool2d(2)
        -> conv2: conv2d(64, 3) -> relu -> max_pool2d(2)

    output logits: f32[N, classes] = features -> flatten -> fc1: linear(128) -> relu -> fc2: linear(classes)
}

pipeline edge = lowrank(energy = 0.95, on = "fc*") -> quant(int8, keep = "fc2")

import "std/attention.arch" as att

block Block(heads, ff = 4, dropout = 0.1, causal = true) {
    input x: f32[B, T, D]
    assert D % heads == 0, "heads must divide the width"

    x = x + (x -> ln1: layer_norm -> attn: att.SelfAttention(heads, causal = causal) -> dropout(dropout))
    for i in 0..depth { x = x -> h[i]: Block(heads) }
    output x + (x -> ln2: layer_norm -> up: linear(ff * D) -> gelu -> down: linear(D) -> dropout(dropout))
}
"""
    assert canonical(text) == text


def test_every_place_of_a_comment() -> None:
    text = """
# top


# doc
model m( # head
   a = 1, b) { # opened
   # first


   # second
   input x: f32[N]   # after
   y = f(a, # inside
      b)
   z = x # source
     # between
     -> a # stage
     -> b
   if a > 3 { # if
     y = 3
     # end of if
   } else { # else
     # in else
     y = 4
   }
   # last
}
# after
import "x.arch"
# end"""
    assert (
        canonical(text)
        == """\
# top

# doc
model m(  # head
    a = 1,
    b,
) {  # opened
    # first

    # second
    input x: f32[N]  # after
    # inside
    y = f(a, b)
    z = x  # source
        # between
        -> a  # stage
        -> b
    if a > 3 {  # if
        y = 3
        # end of if
    } else {  # else
        # in else
        y = 4
    }
    # last
}

# after
import "x.arch"
# end
"""
    )


def test_a_chain_that_is_too_wide_is_broken_before_its_labelled_stages() -> None:
    stages = " -> ".join(f"layer_number_{i}: conv2d(32, 3) -> relu" for i in range(4))
    formatted = canonical("model m { y = x -> " + stages + " }")
    assert formatted == (
        "model m {\n    y = x\n"
        + "".join(f"        -> layer_number_{i}: conv2d(32, 3) -> relu\n" for i in range(4))
        + "}\n"
    )


def test_a_chain_without_labels_is_broken_before_every_stage() -> None:
    formatted = canonical("model m { y = x" + " -> convolution(123)" * 8 + " }")
    assert formatted == "model m {\n    y = x\n" + "        -> convolution(123)\n" * 8 + "}\n"


def test_a_sum_is_broken_too_if_breaking_its_chains_is_not_enough() -> None:
    long = "a" * 80
    formatted = canonical(f"model m {{ y = (x -> f({long}) -> g({long})) + h({long}) }}")
    assert formatted == (
        f"model m {{\n    y = (x\n        -> f({long})\n        -> g({long}))\n        + h({long})\n}}\n"
    )
    assert canonical(formatted) == formatted


def test_an_inner_chain_is_broken_only_if_the_outer_one_is_not_enough() -> None:
    formatted = canonical("model m { y = x + (x" + " -> convolution(123)" * 8 + ") }")
    assert formatted == "model m {\n    y = x + (x\n" + "        -> convolution(123)\n" * 7 + (
        "        -> convolution(123))\n}\n"
    )


def test_a_head_that_is_too_wide_has_one_attribute_a_line() -> None:
    attributes = [f"attribute_number_{i} = {i}" for i in range(8)]
    formatted = canonical(f"model m({', '.join(attributes)}) {{}}")
    assert formatted == "model m(\n" + "".join(f"    {attribute},\n" for attribute in attributes) + ") {}\n"
    assert all(len(line) <= WIDTH for line in formatted.split("\n"))


BRANCHES = """\
model m {
    # above
    y = (
        x -> a: conv2d(64, 1, bias = false) -> batch_norm -> relu,  # narrow
        # wide
        x -> b: conv2d(48, 1) -> relu -> c: conv2d(64, 5, padding = 2) -> relu,
        x -> max_pool2d(3, stride = 1, padding = 1),
        # no more
    ) -> concat(1)
}
"""


def test_a_tuple_of_branches_that_is_too_wide_has_one_a_line() -> None:
    on_one_line = " ".join(line.split("#")[0].strip() for line in BRANCHES.split("\n"))
    assert canonical(on_one_line) == "".join(
        line.split("  #")[0] + "\n" for line in BRANCHES.split("\n")[:-1] if not line.strip().startswith("#")
    )


def test_comments_stay_with_the_attributes_that_they_explain() -> None:
    text = """
model m(width = 3, # how wide
   # how often
   depth = [1, # once
   2], last = 5 # no comma
   # after all
   ) { # opened
   output 1
}
block b(short, list) { output short }"""
    assert (
        canonical(text)
        == """\
model m(
    width = 3,  # how wide
    # how often
    depth = [1, 2],  # once
    last = 5,  # no comma
    # after all
) {  # opened
    output 1
}

block b(short, list) {
    output short
}
"""
    )


def test_the_comments_between_branches_stay_where_they_are() -> None:
    assert canonical(BRANCHES) == BRANCHES


def test_branches_that_fit_are_on_one_line_unless_their_author_broke_them() -> None:
    narrow = "model m {\n    y = (x -> a: relu, x -> tanh) -> concat(1)\n}\n"
    assert canonical(narrow) == narrow
    broken = "model m {\n    y = (\n        x -> a: relu,\n        x -> tanh,\n    ) -> concat(1)\n}\n"
    assert canonical(broken) == broken


def test_only_the_branch_that_is_too_wide_is_broken() -> None:
    wide = " -> ".join(f"layer_number_{i}: conv2d(32, 3)" for i in range(4))
    formatted = canonical(f"model m {{ y = (x -> a: relu -> tanh, x -> {wide}) -> concat(1) -> relu }}")
    assert formatted == (
        "model m {\n    y = (\n        x -> a: relu -> tanh,\n        x\n"
        + "".join(f"            -> layer_number_{i}: conv2d(32, 3)\n" for i in range(4)).rstrip()
        + ",\n    ) -> concat(1) -> relu\n}\n"
    )


@pytest.mark.parametrize("head", ["    layer f = ", "    y = x\n        -> f: ", "    output "])
def test_a_call_that_is_too_wide_has_one_argument_a_line(head: str) -> None:
    arguments = [f"argument_number_{i} = {i}" for i in range(8)]
    margin = " " * (8 if "->" in head else 4)
    written = "".join(f"{margin}    {argument},\n" for argument in arguments)
    expected = f"model m {{\n{head}operator(\n{written}{margin})\n}}\n"
    assert canonical(f"model m {{\n{head}operator({', '.join(arguments)})\n}}\n") == expected
    assert canonical(expected) == expected


def test_a_derived_model_that_is_too_wide_has_one_attribute_a_line() -> None:
    attributes = [f"attribute_number_{i} = {i}" for i in range(8)]
    formatted = canonical(f"model m = base({', '.join(attributes)})")
    assert formatted == "model m = base(\n" + "".join(f"    {attribute},\n" for attribute in attributes) + ")\n"


def test_a_comment_within_a_derived_model_does_not_become_its_doc() -> None:
    formatted = canonical("# doc\nmodel m = base(  # why\n    a = 1)\n")
    assert formatted == "# why\n\n# doc\nmodel m = base(a = 1)\n"
    assert canonical(formatted) == formatted and parsed(formatted).items[0].doc == "doc"


def test_a_separate_comment_stays_separate_before_a_derived_model_with_comments() -> None:
    formatted = canonical("# apart\n\nmodel m = base(  # why\n    a = 1)\n")
    assert formatted == "# why\n\n# apart\n\nmodel m = base(a = 1)\n"
    assert canonical(formatted) == formatted and parsed(formatted).items[0].doc == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("((a))", "a"),
        ("(a+b)*c", "(a + b) * c"),
        ("a+(b*c)", "a + b * c"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "a - b - c"),
        ("(a**b)**c", "(a ** b) ** c"),
        ("a**(b**c)", "a ** b ** c"),
        ("-(a**b)", "-a ** b"),
        ("(-a)**b", "(-a) ** b"),
        ("(a<b)==c", "(a < b) == c"),
        ("not (a and b)", "not (a and b)"),
        ("(a or b) and c", "(a or b) and c"),
        ("x+(x->f)", "x + (x -> f)"),
        ("(x+x)->f", "x + x -> f"),
        ("(x->f)->g", "(x -> f) -> g"),
        ("x[:,1:-1,::2,...]", "x[:, 1:-1, ::2, ...]"),
        ("f(2:4,a=-1)()", "f(2:4, a = -1)()"),
        ("(a,)", "(a,)"),
        ("[1,2,]", "[1, 2]"),
        ("1_000_000", "1_000_000"),
        ("1E-05", "1e-5"),
        ("1.50", "1.5"),
        ("'it\\'s \"so\"'", '"it\'s \\"so\\""'),
    ],
)
def test_expressions_are_written_with_the_least_parentheses(text: str, expected: str) -> None:
    assert expression_text(value_of(text)) == expected


def test_numbers_in_trees_built_by_a_program() -> None:
    negative = tree.Number(SPAN, -2)
    assert expression_text(tree.BinaryExpression(SPAN, "**", negative, negative)) == "(-2) ** -2"
    assert number_text(tree.Number(SPAN, 1e22)) == "1e22"


def test_invisible_characters_are_escaped() -> None:
    assert string_text("a\x00\u202e\n") == '"a\\u{0}\\u{202e}\\n"'


def test_a_long_sum_is_written_without_recursion() -> None:
    text = " + ".join(["a"] * 20_000)
    assert expression_text(value_of(text)) == text


def test_the_keywords_of_the_tests_are_those_of_the_grammar() -> None:
    assert set(_machine().scanner.keywords) == KEYWORDS
