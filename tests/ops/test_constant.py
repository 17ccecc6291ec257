"""`constant` and `parameter` return the tensors that they own."""

from __future__ import annotations

import pytest
import torch

from archc.declaration.base import OperatorError
from archc.ops.create import Constant, LearnedTensor
from archc.types.tensor_type import DType
from tests.ops.harness import Case, case, random

CASES = [
    case(Constant((2, 3)), (), lambda value: value, weights={"value": random(2, 3)}),
    case(Constant(()), (), lambda value: value, weights={"value": torch.tensor(2.5)}),
    case(Constant((3,), DType.i64), (), lambda value: value, weights={"value": torch.tensor([1, -2, 3])}),
    case(Constant((2,), DType.bool), (), lambda value: value, weights={"value": torch.tensor([True, False])}),
    case(LearnedTensor((2, 3)), (), lambda weight: weight, weights={"weight": random(2, 3)}),
    case(LearnedTensor(()), (), lambda weight: weight, weights={"weight": torch.tensor(2.5)}),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(OperatorError, match="expects sizes of at least 0"):
        Constant((2, -1)).infer([])


def test_parameters_are_trained_and_constants_are_not() -> None:
    assert not Constant.parameters["value"].trainable
    assert LearnedTensor.parameters["weight"].trainable


def test_integers_are_not_learned() -> None:
    with pytest.raises(OperatorError, match="floating-point numbers, got i64"):
        LearnedTensor((2,), DType.i64).infer([])
