"""`upsample` and the shuffles against PyTorch."""

from __future__ import annotations

import pytest
from torch.nn import functional

from archc.ir.dims import symbol
from archc.ir.types import DType, TensorType
from archc.ops.operator import Operator, OperatorError
from archc.ops.resize import ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample
from tests.ops.harness import Case, case, random

X = random(2, 3, 5, 6)
resize = functional.interpolate

CASES = [
    case(Upsample(scale_factor=2.0), X, lambda x: resize(x, scale_factor=2)),
    case(Upsample(scale_factor=(2.0, 1.5)), X, lambda x: resize(x, scale_factor=(2, 1.5))),
    case(Upsample((7, 4)), X, lambda x: resize(x, (7, 4))),
    case(Upsample(8), X[0], lambda x: resize(x, 8)),
    case(Upsample(scale_factor=2.0, mode="bilinear"), X, lambda x: resize(x, scale_factor=2, mode="bilinear")),
    case(
        Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
        X,
        lambda x: resize(x, scale_factor=2, mode="bilinear", align_corners=True),
    ),
    case(Upsample((3, 9), mode="bilinear"), X, lambda x: resize(x, (3, 9), mode="bilinear")),
    case(Upsample((1, 1), mode="bilinear"), X, lambda x: resize(x, (1, 1), mode="bilinear")),
    case(Upsample(scale_factor=3.0, mode="linear"), X[0], lambda x: resize(x, scale_factor=3, mode="linear")),
    case(Upsample(scale_factor=2.0, mode="bicubic"), X, lambda x: resize(x, scale_factor=2, mode="bicubic")),
    case(
        Upsample((9, 9), mode="bicubic", align_corners=True),
        X,
        lambda x: resize(x, (9, 9), mode="bicubic", align_corners=True),
    ),
    case(Upsample(scale_factor=2.0, mode="trilinear"), X[None], lambda x: resize(x, scale_factor=2, mode="trilinear")),
    case(PixelShuffle(2), random(2, 8, 3, 4), lambda x: functional.pixel_shuffle(x, 2)),
    case(PixelShuffle(3), random(9, 3, 4), lambda x: functional.pixel_shuffle(x, 3), symbolic=[]),
    case(PixelUnshuffle(2), random(2, 3, 4, 6), lambda x: functional.pixel_unshuffle(x, 2)),
    case(ChannelShuffle(3), random(2, 6, 4, 5), lambda x: x.view(2, 3, 2, 4, 5).transpose(1, 2).reshape(2, 6, 4, 5)),
    case(ChannelShuffle(2), random(2, 6, 4), lambda x: x.view(2, 2, 3, 4).transpose(1, 2).reshape(2, 6, 4)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_symbolic_sizes() -> None:
    h = symbol("H")
    x = TensorType(DType.f32, (1, 3, h, 8))
    assert str(Upsample(scale_factor=1.5).infer([x]).results[0]) == "f32[1, 3, H + H // 2, 12]"
    assert str(PixelShuffle(2).infer([TensorType(DType.f32, (1, 12, h, 8))]).results[0]) == "f32[1, 3, 2*H, 16]"


@pytest.mark.parametrize(
    ("op", "shape", "code"),
    [
        (Upsample(), (1, 3, 4, 4), "bad-attribute"),
        (Upsample(2, 2.0), (1, 3, 4, 4), "bad-attribute"),
        (Upsample(0), (1, 3, 4, 4), "bad-attribute"),
        (Upsample((2, 2)), (1, 3, 4), "bad-attribute"),
        (Upsample(2), (3, 4), "bad-attribute"),
        (Upsample(2, mode="bilinear"), (1, 3, 4), "bad-attribute"),
        (Upsample(2, align_corners=True), (1, 3, 4), "bad-attribute"),
        (PixelShuffle(2), (1, 3, 4, 4), "shape-mismatch"),
        (PixelShuffle(0), (1, 3, 4, 4), "bad-attribute"),
        (PixelUnshuffle(2), (1, 3, 4, 5), "shape-mismatch"),
        (ChannelShuffle(2), (1, 3, 4, 4), "shape-mismatch"),
        (ChannelShuffle(2), (1, 4), "rank-mismatch"),
    ],
    ids=str,
)
def test_mistakes(op: Operator, shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape)])
    assert caught.value.code == code
