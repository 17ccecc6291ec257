"""Inputs and outputs of every dtype in ONNX Runtime, including bf16, which NumPy does not have."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run, run_tensors, to_model
from archc.types.tensor_type import DType


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)])
def test_inputs_and_outputs_of_every_dtype(dtype: DType, shape: tuple[int, ...]) -> None:
    declared = {2: f"{dtype}[N, 3]", 0: f"{dtype}[]"}[len(shape)]
    model = to_model(archc.parse(f"model m {{ input x: {declared}  output y = x -> identity }}"))
    given = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype.torch))
    given = given[: shape[0]] if shape else given[0, 1]
    found = run_tensors(model, [given])[0]
    assert found.dtype is given.dtype
    assert torch.equal(found, given)


def test_bf16_is_rounded_as_pytorch_rounds_it() -> None:
    model = to_model(archc.parse("model m { input x: f32[N]  output y = x -> cast(bf16) }"))
    given = torch.tensor([1.0039, -3.1416, 1e-40, 3e38, float("inf")])
    assert torch.equal(run_tensors(model, [given])[0], given.bfloat16())


def test_transposed_arrays_of_bf16() -> None:
    model = to_model(archc.parse("model m { input x: bf16[3, 2]  output y = x -> cast(f32) }"))
    given = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16).T
    assert run(model, {"x": given})["y"].tolist() == [[0, 3], [1, 4], [2, 5]]
