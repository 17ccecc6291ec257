"""`softmax`, `log_softmax` and `softmin` against PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from archc.declaration.base import OperatorError
from archc.ops.softmax import LogSoftmax, Softmax, Softmin
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

WIDE = torch.cat([random(4, 30) * 3, torch.tensor([[-50.0, -0.5, -0.0, 0.0, 0.5, 50.0]] * 4)], 1)

CASES = [
    case(Softmax(), random(3, 4), lambda x: functional.softmax(x, -1)),
    case(Softmax(1), random(3, 4, 5), lambda x: functional.softmax(x, 1)),
    case(Softmax(0), random(3), lambda x: torch.exp(x) / torch.exp(x).sum()),
    case(LogSoftmax(), random(3, 4), lambda x: functional.log_softmax(x, -1)),
    case(LogSoftmax(-2), random(3, 4, 5), lambda x: functional.log_softmax(x, 1)),
    case(Softmin(), WIDE, nn.Softmin(-1)),
    case(Softmin(0), WIDE, nn.Softmin(0)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize("op", [Softmax(2), Softmin(-3)], ids=str)
def test_an_axis_that_does_not_exist(op: Softmax) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, (3, 4))])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", "dim")
