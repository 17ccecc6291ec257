"""Dropout against `torch.nn`, in inference and training."""

from __future__ import annotations

import pytest
from torch import nn

from archc.declaration.base import OperatorError
from archc.ops.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random
from tests.ops.modules import build_module

CASES = [
    case(Dropout(), random(4, 50), nn.Dropout()),
    case(Dropout(0.1), random(4, 50), nn.Dropout(0.1)),
    case(Dropout1d(), random(4, 9, 5), nn.Dropout1d()),
    case(Dropout2d(0.3), random(4, 9, 5, 2), nn.Dropout2d(0.3)),
    case(Dropout3d(), random(4, 9, 5, 2, 3), nn.Dropout3d()),
    case(AlphaDropout(0.2), random(4, 50), nn.AlphaDropout(0.2)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_the_module_drops_in_training() -> None:
    module = build_module(Dropout(0.5), [random(4, 50)])
    assert module is not None
    dropped = (module.train()(random(4, 50)) == 0).float().mean().item()
    assert 0.3 < dropped < 0.7


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_p_is_a_probability(p: float) -> None:
    with pytest.raises(OperatorError) as caught:
        Dropout(p).infer([TensorType(DType.f32, (2,))])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", "p")
