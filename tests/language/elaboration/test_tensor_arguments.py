"""Tensors as arguments of an operator: the suggested chain is valid and has all tensors."""

from __future__ import annotations

import re

import pytest

from archc.compiler import parse
from archc.diagnostics import ArchcError, Source

TEXT = """model m {{
    input x: f32[N, 8, 16]
    input y: f32[N, 8, 16]
    input mask: bool[8, 8]
    input ids: i64[N, 8]
    output z = {}
}}"""


def suggested(expression: str) -> list[str]:
    """Code in the help for the only mistake of an expression."""
    with pytest.raises(ArchcError) as failure:
        parse(Source(TEXT.format(expression)))
    (found,) = (one for one in failure.value.diagnostics if one.severity == "error")
    return re.findall("`([^`]+)`", found.help or "")


@pytest.mark.parametrize(
    ("expression", "chains"),
    [
        ("relu(x)", ["x -> relu"]),
        ("x * 2 + relu(x)", ["(x -> relu)"]),
        ("relu(x) + x", ["(x -> relu)"]),
        ("relu(x)[:, 0]", ["(x -> relu)"]),
        ("relu(x) -> tanh", ["x -> relu"]),
        ("linear(x, 10)", ["x -> linear(10)"]),
        ("softmax(x, dim = -1)", ["x -> softmax(dim = -1)"]),
        ("embedding(ids, 100, 64)", ["ids -> embedding(100, 64)"]),
        ("concat(x, y)", ["(x, y) -> concat"]),
        ("concat([x, y], 1)", ["(x, y) -> concat(1)"]),
        ("concat((x, y), dim = 1)", ["(x, y) -> concat(dim = 1)"]),
        ("x -> concat(y)", ["(x, y) -> concat"]),
        ("add(x, y)", ["x + y"]),
        ("add(x, 1)", ["x + 1"]),
        ("sub(1, x)", ["1 - x"]),
        ("x -> mul(x -> sigmoid)", ["x * (x -> sigmoid)"]),
        ("max(x, 0)", ["x -> max(0)", "x -> maximum(scalar = 0)"]),
        ("min(x, y)", ["(x, y) -> minimum"]),
        ("maximum(x, 0)", ["x -> maximum(scalar = 0)"]),
        ("where(mask, y -> tanh, 0.0)", ["(mask, y -> tanh) -> where(other = 0.0)"]),
        ("where(x > 0, x, y)", ["(x > 0, x, y) -> where"]),
        ("attention(x, x, y, 8)", ["(x, x, y) -> attention(8)"]),
        ("x -> attention(8, mask = mask)", ["(x, x, x, mask) -> attention(8)"]),
        ("(x, y, y) -> attention(8, mask = mask)", ["(x, y, y, mask) -> attention(8)"]),
        ("attention(8, v = y, q = x, k = y, mask = mask)", ["(x, y, y, mask) -> attention(8)"]),
        ("lstm(x, 8)", ["x -> lstm(8)"]),
    ],
)
def test_the_chain_is_valid(expression: str, chains: list[str]) -> None:
    assert suggested(expression) == chains
    for chain in chains:
        parse(Source(TEXT.format(chain).replace("bool[8, 8]", "bool[8, 16]" if "where" in chain else "bool[8, 8]")))


def test_an_operand_that_is_not_given_has_the_name_of_the_signature() -> None:
    assert suggested("concat(x)") == ["(x, b) -> concat"]
    assert suggested("zeros(x)")[0] == "zeros"
