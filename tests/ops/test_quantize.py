"""`quantize` and `dequantize` against the definitions of the ONNX standard, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archc.declaration.base import Operator, OperatorError
from archc.interpreter.evaluate import evaluate
from archc.ops.quantize import Dequantize, OnGrid, Quantize
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, random
from tests.passes.graphs import Build

X = random(3, 4, 5) * 50
# Halves are rounded to even: 0.5 to 0, and 1.5 to 2.
TIES = torch.tensor([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1000.0, -1000.0]])


def quantized(axis: int | None, low: int, high: int) -> Any:
    """Return the reference function; np.rint rounds halves to even."""

    def compute(x: Tensor, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = [-1 if number == axis else 1 for number in range(x.dim())] if axis is not None else []
        steps = np.rint(x.numpy() / scale.numpy().reshape(shape)) + zero_point.numpy().reshape(shape).astype(np.float32)
        q = np.clip(steps, low, high).astype(zero_point.numpy().dtype)
        return torch.from_numpy(q), scale, zero_point

    return compute


def dynamically(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute DynamicQuantizeLinear, as the function body in the ONNX standard."""
    array = x.numpy()
    low, high = np.minimum(array.min(), np.float32(0)), np.maximum(array.max(), np.float32(0))
    scale = (high - low) / np.float32(255)
    zero_point = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    q = np.clip(np.rint(array / scale) + np.float32(zero_point), 0, 255).astype(np.uint8)
    return torch.from_numpy(q), torch.tensor(scale), torch.tensor(zero_point)


