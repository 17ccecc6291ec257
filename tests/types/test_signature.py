"""Signatures: printed text, and expansion for operands of given ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.declaration import OPERATORS
from archc.types.signature import (
    Apply,
    Axis,
    Index,
    Pattern,
    RankMismatch,
    Signature,
    SignatureSyntaxError,
    Spread,
    broadcasts,
    expand,
    parse_signature,
    rank_of,
)

NAMES = st.sampled_from(["a", "b", "c", "kh", "in_2"])
FACTORS = st.builds(Index, NAMES) | st.integers(2, 9) | st.builds(Apply, st.just("conv"), st.builds(Index, NAMES))
TERMS = st.lists(FACTORS, min_size=1, max_size=3).map(tuple)
AXES = st.builds(Axis, st.lists(TERMS, min_size=1, max_size=2).map(tuple)) | st.builds(
    lambda name, kind: Axis(((Spread(name, kind),),)), NAMES, st.sampled_from(["*", "~", "prod"])
)
PATTERNS = st.builds(Pattern, NAMES, st.lists(AXES, max_size=4).map(tuple), st.booleans())
SIGNATURES = st.builds(
    Signature, st.lists(PATTERNS, max_size=3).map(tuple), st.lists(PATTERNS, min_size=1, max_size=2).map(tuple)
)


@given(SIGNATURES)
def test_the_text_of_a_signature_is_the_signature(signature: Signature) -> None:
    assert parse_signature(str(signature)) == signature


@pytest.mark.parametrize("name", sorted(name for name, op in OPERATORS.items() if op.signature))
def test_the_signatures_of_the_operators_print_back(name: str) -> None:
    signature = parse_signature(OPERATORS[name].signature)
    assert parse_signature(str(signature)) == signature


@pytest.mark.parametrize(
    "text", ["", "x[a]", "x[a -> y[a]", "x[a] -> ", "x[a] -> y[a] z", "x[a;] -> y[a]", "x[*] -> y"]
)
def test_invalid_signatures(text: str) -> None:
    with pytest.raises(SignatureSyntaxError):
        parse_signature(text)


def test_spreads_are_expanded() -> None:
    signature = parse_signature("x[*b, i], w[o, i] -> y[*b, o]")
    assert str(expand(signature, {"x": 3})) == "x[b.0, b.1, i], w[o, i] -> y[b.0, b.1, o]"
    assert str(expand(signature, {"x": 1})) == "x[i], w[o, i] -> y[o]"


def test_broadcast_spreads_are_aligned_from_the_right() -> None:
    signature = parse_signature("a[~s], b[~s] -> y[~s]")
    assert str(expand(signature, {"a": 1, "b": 3})) == "a[s.2], b[s.0, s.1, s.2] -> y[s.0, s.1, s.2]"
    assert broadcasts(signature) == {"s"} and broadcasts(parse_signature("a[*s] -> y[*s]")) == frozenset()


def test_a_product_of_a_spread_is_one_axis() -> None:
    assert str(expand(parse_signature("x[n, *d] -> y[n, prod(d)]"), {"x": 3})) == "x[n, d.0, d.1] -> y[n, d.0*d.1]"
    assert str(expand(parse_signature("x[n, *d] -> y[n, prod(d)]"), {"x": 1})) == "x[n] -> y[n, 1]"


@pytest.mark.parametrize(
    ("text", "ranks", "operand", "expected"),
    [
        ("x[n, c, h] -> y[n]", {"x": 2}, "x", None),
        ("x[*b, i] -> y[*b]", {"x": 0}, "x", None),
        ("a[*s], b[*s] -> y[*s]", {"a": 2, "b": 3}, "b", 2),
    ],
)
def test_ranks_that_do_not_fit(text: str, ranks: dict[str, int], operand: str, expected: int | None) -> None:
    with pytest.raises(RankMismatch) as mismatch:
        expand(parse_signature(text), ranks)
    assert (mismatch.value.pattern.name, mismatch.value.expected) == (operand, expected)


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("x[*b, i], w[o, i] -> y[*b, o]", {"x": 3}),
        ("x[*d] -> y[1, *d]", {"x": 0}),
        ("a[~s], b[~s] -> y[~s, n]", {"a": 1, "b": 3}),
        ("a[~s], b[~s] -> y[~s]", {"a": 3, "b": 1}),
        ("x[*s, n], y[*t] -> z[*s, prod(t), *t]", {"x": 3, "y": 2}),
    ],
)
def test_the_rank_of_a_tensor_is_that_of_its_expanded_pattern(text: str, ranks: dict[str, int]) -> None:
    signature = parse_signature(text)
    expanded = expand(signature, ranks)
    for pattern in (*(one for one in expanded.operands if one.name in ranks), *expanded.results):
        assert rank_of(signature, pattern.name, ranks) == len(pattern.axes)


def test_a_rank_may_be_unknown() -> None:
    assert rank_of(parse_signature("x[*d] -> y[*e]"), "y", {"x": 2}) is None
    assert rank_of(parse_signature("x[*a, n, *b], index[k] -> y[*a, k, *b]"), "y", {"x": 3, "index": 1}) is None
    assert rank_of(parse_signature("x[*d], w[*d] -> y[*d]"), "w", {"x": 2}) is None


def test_the_first_operand_determines_the_rank_of_a_result() -> None:
    assert rank_of(parse_signature("a[*s], b[*s] -> y[n, *s]"), "y", {"a": 2, "b": 3}) == 3
