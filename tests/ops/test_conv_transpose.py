"""Transposed convolutions against `torch.nn`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from archc.declaration.base import Operator, OperatorError
from archc.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from archc.types.dims import evaluate, symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

IMAGE = random(2, 4, 5, 6)

CASES = [
    case(
        ConvTranspose1d(4, 3, dilation=3, output_padding=2),
        random(2, 3, 5),
        nn.ConvTranspose1d(3, 4, 3, dilation=3, output_padding=2),
    ),
    case(
        ConvTranspose1d(4, 3, stride=2, dilation=5, padding=1, output_padding=4, groups=2),
        random(2, 6, 5),
        nn.ConvTranspose1d(6, 4, 3, stride=2, dilation=5, padding=1, output_padding=4, groups=2),
        onnx_reference=False,
    ),
    case(
        ConvTranspose2d(4, 3, stride=(1, 2), dilation=(3, 1), padding=(2, 1), output_padding=(2, 1)),
        random(2, 3, 5, 4),
        nn.ConvTranspose2d(3, 4, 3, stride=(1, 2), dilation=(3, 1), padding=(2, 1), output_padding=(2, 1)),
    ),
    case(ConvTranspose1d(6, 4, stride=2, padding=1), random(2, 4, 7), nn.ConvTranspose1d(4, 6, 4, 2, 1)),
    case(ConvTranspose2d(6, 3), IMAGE, nn.ConvTranspose2d(4, 6, 3)),
    case(
        ConvTranspose2d(6, 3, stride=2, padding=1, output_padding=1),
        IMAGE,
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1),
        symbolic=[{0: "N", 2: "H", 3: "W"}],
    ),
    case(
        ConvTranspose2d(6, (3, 2), stride=(1, 3), dilation=(2, 1), bias=False, in_channels=4),
        IMAGE,
        nn.ConvTranspose2d(4, 6, (3, 2), (1, 3), dilation=(2, 1), bias=False),
    ),
    # onnx.reference fails with groups
    case(ConvTranspose2d(6, 3, groups=2), IMAGE, nn.ConvTranspose2d(4, 6, 3, groups=2), onnx_reference=False),
    case(ConvTranspose3d(6, 2, stride=2), random(2, 4, 3, 2, 4), nn.ConvTranspose3d(4, 6, 2, 2)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 4),
    extra=st.integers(0, 4),
    dilation=st.integers(1, 3),
)
def test_sizes_are_those_of_torch(size: int, kernel: int, stride: int, padding: int, extra: int, dilation: int) -> None:
    op = ConvTranspose1d(1, kernel, stride, padding, extra, dilation=dilation)
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    try:
        actual = functional.conv_transpose1d(x, weight, None, stride, padding, extra, 1, dilation)
    except RuntimeError:
        with pytest.raises(OperatorError):
            op.infer([TensorType(DType.f32, (1, 1, size))])
        return
    assert op.infer([TensorType(DType.f32, (1, 1, size))]).results[0].shape == tuple(actual.shape)
    symbolic = op.infer([TensorType(DType.f32, (1, 1, symbol("L")))]).results[0].shape[2]
    assert evaluate(symbolic, sizes={"L": size}) == actual.shape[2]


def test_multiply_adds_count_every_product() -> None:
    op, types = ConvTranspose2d(8, (3, 5), stride=4, groups=2), [TensorType(DType.f32, (2, 6, 10, 11))]
    # each of the 2 × 6 × 10 × 11 elements times the kernels of the 4 output channels of its group
    assert op.multiply_adds(op.infer(types), types) == (2 * 6 * 10 * 11) * 4 * (3 * 5)


@pytest.mark.parametrize(
    ("op", "code", "attribute"),
    [
        (ConvTranspose2d(8, 3, output_padding=1), "bad-attribute", "output_padding"),
        (ConvTranspose2d(8, 3, output_padding=-1), "bad-attribute", "output_padding"),
        (ConvTranspose2d(8, 3, padding=5), "shape-mismatch", "padding"),
        (ConvTranspose2d(8, 3, in_channels=5), "shape-mismatch", "in_channels"),
    ],
    ids=str,
)
def test_invalid_attributes_and_sizes_are_refused(op: Operator, code: str, attribute: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, (1, 4, 4, 4))])
    assert (caught.value.code, caught.value.attribute) == (code, attribute)
