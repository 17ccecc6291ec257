"""Extents in signatures, compared with einsum and broadcasting of NumPy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.types.dims import symbol
from archc.types.extent_solver import Contradiction, Solution, solve_extents
from archc.types.signature import RankMismatch, parse_signature

LETTERS = "ijkl"
EXTENTS = st.integers(1, 3)
SHAPES = st.lists(EXTENTS, max_size=3).map(tuple)


def solved(text: str, known: dict[str, int] | None = None, **shapes: tuple[object, ...]) -> Solution:
    return solve_extents(parse_signature(text), shapes, known or {}, lambda function, name, extent, position: extent)


def brackets(letters: str) -> str:
    return f"[{', '.join(letters)}]"


@given(
    left=st.lists(st.sampled_from(LETTERS), unique=True, max_size=3),
    right=st.lists(st.sampled_from(LETTERS), unique=True, max_size=3),
    chosen=st.sets(st.sampled_from(LETTERS)),
    shapes=st.tuples(st.lists(EXTENTS, min_size=3, max_size=3), st.lists(EXTENTS, min_size=3, max_size=3)),
)
def test_like_einsum(left: list[str], right: list[str], chosen: set[str], shapes: tuple[list[int], list[int]]) -> None:
    kept = sorted(chosen & {*left, *right})
    a, b = tuple(shapes[0][: len(left)]), tuple(shapes[1][: len(right)])
    text = f"a{brackets(left)}, b{brackets(right)} -> y{brackets(kept)}"
    sizes: dict[str, int] = {}
    fits = all(sizes.setdefault(name, size) == size for name, size in (*zip(left, a), *zip(right, b)))
    if not fits:
        with pytest.raises(Contradiction):
            solved(text, a=a, b=b)
        return
    solution = solved(text, a=a, b=b)
    expected = np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", np.ones(a), np.ones(b))
    assert solution.results == (expected.shape,)
    assert dict(solution.extents) == sizes
    summed = {*left, *right} - set(kept)
    both = bool(summed & set(left) & set(right))
    # One multiply-add for each combination of all indices.
    assert solution.multiply_adds == (len(list(product(*(range(size) for size in sizes.values())))) if both else 0)


@given(SHAPES, SHAPES)
def test_like_numpy_broadcasting(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(Contradiction):
            solved("a[~s], b[~s] -> y[~s]", a=a, b=b)
        return
    assert solved("a[~s], b[~s] -> y[~s]", a=a, b=b).results == (expected,)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 30))
def test_a_product_with_one_unknown(g: int, h: int, size: int) -> None:
    divisors = [i for i in range(1, size + 1) if g * h * i == size]
    if divisors:
        assert solved("x[g*i*h] -> y[i]", {"g": g, "h": h}, x=(size,)).results == ((divisors[0],),)
    else:
        with pytest.raises(Contradiction) as found:
            solved("x[g*i*h] -> y[i]", {"g": g, "h": h}, x=(size,))
        assert (found.value.index, found.value.expected, found.value.actual) == ("i", g * h, size)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_sum_with_one_unknown(p: int, size: int) -> None:
    if size >= p:
        assert solved("x[p + q] -> y[q]", {"p": p}, x=(size,)).results == ((size - p,),)
    else:
        with pytest.raises(Contradiction):
            solved("x[p + q] -> y[q]", {"p": p}, x=(size,))


def test_the_order_of_the_axes_does_not_matter() -> None:
    # `g` is known only from the second operand.
    assert solved("x[g*i], w[g] -> y[i, g]", x=(12,), w=(4,)).results == ((3, 4),)


def test_symbolic_sizes() -> None:
    n = symbol("N")
    assert solved("x[a, b] -> y[a*b, b + a]", x=(n, 3)).results == ((3 * n, n + 3),)
    assert solved("x[g*i] -> y[i]", {"g": 4}, x=(8 * n,)).results == ((2 * n,),)
    with pytest.raises(Contradiction):
        solved("x[a], y[a] -> z[a]", x=(n,), y=(symbol("M"),))
    with pytest.raises(Contradiction):  # N may be 1, but only the constant 1 is broadcast
        solved("a[~s], b[~s] -> y[~s]", a=(n,), b=(5,))
    assert solved("a[~s], b[~s] -> y[~s]", a=(n, 1), b=(5,)).results == ((n, 5),)


def test_a_broadcast_axis_has_the_extent_1_in_the_signature() -> None:
    solution = solved("a[~s], b[~s] -> y[~s]", a=(4, 1), b=(4, 5))
    assert str(solution.signature) == "a[s.0, 1], b[s.0, s.1] -> y[s.0, s.1]"


def test_undetermined_extents() -> None:
    with pytest.raises(Contradiction) as found:
        solved("x[g*i] -> y[g, i]", x=(12,))
    assert (found.value.axis, found.value.expected, found.value.actual) == (0, None, 12)
    with pytest.raises(RankMismatch):
        solved("x[a] -> y[a]", x=(1, 2))


def test_parameters_get_their_shapes_from_the_data() -> None:
    solution = solved("x[*b, i], weight[o, i], bias[o]? -> y[*b, o]", {"o": 7}, x=(2, 3, 5))
    shapes = {pattern.name: solution.shape(pattern) for pattern in solution.signature.operands}
    assert shapes == {"x": (2, 3, 5), "weight": (7, 5), "bias": (7,)}
    assert solution.results == ((2, 3, 7),) and solution.multiply_adds == 2 * 3 * 7 * 5
    assert solution.contracted == ("i",)


def test_functions_of_extents_receive_their_position() -> None:
    asked = []

    def functions(function: str, name: str, extent: object, position: int) -> int:
        asked.append((function, name, extent, position))
        return 10 + position

    solution = solve_extents(parse_signature("x[n, h, w] -> y[n, conv(h), conv(w)]"), {"x": (2, 8, 9)}, {}, functions)
    assert asked == [("conv", "h", 8, 0), ("conv", "w", 9, 1)]
    assert solution.results == ((2, 10, 11),)
