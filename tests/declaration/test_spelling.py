"""Parentheses in the PyTorch spelling of expressions."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.declaration.spelling import Infix, infix, method

TREE = st.recursive(
    st.sampled_from(["a", "b", "c"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", "<", "==", "&"]), inner),
    max_leaves=6,
)
Tree = str | tuple["Tree", str, "Tree"]


@given(TREE)
def test_parentheses_keep_the_meaning(tree: Tree) -> None:
    """Python parses the text back to the original tree."""

    def spelled(node: Tree) -> str:
        return node if isinstance(node, str) else infix(spelled(node[0]), node[1], spelled(node[2]))

    def fully(node: Tree) -> str:
        return node if isinstance(node, str) else f"({fully(node[0])} {node[1]} {fully(node[2])})"

    assert ast.dump(ast.parse(spelled(tree))) == ast.dump(ast.parse(fully(tree)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (infix(infix("a", "*", "b"), "+", infix("c", "/", "d")), "a * b + c / d"),
        (infix(infix("a", "+", "b"), "-", "c"), "a + b - c"),
        (infix("a", "+", infix("b", "+", "c")), "a + (b + c)"),
        (infix(infix("a", "+", "b"), "*", "c"), "(a + b) * c"),
        (infix(infix("a", "+", "b"), ">", "c"), "a + b > c"),
        (infix(infix("a", "<", "b"), "&", infix("b", "<", "c")), "(a < b) & (b < c)"),
        (infix("a", "*", Infix("-1")), "a * (-1)"),
        (infix(Infix("-a"), "**", "b"), "(-a) ** b"),
        (method(infix("a", "+", "b"), "flatten", 1), "(a + b).flatten(1)"),
    ],
)
def test_no_unnecessary_parentheses(text: str, expected: str) -> None:
    assert text == expected
