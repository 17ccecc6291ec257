"""`reshape` and `expand` against PyTorch, and the axes that `reshape` links in its signature."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.declaration.base import Operator, OperatorError
from archc.ops.reshape import Expand, Reshape, common_factors
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

N = symbol("N")

CASES = [
    case(Reshape((-1, 6)), random(4, 3, 2), lambda x: x.reshape(4, 6)),
    case(Reshape((3, -1)), random(2, 3), lambda x: x.reshape(3, 2), symbolic=[]),
    case(Reshape((24,)), random(2, 3, 4), lambda x: x.reshape(24), symbolic=[]),
    case(Reshape((2, 12)), random(4, 6), lambda x: x.reshape(2, 12), symbolic=[]),
    case(Reshape((1, 2, 1, 3)), random(2, 3), lambda x: x.reshape(1, 2, 1, 3), symbolic=[]),
    case(Reshape(()), random(1, 1), lambda x: x.reshape(()), symbolic=[]),
    case(Reshape((0, 3)), random(0, 2), lambda x: x.reshape(0, 3), symbolic=[]),
    case(Expand(()), random(), lambda x: x.expand(())),
    case(Expand((-1, 4, -1)), random(2, 1, 3), lambda x: x.expand(2, 4, 3)),
    case(Expand((5, -1, 3)), random(2, 3), lambda x: x.expand(5, 2, 3)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize(
    ("shape", "wanted", "signature"),
    [
        ((N, 3, 4), (N, 12), "x[f2, f1, f0] -> y[f2, f1*f0]"),
        ((N, 12), (-1, 3, 4), "x[f2, f1*f0] -> y[f2, f1, f0]"),
        ((N, 8, 6), (N, 4, 12), "x[f3, f2*f1, f0] -> y[f3, f2, f1*f0]"),
        ((2, 3), (3, 2), "x[d0, d1] -> y[u0, u1]"),
        ((N, 1, 3), (N, 3, 1), "x[f1, 1, f0] -> y[f1, f0, 1]"),
    ],
)
def test_the_axes_that_it_links(shape: tuple[int, ...], wanted: tuple[int, ...], signature: str) -> None:
    assert str(Reshape(wanted).signature_for([TensorType(DType.f32, shape)])) == signature


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_merging_and_splitting_is_always_linked(factors: list[int], data: st.DataObject) -> None:
    """Axes that are products of one list of factors are linked by common factors."""

    def grouped() -> list[int]:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(factors)))) | {len(factors)})
        return [math.prod(factors[start:stop]) for start, stop in zip([0, *cuts], cuts)]

    old, new = grouped(), grouped()
    found = common_factors(old, new)
    # No common factors are found for sizes such as [2, 6] and [4, 3], of which neither 6 nor 4 divides the other.
    if found is None:
        assert any(a % b and b % a for a in old for b in new)
        return
    left, right, sizes = found
    assert [math.prod(int(str(sizes[name])) for name in names) for names in left] == old
    assert [math.prod(int(str(sizes[name])) for name in names) for names in right] == new
    assert [name for names in left for name in names] == [name for names in right for name in names]


@pytest.mark.parametrize(
    ("op", "shape", "code"),
    [
        (Reshape((-1, -1)), (2, 3), "bad-attribute"),
        (Reshape((-2, 3)), (2, 3), "bad-attribute"),
        (Reshape((4, -1)), (2, 3), "shape-mismatch"),
        (Reshape((2, 2)), (2, 3), "shape-mismatch"),
        (Reshape((2, 2)), (N, 4), "shape-mismatch"),
        (Expand((2,)), (2, 3), "bad-attribute"),
        (Expand((-1, 2, 3)), (2, 3), "bad-attribute"),
        (Expand((2, 4)), (2, 3), "shape-mismatch"),
    ],
    ids=str,
)
def test_mistakes(op: Operator, shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape)])
    assert caught.value.code == code
