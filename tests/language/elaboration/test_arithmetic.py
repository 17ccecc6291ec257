"""Arithmetic on attribute values: agreement with Python, and limits."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.language.elaboration.arithmetic import LARGEST_NUMBER, ArithmeticProblem, binary, call_function, check_number
from archc.types.dims import evaluate, symbol

OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
SMALL = st.integers(-50, 50)
N, T = symbol("N"), symbol("T", 8)


def code(call: Any, *arguments: Any) -> str:
    with pytest.raises(ArithmeticProblem) as problem:
        call(*arguments)
    return problem.value.code


@given(st.sampled_from(sorted(OPERATORS)), SMALL, SMALL)
def test_integers(mark: str, left: int, right: int) -> None:
    if mark in ("//", "%") and right == 0:
        assert code(binary, mark, left, right) == "division-by-zero"
    else:
        assert binary(mark, left, right) == OPERATORS[mark](left, right)


@given(st.sampled_from(["+", "-", "*", "//", "%", "**", "/"]), st.integers(1, 20), st.integers(1, 7))
def test_sizes_compute_as_their_values_do(mark: str, size: int, number: int) -> None:
    try:
        found = binary(mark, N, number)
    except ArithmeticProblem as problem:
        assert mark == "/" and problem.code == "not-known-yet"
    else:
        assert evaluate(found, sizes={"N": size}) == binary("//" if mark == "/" else mark, size, number)


@given(st.sampled_from(["<", "<=", ">", ">="]), st.integers(-2, 12), st.booleans())
def test_a_comparison_is_decided_only_if_every_size_agrees(mark: str, number: int, mirrored: bool) -> None:
    sides = (number, T) if mirrored else (T, number)
    outcomes = {OPERATORS[mark](*((number, size) if mirrored else (size, number))) for size in range(1, 9)}
    if len(outcomes) == 1:
        assert binary(mark, *sides) is outcomes.pop()
    else:
        assert code(binary, mark, *sides) == "not-known-yet"


def test_equal_sizes() -> None:
    assert binary("==", N + 1, 1 + N) is True and binary("!=", N, N + 1) is True
    assert code(binary, "==", N, T) == "not-known-yet"


@pytest.mark.parametrize(
    ("mark", "left", "right", "expected"),
    [
        ("+", 2**62, 2**62, "number-too-large"),
        ("**", 10, 10**9, "number-too-large"),
        ("**", 10.0, 400, "number-too-large"),
        ("**", -8, 0.5, "wrong-type"),
        ("*", 1e300, 1e300, "number-too-large"),
        ("+", "a" * 600_000, "a" * 600_000, "number-too-large"),
        ("+", (1,) * 600_000, (1,) * 600_000, "number-too-large"),
        ("*", "a", 10**9, "wrong-type"),
        ("+", True, 1, "wrong-type"),
        ("<", "a", "b", "wrong-type"),
        ("/", N, 0, "division-by-zero"),
        ("//", N, 0, "division-by-zero"),
        ("%", N, 0, "division-by-zero"),
        ("+", N, 1.5, "not-known-yet"),
        ("**", N, 9, "wrong-type"),
        ("**", N + T + symbol("A") + symbol("B") + symbol("C"), 8, "size-too-complex"),
    ],
)
def test_invalid_operations(mark: str, left: Any, right: Any, expected: str) -> None:
    assert code(binary, mark, left, right) == expected


def test_sequences() -> None:
    assert binary("+", "a", "b") == "ab" and binary("+", (1,), (2,)) == (1, 2)
    assert binary("==", (1,), [1]) is False and binary("!=", "a", 1) is True


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("min", [3, 1, 2], 1),
        ("max", [(3, 1, 2)], 3),
        ("sqrt", [16], 4.0),
        ("floor", [-1.5], -2),
        ("ceil", [1.2], 2),
        ("round", [2.4], 2),
        ("abs", [-3], 3),
        ("len", [(1, 2)], 2),
        ("floor", [N], N),
    ],
)
def test_functions(name: str, arguments: list[Any], value: Any) -> None:
    assert call_function(name, arguments) == value


def test_extremes_of_sizes() -> None:
    found = call_function("min", [N, 8, T])
    assert [evaluate(found, sizes={"N": n, "T": 5}) for n in (3, 7)] == [3, 5]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("min", [], "wrong-type"),
        ("min", [N, 1.5], "wrong-type"),
        ("max", [N, (1, 2)], "wrong-type"),
        ("min", [1, "a"], "wrong-type"),
        ("sqrt", [-1], "wrong-type"),
        ("log", [0], "wrong-type"),
        ("exp", [1000], "wrong-type"),
        ("sqrt", [N], "not-known-yet"),
        ("abs", [True], "wrong-type"),
        ("len", [N], "wrong-type"),
    ],
)
def test_functions_that_have_no_value(name: str, arguments: list[Any], expected: str) -> None:
    assert code(call_function, name, arguments) == expected


def test_bounds_of_numbers() -> None:
    assert check_number(LARGEST_NUMBER) == LARGEST_NUMBER
    for value in (LARGEST_NUMBER + 1, float("inf"), float("nan")):
        assert code(check_number, value) == "number-too-large"
