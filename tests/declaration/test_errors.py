"""Attributes that the dtype of the data cannot represent are rejected before the model runs."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch

import archc
from archc.declaration import OPERATORS
from archc.diagnostics import ArchcError
from archc.types.tensor_type import DType, TensorType


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype is not DType.bool])
def test_largest_number_of_a_dtype(dtype: DType) -> None:
    known = getattr(torch, dtype.torch)
    assert dtype.largest == (torch.finfo(known) if dtype.floating else torch.iinfo(known)).max
    if dtype is DType.bf16:
        assert dtype.largest == float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    elif dtype.floating:
        assert dtype.largest == float(np.finfo(dtype.torch).max)


@pytest.mark.parametrize(
    ("type", "use", "number"),
    [
        ("f32", "x * 1e300", "1e+300, and the largest f32 is 3.40282e+38"),
        ("f32", "x > -1e39", "-1e+39, and the largest f32 is 3.40282e+38"),
        ("f16", "x -> clamp(max = 65520)", "65520, and the largest f16 is 65504"),
        ("bf16", "x -> leaky_relu(1e39)", "1e+39, and the largest bf16 is 3.38953e+38"),
        ("i8", "x + 128", "128, and the largest i8 is 127"),
        ("u8", "x -> pad((1, 1), value = 256.0)", "256, and the largest u8 is 255"),
        ("i32", "x * 2147483648", "2147483648, and the largest i32 is 2147483647"),
        ("i64", "full((4,), 1e39) + (x -> cast(f32))", "1e+39, and the largest f32 is 3.40282e+38"),
    ],
)
def test_numbers_that_are_too_large(type: str, use: str, number: str) -> None:
    with pytest.raises(ArchcError) as failure:
        archc.parse(f"model m {{ input x: {type}[N, 2, 4]  output y = {use} }}")
    (diagnostic,) = failure.value.diagnostics
    assert diagnostic.code == "number-too-large" and diagnostic.message.endswith(f" is {number}")


@pytest.mark.parametrize(
    ("type", "use"),
    [
        ("f32", "x * 3.4e38"),
        ("f64", "x * 1e300"),
        ("i8", "x * -128"),
        ("i8", "x -> pad((200, 200))"),
    ],
)
def test_numbers_that_are_not_too_large(type: str, use: str) -> None:
    archc.parse(f"model m {{ input x: {type}[N, 2, 400]  output y = {use} }}")


def test_infinity_is_a_number_of_every_float() -> None:
    """Passes may use it, although no text can express it."""
    operand = TensorType(DType.f16, (2, 4))
    assert OPERATORS["hardtanh"](-math.inf, math.inf).infer([operand]).results == (operand,)
