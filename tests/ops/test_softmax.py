"""`softmax` and `log_softmax` against PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from archc.operator.base import OperatorError
from archc.ops.softmax import LogSoftmax, Softmax
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

CASES = [
    case(Softmax(), random(3, 4), lambda x: functional.softmax(x, -1)),
    case(Softmax(1), random(3, 4, 5), lambda x: functional.softmax(x, 1)),
    case(Softmax(0), random(3), lambda x: torch.exp(x) / torch.exp(x).sum()),
    case(LogSoftmax(), random(3, 4), lambda x: functional.log_softmax(x, -1)),
    case(LogSoftmax(-2), random(3, 4, 5), lambda x: functional.log_softmax(x, 1)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_an_axis_that_does_not_exist() -> None:
    with pytest.raises(OperatorError) as caught:
        Softmax(2).infer([TensorType(DType.f32, (3, 4))])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", "dim")
