"""The convolutions against `torch.nn`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from archc.declaration.base import Operator, OperatorError
from archc.ops.conv import Conv1d, Conv2d, Conv3d
from archc.types.dims import evaluate, symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

IMAGE = random(2, 4, 9, 8)
SIZES = [{0: "N", 2: "H", 3: "W"}]

CASES = [
    case(Conv1d(6, 3), random(2, 4, 10), nn.Conv1d(4, 6, 3)),
    case(Conv1d(6, 3, stride=2, padding=2, dilation=2, groups=2), random(2, 4, 11), nn.Conv1d(4, 6, 3, 2, 2, 2, 2)),
    case(Conv1d(6, 4, padding="same"), random(2, 4, 11), nn.Conv1d(4, 6, 4, padding="same")),
    case(Conv2d(6, 3), IMAGE, nn.Conv2d(4, 6, 3)),
    case(Conv2d(6, 3), IMAGE, nn.Conv2d(4, 6, 3), symbolic=SIZES),
    case(Conv2d(6, 1, bias=False), IMAGE, nn.Conv2d(4, 6, 1, bias=False)),
    case(Conv2d(6, (3, 2), stride=(2, 1), padding=(1, 0)), IMAGE, nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0))),
    case(Conv2d(6, 3, stride=2, padding=1), IMAGE, nn.Conv2d(4, 6, 3, 2, 1), symbolic=SIZES),
    case(Conv2d(6, 3, dilation=(2, 3)), IMAGE, nn.Conv2d(4, 6, 3, dilation=(2, 3))),
    case(Conv2d(8, 3, groups=4), IMAGE, nn.Conv2d(4, 8, 3, groups=4)),
    case(Conv2d(6, 3, groups=2, bias=False), IMAGE, nn.Conv2d(4, 6, 3, groups=2, bias=False)),
    case(Conv2d(6, 3, padding="same"), IMAGE, nn.Conv2d(4, 6, 3, padding="same"), symbolic=SIZES),
    case(Conv2d(6, (4, 2), padding="same", dilation=3), IMAGE, nn.Conv2d(4, 6, (4, 2), padding="same", dilation=3)),
    case(Conv2d(6, 3, padding="valid"), IMAGE, nn.Conv2d(4, 6, 3, padding="valid")),
    case(Conv2d(6, 3, in_channels=4), IMAGE, nn.Conv2d(4, 6, 3)),
    case(Conv3d(6, 3), random(2, 4, 5, 6, 4), nn.Conv3d(4, 6, 3)),
    case(
        Conv3d(6, (1, 3, 2), stride=(1, 2, 2), groups=2),
        random(2, 4, 3, 6, 5),
        nn.Conv3d(4, 6, (1, 3, 2), (1, 2, 2), groups=2),
    ),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def f32(*shape: object) -> TensorType:
    return TensorType(DType.f32, shape)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(1, 20),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 3),
)
def test_sizes_are_those_of_torch(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    op = Conv1d(1, kernel, stride, padding, dilation)
    try:
        actual = functional.conv1d(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), None, stride, padding, dilation)
    except RuntimeError:
        with pytest.raises(OperatorError) as caught:
            op.infer([f32(1, 1, size)])
        assert (caught.value.code, caught.value.attribute) == ("shape-mismatch", "kernel_size")
        return
    assert op.infer([f32(1, 1, size)]).results[0].shape == tuple(actual.shape)
    symbolic = op.infer([f32(1, 1, symbol("L"))]).results[0].shape[2]
    assert evaluate(symbolic, sizes={"L": size}) == actual.shape[2]


@settings(deadline=None, max_examples=50)
@given(size=st.integers(6, 12), kernel=st.integers(1, 4), dilation=st.integers(1, 2))
def test_same_padding_is_that_of_torch(size: int, kernel: int, dilation: int) -> None:
    assume(dilation * (kernel - 1) < size)
    before, after = Conv1d(1, kernel, padding="same", dilation=dilation).pads
    x, weight = random(1, 1, size), random(1, 1, kernel, seed=1)
    padded = functional.conv1d(functional.pad(x, (before[0], after[0])), weight, dilation=dilation)
    torch.testing.assert_close(padded, functional.conv1d(x, weight, padding="same", dilation=dilation))


def test_symbolic_sizes_stay_formulas() -> None:
    result = Conv2d(8, 3, stride=2, padding=1).infer([f32(symbol("N"), 3, symbol("H"), 28)]).results[0]
    assert str(result) == "f32[N, 8, (H + 1) // 2, 14]"
    assert str(Conv2d(8, 3).infer([f32(1, 3, symbol("H"), 28)]).results[0]) == "f32[1, 8, H - 2, 26]"


def test_multiply_adds_count_every_product() -> None:
    op, types = Conv2d(8, (3, 5), groups=2), [f32(2, 6, 10, 11)]
    # 8 × 7 positions of 2 samples and 8 channels, each with 3 input channels and a kernel of 3 × 5
    assert op.multiply_adds(op.infer(types), types) == 2 * 8 * (8 * 7) * 3 * (3 * 5)


def test_the_factors_of_a_convolution_compute_a_weight_of_low_rank() -> None:
    op = Conv2d(6, (3, 2), stride=2, padding=1)
    first, second = op.factors(2) or ()
    down, up = random(2, 4, 3, 2, seed=1), random(6, 2, seed=2)
    weight = torch.einsum("or,rikl->oikl", up, down)
    assert (first, second) == (Conv2d(2, (3, 2), stride=2, padding=1, bias=False), Conv2d(6, 1))
    inner = functional.conv2d(IMAGE, down, stride=2, padding=1)
    outer = functional.conv2d(inner, up[:, :, None, None])
    torch.testing.assert_close(outer, functional.conv2d(IMAGE, weight, stride=2, padding=1), rtol=1e-4, atol=1e-4)
    assert Conv2d(6, 3, groups=2).factors(2) is None


@pytest.mark.parametrize(
    ("op", "attribute"),
    [
        (Conv2d(0, 3), "out_channels"),
        (Conv2d(8, 0), "kernel_size"),
        (Conv2d(8, (3, 3, 3)), "kernel_size"),
        (Conv2d(8, 3, stride=0), "stride"),
        (Conv2d(8, 3, stride=10**30), "stride"),
        (Conv2d(8, 3, padding=-1), "padding"),
        (Conv2d(8, 3, stride=2, padding="same"), "padding"),
        (Conv2d(8, 3, dilation=(1, 0)), "dilation"),
        (Conv2d(8, 3, groups=0), "groups"),
        (Conv2d(8, 3, groups=3), "out_channels"),
    ],
    ids=str,
)
def test_senseless_attributes_are_refused(op: Operator, attribute: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([f32(1, 12, 8, 8)])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", attribute)


@pytest.mark.parametrize(
    ("op", "shape", "code", "message"),
    [
        (Conv2d(8, 3), (1, 3, 2, 9), "shape-mismatch", "expects at least 3 elements along `h`, got 2"),
        (Conv2d(8, 3, in_channels=3), (1, 4, 9, 9), "shape-mismatch", "expects 3 input channels, got 4"),
        (Conv2d(8, 3, groups=2), (1, 3, 9, 9), "shape-mismatch", "which 2 does not divide"),
        (Conv2d(8, 3), (3, 9, 9), "rank-mismatch", "expects 4 axes [n, g*i, h, w], got 3: f32[3, 9, 9]"),
    ],
)
def test_operands_that_do_not_fit(op: Operator, shape: tuple[int, ...], code: str, message: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([f32(*shape)])
    assert caught.value.code == code
    assert message in str(caught.value)
    assert caught.value.operand == 0


def test_integers_are_refused() -> None:
    with pytest.raises(OperatorError) as caught:
        Conv1d(1, 1).infer([TensorType(DType.u8, (1, 1, 1))])
    assert caught.value.code == "dtype-mismatch"
