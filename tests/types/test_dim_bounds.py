"""Inequalities of symbolic sizes, compared with their values for small values of the symbols."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.types.dim_bounds import never_exceeds, never_negative
from archc.types.dims import SymbolicDim, evaluate, floor_divide, maximum, minimum, remainder, symbol

T, N = symbol("T"), symbol("N")
SIZES = st.recursive(
    st.sampled_from([T, N]) | st.integers(-3, 5),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, st.integers(-2, 3)).map(lambda pair: pair[0] * pair[1]),
        st.tuples(inner, st.integers(1, 4)).map(lambda pair: floor_divide(*pair)),
        st.tuples(inner, st.integers(1, 4)).map(lambda pair: remainder(*pair)),
        st.tuples(inner, inner).map(lambda pair: minimum(*pair)),
        st.tuples(inner, inner).map(lambda pair: maximum(*pair)),
    ),
    max_leaves=5,
)
VALUES = [{"T": t, "N": n} for t, n in product(range(6), repeat=2)]


@given(SIZES, SIZES)
def test_found_inequalities_hold_for_all_values(left: int | SymbolicDim, right: int | SymbolicDim) -> None:
    if never_negative(left):
        assert all(evaluate(left, sizes=values) >= 0 for values in VALUES)
    if never_exceeds(left, right):
        assert all(evaluate(left, sizes=values) <= evaluate(right, sizes=values) for values in VALUES)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (T, 2 * T),
        (T - 5, T),
        (3, T + 4),
        (floor_divide(T, 2), T),
        (floor_divide(floor_divide(T, 2), 3), T + 1),
        (floor_divide(N * T + 1, 2), N * T + 1),
        (3 * floor_divide(T, 4), T),
        (T, T + floor_divide(N, 2)),
    ],
    ids=str,
)
def test_simple_inequalities_are_found(smaller: int | SymbolicDim, larger: int | SymbolicDim) -> None:
    assert never_exceeds(smaller, larger)
    assert not never_exceeds(larger, smaller)


def test_other_inequalities_are_not_found() -> None:
    assert not never_exceeds(T, N)
    assert not never_exceeds(T, T * N)  # N may be 0
    assert not never_exceeds(floor_divide(T - 3, 2), T - 3)  # -1 > -2 if T is 1
    assert not never_exceeds(3 * floor_divide(T, 2), T)
    assert not never_negative(T - N)
