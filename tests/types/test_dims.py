"""Symbolic sizes: arithmetic agrees with that of Python integers for all values of the symbols."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.compiler import parse
from archc.diagnostics import ArchcError
from archc.types import dim_bounds, dims
from archc.types.dims import SymbolicDim, as_symbol, divide, evaluate, substitute, symbol, symbols

NAMES = ("A", "B", "C")
VALUES = st.fixed_dictionaries({name: st.integers(1, 40) for name in NAMES})
NUMBERS = st.integers(-7, 7)
POSITIVE = st.integers(1, 7)

# Pair of a symbolic size and a function that computes its value from the integer values of the symbols.
Expression = tuple[object, object]
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def number(value: int) -> Expression:
    return value, lambda sizes: value


def name(text: str) -> Expression:
    return symbol(text), lambda sizes: sizes[text]


def combine(parts: tuple[str, Expression, Expression]) -> Expression:
    mark, (left, left_value), (right, right_value) = parts
    function = BINARY[mark]
    return function(left, right), lambda sizes: function(left_value(sizes), right_value(sizes))


def quotient(parts: tuple[str, Expression, int]) -> Expression:
    mark, (left, value), divisor = parts
    function = {"//": operator.floordiv, "%": operator.mod}[mark]
    size = {"//": dims.floor_divide, "%": dims.remainder}[mark](left, divisor)
    return size, lambda sizes: function(value(sizes), divisor)


def extreme(parts: tuple[str, Expression, Expression]) -> Expression:
    mark, (left, left_value), (right, right_value) = parts
    size = {"min": dims.minimum, "max": dims.maximum}[mark](left, right)
    return size, lambda sizes: {"min": min, "max": max}[mark](left_value(sizes), right_value(sizes))


EXPRESSIONS = st.recursive(
    st.builds(number, NUMBERS) | st.builds(name, st.sampled_from(NAMES)),
    lambda inner: (
        st.builds(combine, st.tuples(st.sampled_from("+-*"), inner, inner))
        | st.builds(quotient, st.tuples(st.sampled_from(("//", "%")), inner, NUMBERS.filter(bool)))
        | st.builds(extreme, st.tuples(st.sampled_from(("min", "max")), inner, inner))
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, VALUES)
def test_a_size_has_the_value_that_integers_give(expression: Expression, sizes: dict[str, int]) -> None:
    size, value = expression
    assert evaluate(size, sizes=sizes) == value(sizes)


@given(EXPRESSIONS, EXPRESSIONS, VALUES)
def test_substituting_a_size_is_evaluating_it_first(
    outer: Expression, inner: Expression, sizes: dict[str, int]
) -> None:
    placed = substitute(outer[0], {"A": inner[0]})
    assert evaluate(placed, sizes=sizes) == outer[1]({**sizes, "A": inner[1](sizes)})


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_equal_polynomials_have_one_form(a: Expression, b: Expression, c: Expression) -> None:
    (a, _), (b, _), (c, _) = a, b, c
    assert a + b == b + a and hash(a + b) == hash(b + a)
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0 and a + a == 2 * a
    assert str(a + b) == str(b + a)


@given(EXPRESSIONS, EXPRESSIONS, VALUES)
def test_an_exact_quotient_times_the_divisor_is_the_size(
    dividend: Expression, divisor: Expression, sizes: dict[str, int]
) -> None:
    found = divide(dividend[0], divisor[0])
    if found is not None:
        assert evaluate(found, sizes=sizes) * divisor[1](sizes) == dividend[1](sizes)


@given(EXPRESSIONS, st.sampled_from([3, symbol("A"), 2 * symbol("A") * symbol("B")]))
def test_a_product_can_be_divided_again(size: Expression, factor: object) -> None:
    assert divide(size[0] * factor, factor) == size[0]


@given(EXPRESSIONS)
def test_the_text_of_a_size_is_the_size(expression: Expression) -> None:
    size, _ = expression
    assert parse_size(str(size)) == size


def parse_size(text: str) -> object:
    """Parse a size with the language, as the factor of a tensor."""
    graph = parse(f"model m {{ input x: f32[A, B, C]  output y = x * ({text}) }}")
    (node,) = graph.nodes()
    return node.op.scalar


def test_a_product_of_sums_can_be_divided_by_each() -> None:
    a, b, c = map(symbol, NAMES)
    assert divide((a + b) * (c - 2), a + b) == c - 2
    assert divide((a + b) * (c - 2), c - 2) == a + b
    assert divide(a * a - b * b, a - b) == a + b
    assert divide(a * a + b * b, a + b) is None
    assert divide((a + b) * 3, (a + b) * 2) is None
    assert divide(dims.product([a] * 300), a - b - c) is None


def test_the_part_that_is_divided_leaves_the_quotient() -> None:
    n = symbol("N")
    assert (2 * n + 1) // 2 == n
    assert (4 * n + 6) // 4 == n + 1
    assert (2 * n + 1) % 2 == 1
    assert str((n - 3) // 2 + 1) == str((n + 1) // 2 - 1)


def test_nothing_is_divided_by_zero() -> None:
    for compute in (dims.floor_divide, dims.remainder):
        with pytest.raises(ZeroDivisionError):
            compute(symbol("N"), 0)
    assert divide(symbol("N"), 0) is None


def test_equality_ignores_bounds() -> None:
    free, bounded = symbol("T"), symbol("T", 8)
    assert free == bounded and hash(free) == hash(bounded)
    u, v = symbol("U"), symbol("V")
    assert free * u + bounded * v == bounded * u + free * v
    assert str(free * v + bounded * u) == str(bounded * v + free * u)
    assert dim_bounds.bounds((3, free, bounded * u)) == (None, 8, None)


def test_symbols_are_found_within_functions() -> None:
    size = (symbol("N") * 3 - 1) // 2 + dims.maximum(symbol("M"), 4)
    assert set(symbols(size)) == {"N", "M"}
    assert symbols(5) == {}


def test_only_a_single_symbol_is_a_symbol() -> None:
    n = symbol("N", 9)
    found = as_symbol(n)
    assert found is not None and found.name == "N" and found.maximum == 9
    assert [as_symbol(dim) for dim in (7, n + 1, 2 * n, n * n, n // 2)] == [None] * 5


def test_a_size_without_a_value_counts_as_the_default() -> None:
    assert evaluate(symbol("N") * 3 + symbol("M"), sizes={"M": 5}) == 8
    assert evaluate(symbol("N") * 3, default=4) == 12
    assert isinstance(symbol("N") + 1, SymbolicDim)


def test_text_of_a_polynomial() -> None:
    """Terms are sorted by descending degree, then by name; the order of construction does not matter."""
    a, b = symbol("A"), symbol("B")
    assert str(7 + b + a) == "A + B + 7"
    assert str(1 - b + a * b + a * a * a) == "A*A*A + A*B - B + 1"


def complexity(make: Callable[[], object]) -> str:
    with pytest.raises(ArchcError) as raised:
        make()
    return raised.value.diagnostics[0].code


def test_sizes_that_grow_without_end_are_refused() -> None:
    """Sizes whose text or number of terms grows with each step of a loop are refused."""

    def squared() -> object:
        size: int | SymbolicDim = symbol("A") + symbol("B") + symbol("C")
        for _ in range(20):
            size = size * size
        return size

    def halved(factor: int) -> object:
        size: int | SymbolicDim = symbol("H")
        for _ in range(1000):
            size = factor * size // 2 + 1
        return size

    def scaled() -> object:
        size: int | SymbolicDim = symbol("H")
        for _ in range(1000):
            size = size * 1024
        return size

    assert complexity(squared) == "size-too-complex"
    assert [complexity(partial(halved, factor)) for factor in (1, 3)] == ["size-too-complex"] * 2
    assert complexity(scaled) == "size-too-complex"
