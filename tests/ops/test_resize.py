"""`upsample` and the shuffles against PyTorch."""

from __future__ import annotations

import pytest
import torch
from onnxruntime import InferenceSession
from torch.nn import functional

import archc
from archc.codegen.onnx import to_model
from archc.declaration.base import Operator, OperatorError
from archc.interpreter.evaluate import evaluate
from archc.ops.resize import ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
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


@pytest.mark.parametrize(
    ("mode", "corners"),
    [("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False)],
)
def test_a_size_of_another_tensor(mode: str, corners: bool) -> None:
    options = f'mode = "{mode}", align_corners = {str(corners).lower()}'
    graph = archc.parse(
        "model m { input x: f32[N, 2, h, w]  input skip: f32[N, 3, H, W]"
        f"  u = x -> upsample((H, W), {options})  output y = (u, skip) -> concat(1) }}"
    )
    model = to_model(graph)
    session = InferenceSession(model.SerializeToString())
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    for old, new in [((5, 7), (11, 15)), ((5, 7), (5, 7)), ((6, 4), (3, 13)), ((1, 2), (2, 1))]:
        x, skip = random(2, 2, *old), random(2, 3, *new)
        expected = torch.cat((resize(x, new, mode=mode, align_corners=corners or None), skip), 1)
        feeds = {"x": x, "skip": skip}
        torch.testing.assert_close(evaluate(graph, feeds)["y"], expected)
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})
        torch.testing.assert_close(torch.from_numpy(found), expected)


def test_symbolic_sizes() -> None:
    h = symbol("H")
    x = TensorType(DType.f32, (1, 3, h, 8))
    assert str(Upsample(scale_factor=1.5).infer([x]).results[0]) == "f32[1, 3, H + H // 2, 12]"
    assert str(Upsample((2 * h, 5)).infer([x]).results[0]) == "f32[1, 3, 2*H, 5]"
    assert str(PixelShuffle(2).infer([TensorType(DType.f32, (1, 12, h, 8))]).results[0]) == "f32[1, 3, 2*H, 16]"


@pytest.mark.parametrize(
    ("op", "shape", "code"),
    [
        (Upsample(), (1, 3, 4, 4), "bad-attribute"),
        (Upsample(2, 2.0), (1, 3, 4, 4), "bad-attribute"),
        (Upsample(0), (1, 3, 4, 4), "bad-attribute"),
        (Upsample((2, 2)), (1, 3, 4), "bad-attribute"),
        (Upsample((symbol("H"), symbol("W"))), (1, 3, 4), "bad-attribute"),
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
