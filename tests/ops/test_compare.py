"""Comparisons, `where` and logic against PyTorch."""

from __future__ import annotations

import pytest
import torch

from archc.declaration.base import Operator, OperatorError
from archc.ops.compare import Eq, Ge, Gt, Le, LogicalAnd, LogicalNot, LogicalOr, Lt, Ne, Where
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, random

A, B = integers(3, 4, below=3), integers(3, 4, below=3, seed=1)
TRUE = integers(3, 4, below=2, seed=2).bool()
OTHER = integers(4, below=2, seed=3).bool()

CASES = [
    case(Eq(), (A, B), torch.eq),
    case(Eq(), (TRUE, OTHER), torch.eq),
    case(Eq(scalar=1), A, lambda a: a == 1),
    case(Ne(), (A, B), torch.ne),
    case(Lt(), (A, B[0]), torch.lt),
    case(Le(), (A, B), torch.le),
    case(Gt(scalar=0), random(3, 4), lambda x: x > 0),
    case(Gt(scalar=0, reverse=True), random(3, 4), lambda x: x < 0),
    case(Gt(), (A, B), torch.gt),
    case(Ge(), (A, B), torch.ge),
    case(Where(), (TRUE, random(3, 4), random(3, 4, seed=1)), torch.where),
    case(Where(), (OTHER, random(3, 4), random(3, 1, seed=1)), torch.where),
    case(Where(other=float("-inf")), (TRUE, random(3, 4)), lambda c, x: x.masked_fill(~c, float("-inf"))),
    case(Where(other=7.0), (TRUE, A), lambda c, x: x.masked_fill(~c, 7)),
    case(LogicalAnd(), (TRUE, OTHER), torch.logical_and),
    case(LogicalOr(), (TRUE, OTHER), torch.logical_or),
    case(LogicalNot(), TRUE, torch.logical_not),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize(
    ("op", "dtypes"),
    [
        (Lt(), ("f32", "i64")),
        (Lt(), ("bool", "bool")),
        (Where(), ("f32", "f32", "f32")),
        (Where(), ("bool", "f32", "i64")),
        (Where(other=0.5), ("bool", "i64")),
        (LogicalAnd(), ("bool", "i64")),
    ],
    ids=str,
)
def test_dtypes_that_do_not_fit(op: Operator, dtypes: tuple[str, ...]) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), (2,)) for dtype in dtypes])
    assert caught.value.code == "dtype-mismatch"
