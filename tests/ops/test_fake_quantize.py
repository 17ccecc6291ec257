"""`fake_quantize` against `quantize` and `dequantize` in NumPy, with a straight-through gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archc.declaration.base import OperatorError
from archc.interpreter.evaluate import helper_namespace
from archc.ops.fake_quantize import FakeQuantize
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random
from tests.ops.test_quantize import TIES, by_token, dynamically, quantized

X = random(3, 4, 5) * 50


class StraightThrough(torch.autograd.Function):
    """The function of an array, with the gradient of the operand where `kept` is True."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (kept,) = ctx.saved_tensors
        return gradient * kept, None, None


def static(low: int, high: int) -> Any:
    def compute(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        held = x.detach()
        q = quantized(None, low, high)(held, scale, zero_point)[0].float()
        steps = torch.from_numpy(np.rint(held.numpy() / scale.numpy())) + zero_point
        return StraightThrough.apply(x, (q - zero_point) * scale, (steps >= low) & (steps <= high))  # type: ignore

    return compute


def dynamic(x: Tensor) -> Tensor:
    q, scale, zero_point = dynamically(x.detach())
    return StraightThrough.apply(x, (q.float() - zero_point) * scale, torch.ones_like(x))  # type: ignore


def tokens(x: Tensor) -> Tensor:
    q, scale, zero_point = by_token(x.detach())
    return StraightThrough.apply(x, (q.float() - zero_point) * scale[..., None], torch.ones_like(x))  # type: ignore


UNSIGNED = {"scale": torch.tensor(0.25), "zero_point": torch.tensor(100, dtype=torch.uint8)}
SIGNED = {"scale": torch.tensor(1.0), "zero_point": torch.tensor(3, dtype=torch.int8)}
TOKENS = FakeQuantize(DType.u8, dynamic=True, granularity="token")

CASES = [
    case(FakeQuantize(DType.u8), X, static(0, 255), weights=UNSIGNED),
    case(FakeQuantize(DType.i8), TIES, static(-128, 127), weights=SIGNED),
    case(FakeQuantize(DType.u8, dynamic=True), X, dynamic),
    case(FakeQuantize(DType.u8, dynamic=True), -X.abs() - 1, dynamic),
    case(TOKENS, X * torch.tensor([0.0, 1e-3, 1.0, 1e4])[:, None], tokens),
    case(TOKENS, X[0, 0], tokens, symbolic=[]),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


HELPERS = helper_namespace(FakeQuantize.torch_helpers)


def gradient(function: Any, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (function(leaf) * random(*x.shape, seed=1)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("one", CASES, ids=str)
def test_the_gradient_is_straight_through(one: Case) -> None:
    assert isinstance(one.op, FakeQuantize)
    (x,), weights = one.inputs, (one.weights or {}).values()
    ends = (0, 255) if one.op.dtype is DType.u8 else (-128, 127)
    name = "_fake_quantize_tokens" if one.op.by_token else "_fake_quantize_dynamic"
    ours = gradient(
        HELPERS[name] if one.op.dynamic else lambda leaf: HELPERS["_fake_quantize"](leaf, *weights, *ends), x
    )
    expected = gradient(lambda leaf: one.reference(leaf, *weights), x)
    assert torch.equal(ours, expected) and bool((expected == 0).any()) is not one.op.dynamic


def test_the_gradient_is_that_of_pytorch() -> None:
    """Half of the elements of X are outside of the range."""
    scale, zero_point = torch.tensor(0.25), torch.tensor(100, dtype=torch.uint8)
    ours = gradient(lambda leaf: HELPERS["_fake_quantize"](leaf, scale, zero_point, 0, 255), X)
    theirs = gradient(lambda leaf: torch.fake_quantize_per_tensor_affine(leaf, scale, zero_point.int(), 0, 255), X)
    assert torch.equal(ours, theirs) and 0.2 < (ours == 0).float().mean() < 0.8


@pytest.mark.parametrize(
    ("op", "type"),
    [
        (FakeQuantize(DType.i32), "f32[2, 3]"),
        (FakeQuantize(DType.i8, dynamic=True), "f32[2, 3]"),
        (FakeQuantize(DType.u8, granularity="token"), "f32[2, 3]"),
        (TOKENS, "f32[]"),
        (FakeQuantize(DType.u8), "f16[2, 3]"),
    ],
    ids=str,
)
def test_wrong_attributes_and_operands(op: FakeQuantize, type: str) -> None:
    dtype, _, sizes = type.rstrip("]").partition("[")
    shape = tuple(int(size) for size in sizes.split(", ") if size)
    with pytest.raises(OperatorError, match="`fake_quantize`"):
        op.infer([TensorType(DType(dtype), shape)])
