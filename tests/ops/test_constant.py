"""`constant` gives the numbers that it owns."""

from __future__ import annotations

import pytest
import torch

from archc.ir.types import DType
from archc.ops.constant import Constant
from archc.ops.operator import OperatorError
from tests.ops.harness import Case, case, random

CASES = [
    case(Constant((2, 3)), (), lambda value: value, weights={"value": random(2, 3)}),
    case(Constant(()), (), lambda value: value, weights={"value": torch.tensor(2.5)}),
    case(Constant((3,), DType.i64), (), lambda value: value, weights={"value": torch.tensor([1, -2, 3])}),
    case(Constant((2,), DType.bool), (), lambda value: value, weights={"value": torch.tensor([True, False])}),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(OperatorError, match="cannot have the shape"):
        Constant((2, -1)).infer([])


def test_the_numbers_are_not_trained() -> None:
    assert not Constant.parameters["value"].trainable
