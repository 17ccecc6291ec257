"""Reductions against PyTorch."""

from __future__ import annotations

import pytest
import torch

from archc.declaration.base import Operator, OperatorError
from archc.ops.reduce import Argmax, Argmin, Max, Mean, Min, Norm, Std, Sum, Var
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, random

X = random(3, 4, 5)
norm = torch.linalg.vector_norm

CASES = [
    case(Sum(), X, lambda x: x.sum()),
    case(Sum(1), X, lambda x: x.sum(1)),
    case(Sum((-1, 0), keepdim=True), X, lambda x: x.sum((0, 2), keepdim=True)),
    case(Sum(0), integers(3, 4, below=5, dtype=torch.int32), lambda x: x.sum(0)),
    case(Sum(), integers(3, 4, below=2).bool(), lambda x: x.sum()),
    case(Mean((1, 2)), X, lambda x: x.mean((1, 2))),
    case(Mean(keepdim=True), X, lambda x: x.mean((0, 1, 2), keepdim=True)),
    case(Max(1), X, lambda x: x.amax(1)),
    case(Max(), X, lambda x: x.max()),
    case(Min((0, 1)), X, lambda x: x.amin((0, 1))),
    case(Min(-1, keepdim=True), X, lambda x: x.amin(-1, keepdim=True)),
    case(Var(1), X, lambda x: x.var(1)),
    case(Var((1, 2), correction=0, keepdim=True), X, lambda x: x.var((1, 2), correction=0, keepdim=True)),
    case(Var(0), X, lambda x: x.var(0)),
    case(Std(keepdim=True), X, lambda x: x.std((0, 1, 2), keepdim=True)),
    case(Std(2), X, lambda x: x.std(2)),
    case(Norm(), X, lambda x: norm(x)),
    case(Norm(p=1.0, dim=1), X, lambda x: x.abs().sum(1)),
    case(Norm(dim=(0, 2), keepdim=True), X, lambda x: norm(x, 2, (0, 2), keepdim=True)),
    case(Norm(p=3.0, dim=0), X, lambda x: norm(x, 3, 0)),
    case(Norm(p=float("inf"), dim=1), X, lambda x: x.abs().amax(1)),
    case(Argmax(), X, lambda x: x.argmax()),
    case(Argmax(1), integers(3, 9, below=3), lambda x: torch.tensor([r.tolist().index(r.max()) for r in x])),
    case(Argmax(-1, keepdim=True), X, lambda x: x.argmax(-1, keepdim=True)),
    case(Argmax(keepdim=True), X, lambda x: x.argmax().reshape(1, 1, 1)),
    case(Argmin(1), X, lambda x: x.argmin(1)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_the_signature_shows_the_reduced_axes() -> None:
    mean = Mean((0, 2), keepdim=True)
    assert str(mean.signature_for([TensorType(DType.f32, (2, 3, 4))])) == "x[d0, d1, d2] -> y[1, d1, 1]"


@pytest.mark.parametrize(
    ("op", "dtype", "code"),
    [
        (Mean(3), "f32", "bad-attribute"),
        (Sum((1, -1)), "f32", "bad-attribute"),
        (Sum(()), "f32", "bad-attribute"),
        (Mean(), "i64", "dtype-mismatch"),
        (Max(), "bool", "dtype-mismatch"),
        (Norm(p=0.0), "f32", "bad-attribute"),
    ],
    ids=str,
)
def test_mistakes(op: Operator, dtype: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), (2, 3))])
    assert caught.value.code == code
