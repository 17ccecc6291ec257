"""Activations against `torch.nn`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from archc.declaration import OPERATORS
from archc.declaration.base import Operator, OperatorError
from archc.ops.activation import (
    Celu,
    Elu,
    Gelu,
    Glu,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyRelu,
    Logsigmoid,
    Mish,
    Prelu,
    Relu,
    Relu6,
    Rrelu,
    Selu,
    Sigmoid,
    Silu,
    Softplus,
    Softshrink,
    Softsign,
    Tanh,
    Tanhshrink,
    Threshold,
)
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

X = torch.cat([random(4, 30) * 3, torch.tensor([[-50.0, -0.5, -0.0, 0.0, 0.5, 50.0]] * 4)], 1)
"""Random operands, and operands at which functions have a kink or may overflow."""
EXTREMES = torch.tensor([[math.nan, math.inf, -math.inf]])

CASES = [
    case(Relu(), X, nn.ReLU()),
    case(Relu(), random(3), nn.ReLU()),
    case(Relu6(), X, nn.ReLU6()),
    case(LeakyRelu(), X, nn.LeakyReLU()),
    case(LeakyRelu(0.3), X, nn.LeakyReLU(0.3)),
    case(Prelu(), X, nn.PReLU()),
    case(Prelu(), random(), nn.PReLU()),
    case(Prelu(num_parameters=3), random(2, 3), nn.PReLU(3)),
    case(Prelu(num_parameters=3), random(2, 3, 4, 5), nn.PReLU(3)),
    case(Rrelu(), X, nn.RReLU()),
    case(Rrelu(0.2, 0.5), X, nn.RReLU(0.2, 0.5)),
    case(Elu(), X, nn.ELU()),
    case(Elu(0.5), X, nn.ELU(0.5)),
    case(Celu(), X, nn.CELU()),
    case(Celu(2.0), X, nn.CELU(2.0)),
    case(Selu(), X, nn.SELU()),
    case(Gelu(), X, nn.GELU()),
    case(Gelu("tanh"), X, nn.GELU("tanh")),
    case(Silu(), X, nn.SiLU()),
    case(Mish(), X, nn.Mish()),
    case(Sigmoid(), X, nn.Sigmoid()),
    case(Logsigmoid(), X, nn.LogSigmoid()),
    case(Tanh(), X, nn.Tanh()),
    case(Hardsigmoid(), X, nn.Hardsigmoid()),
    case(Hardswish(), X, nn.Hardswish()),
    case(Hardtanh(), X, nn.Hardtanh()),
    case(Hardtanh(-2.0, 0.5), X, nn.Hardtanh(-2.0, 0.5)),
    case(Hardshrink(), X, nn.Hardshrink()),
    case(Hardshrink(1.5), X, nn.Hardshrink(1.5)),
    case(Softshrink(), X, nn.Softshrink()),
    case(Softshrink(1.5), X, nn.Softshrink(1.5)),
    case(Tanhshrink(), X, nn.Tanhshrink()),
    case(Softplus(), X, nn.Softplus()),
    case(Softplus(beta=2.0), X, nn.Softplus(2.0)),
    case(Softplus(beta=0.5, threshold=1.0), X, nn.Softplus(0.5, 1.0)),
    case(Softsign(), X, nn.Softsign()),
    case(Threshold(0.1, 20.0), X, nn.Threshold(0.1, 20.0)),
    case(
        Threshold(0.1, 20.0), torch.tensor([[math.nan, math.inf, -math.inf]]), nn.Threshold(0.1, 20.0), gradients=False
    ),
    case(Glu(), X, nn.GLU()),
    case(Glu(0), X, nn.GLU(0), symbolic=[{1: "T"}]),
    case(Glu(1), random(2, 6, 3, 5), nn.GLU(1)),
    case(Glu(-2), random(2, 6, 3), nn.GLU(-2)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize(
    ("op", "attribute"),
    [
        (Rrelu(0.5, 0.2), "lower"),
        (Celu(0.0), "alpha"),
        (Hardtanh(1.0, -1.0), "min_val"),
        (Hardshrink(-1.0), "lambd"),
        (Softshrink(float("nan")), "lambd"),
        (Softplus(0.0), "beta"),
        (Prelu(0), "num_parameters"),
        (Glu(3), "dim"),
    ],
    ids=str,
)
def test_senseless_attributes_are_refused(op: Operator, attribute: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, (2, 4))])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", attribute)


def test_integers_are_refused() -> None:
    with pytest.raises(OperatorError) as caught:
        Relu().infer([TensorType(DType.i64, (2,))])
    assert (caught.value.code, caught.value.operand) == ("dtype-mismatch", 0)
    assert caught.value.help == "convert with `cast(f32)`"


def test_glu_needs_an_even_axis() -> None:
    with pytest.raises(OperatorError) as caught:
        Glu().infer([TensorType(DType.f32, (2, 5))])
    assert caught.value.code == "shape-mismatch"


def test_prelu_needs_as_many_channels_as_slopes() -> None:
    with pytest.raises(OperatorError, match="expects 4 channels, got 3"):
        Prelu(4).infer([TensorType(DType.f32, (2, 3))])


def test_a_fresh_prelu_has_the_slope_of_torch() -> None:
    (initializer,) = (parameter.initializer({}) for parameter in Prelu.parameters.values())
    assert initializer.value == nn.PReLU().weight.item()


def test_every_activation_of_torch_has_an_operator() -> None:
    others = {"MultiheadAttention", "Softmax2d"}  # one is a block, the other a `softmax` with an axis
    names = {name.lower() for name in torch.nn.modules.activation.__all__ if name not in others}
    assert names <= {name.replace("_", "") for name in OPERATORS}