def by_token(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute one scale for each token, with the zero point 128."""
    array = x.numpy()
    scale = np.maximum(np.abs(array).max(-1) / np.float32(127), np.float32(1e-30))
    q = (np.rint(array / scale[..., None]) + 128).astype(np.uint8)
    return torch.from_numpy(q), torch.from_numpy(np.asarray(scale)), torch.tensor(128, dtype=torch.uint8)


def scales(count: int | None = None) -> dict[str, Tensor]:
    drawn = random(*(() if count is None else (count,)), seed=5).abs() + 0.3
    return {"scale": drawn, "zero_point": integers(*drawn.shape, below=20, dtype=torch.uint8)}


ONE = {"scale": torch.tensor(1.0), "zero_point": torch.tensor(3, dtype=torch.int8)}
SIGNED_SCALES = {"scale": random(4, seed=6).abs() + 0.3, "zero_point": integers(4, below=20, dtype=torch.int8)}
UNSIGNED, SIGNED = integers(3, 4, below=255, dtype=torch.uint8), integers(3, 4, below=127, dtype=torch.int8)

TOKENS = Quantize(DType.u8, dynamic=True, granularity="token")

CASES = [
    case(Quantize(DType.u8), X, quantized(None, 0, 255), weights=scales()),
    case(Quantize(DType.i8), TIES, quantized(None, -128, 127), weights=ONE),
    case(Quantize(DType.u8, axis=1), X, quantized(1, 0, 255), weights=scales(4)),
    case(Quantize(DType.u8, axis=-1), X, quantized(2, 0, 255), weights=scales(5)),
    case(Quantize(DType.u8, dynamic=True), X, dynamically),
    case(Quantize(DType.u8, dynamic=True), X.abs() + 1, dynamically),
    case(Quantize(DType.u8, dynamic=True), -X.abs() - 1, dynamically),
    case(TOKENS, X, by_token),
    case(TOKENS, X[0], by_token),
    case(TOKENS, X[0, 0], by_token, symbolic=[]),
    case(TOKENS, X * torch.tensor([0.0, 1e-3, 1.0, 1e4])[:, None], by_token),
    case(
        Dequantize(granularity="token"),
        (integers(3, 4, 5, below=255, dtype=torch.uint8), random(3, 4).abs(), torch.tensor(128, dtype=torch.uint8)),
        lambda q, s, z: (q.int() - z.int()).float() * s[..., None],
        symbolic=[{0: "N"}, {0: "N"}, {}],
    ),
    case(OnGrid(DType.u8), UNSIGNED, lambda q, scale, zero_point: (q, scale, zero_point), weights=scales()),
    case(OnGrid(DType.i8, axis=1), SIGNED, lambda q, scale, zero_point: (q, scale, zero_point), weights=SIGNED_SCALES),
    case(
        Dequantize(),
        (UNSIGNED, torch.tensor(0.5), torch.tensor(9, dtype=torch.uint8)),
        lambda q, s, z: (q.int() - z.int()).float() * s,
    ),
    case(
        Dequantize(axis=0),
        (SIGNED, torch.tensor([0.5, 2.0, 1.0]), torch.tensor([9, 0, -1], dtype=torch.int8)),
        lambda q, s, z: (q.int() - z.int()[:, None]).float() * s[:, None],
        symbolic=[],
    ),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_parameters_of_a_quantizer() -> None:
    x = TensorType(DType.f32, (3, 4))
    parameters = Quantize(DType.i8, axis=1).infer([x]).parameters
    assert {name: str(type) for name, type in parameters.items()} == {"scale": "f32[4]", "zero_point": "i8[4]"}
    assert not any(parameter.trainable for parameter in Quantize.parameters.values())
    assert not Quantize(DType.u8, dynamic=True).infer([x]).parameters


def test_types_of_a_quantizer_by_token() -> None:
    made = TOKENS.infer([TensorType(DType.f32, (3, 4, 5))])
    assert [str(type) for type in made.results] == ["u8[3, 4, 5]", "f32[3, 4]", "u8[]"]
    with pytest.raises(OperatorError, match="at least 1 axis"):
        TOKENS.infer([TensorType(DType.f32, ())])


@pytest.mark.parametrize("op", [Quantize(DType.i8, axis=1), Quantize(DType.u8)], ids=str)
def test_an_operator_from_its_first_result_has_equal_weights_and_results(op: Quantize) -> None:
    x = TensorType(DType.f16, (3, 4))
    made = op.infer([x])
    again = op.from_first_result([x])
    assert again is not None and again.from_first_result([made.results[0]]) == again
    assert again.infer(made.results[:1]).results == made.results
    assert again.infer(made.results[:1]).parameters == made.parameters
    assert Quantize(DType.u8, dynamic=True).from_first_result([TensorType(DType.f32, (3, 4))]) is None


def test_nothing_but_zeros() -> None:
    """If all elements are zero, the scale is 1 in PyTorch and in ONNX Runtime."""
    zeros = torch.zeros(2, 3)
    expected = zeros.to(torch.uint8), torch.tensor(1.0), torch.tensor(0, dtype=torch.uint8)
    case(Quantize(DType.u8, dynamic=True), zeros, lambda x: expected, onnx_reference=False).check()


@pytest.mark.parametrize(
    ("op", "types", "code"),
    [
        (Quantize(DType.i32), ["f32"], "bad-attribute"),
        (Quantize(DType.i8, dynamic=True), ["f32"], "bad-attribute"),
        (Quantize(DType.u8, axis=0, dynamic=True), ["f32"], "bad-attribute"),
        (Quantize(DType.u8, axis=2), ["f32"], "bad-attribute"),
        (Quantize(DType.u8, granularity="token"), ["f32"], "bad-attribute"),
        (Quantize(DType.i8, dynamic=True, granularity="token"), ["f32"], "bad-attribute"),
        (Dequantize(axis=0, granularity="token"), ["u8", "f32", "u8"], "bad-attribute"),
        (Dequantize(granularity="token"), ["u8", "f32", "u8"], "rank-mismatch"),
        (Quantize(DType.u8), ["i64"], "dtype-mismatch"),
        (Quantize(DType.u8, dynamic=True), ["f16"], "dtype-mismatch"),
        (OnGrid(DType.f32), ["f32"], "bad-attribute"),
        (OnGrid(DType.u8, scale=DType.i64), ["u8"], "bad-attribute"),
        (OnGrid(DType.u8), ["i8"], "dtype-mismatch"),
        (Dequantize(), ["u8", "f32", "i8"], "dtype-mismatch"),
        (Dequantize(), ["f32", "f32", "f32"], "dtype-mismatch"),
        (Dequantize(), ["u8", "u8", "u8"], "dtype-mismatch"),
        (Dequantize(), ["u8", "f32"], "operand-count"),
    ],
    ids=str,
)
def test_mistakes(op: Operator, types: list[str], code: str) -> None:
    shapes = [(2, 3), (), ()]
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), shape) for dtype, shape in zip(types, shapes)])
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["quantize", "fake_quantize"])
@pytest.mark.parametrize("granularity", ["tensor", "token"])
def test_an_operand_without_elements(name: str, granularity: str) -> None:
    build = Build()
    found = build.layer(name, build.input(4), DType.u8, dynamic=True, granularity=granularity)
    graph = build.done(found)
    (result,) = evaluate(graph, {"x": torch.zeros(0, 4)}).values()
    assert result.shape == (0, 4)
