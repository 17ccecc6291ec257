"""Numbers in each dtype: attributes, integer arithmetic and casts, also beyond the range of a dtype."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import archc
from archc.codegen.onnx import run_tensors, to_model
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate
from archc.types.tensor_type import DType
from tests.ops.dtype_cells import torch_dtype

Tensor = torch.Tensor


@pytest.mark.parametrize(
    ("type", "use", "code", "place"),
    [
        ("bool", "x -> pad((1, 1), value = 0.5)", "dtype-mismatch", "value = 0.5"),
        ("bool", "x -> pad((1, 1), value = 2)", "number-too-large", "value = 2"),
        ("u8", "x -> pad((1, 1), value = -1)", "dtype-mismatch", "value = -1"),
        ("i8", "x -> pad((1, 1), value = -129)", "number-too-large", "value = -129"),
        ("u8", "(b, x) -> where(other = 300)", "number-too-large", "other = 300"),
        ("i64", "(b, x) -> where(other = 0.5)", "dtype-mismatch", "other = 0.5"),
        ("i64", "(b, x) -> where(other = -inf)", "dtype-mismatch", "other = -inf"),
        ("bool", "(b, x) -> where(other = -1)", "dtype-mismatch", "other = -1"),
        ("f16", "(b, x) -> where(other = -1e9)", "number-too-large", "other = -1e9"),
        ("i32", "x -> clamp(0.5, 2)", "dtype-mismatch", "0.5"),
        ("u8", "x -> clamp(-1)", "dtype-mismatch", "-1"),
        ("i32", "x -> clamp(max = inf)", "dtype-mismatch", "max = inf"),
        ("i32", "x * 0.5", "dtype-mismatch", "x * 0.5"),
        ("u8", "x == -1", "dtype-mismatch", "x == -1"),
        ("bool", "x == 2", "number-too-large", "x == 2"),
        ("bool", "x == N", "dtype-mismatch", "x == N"),
        ("f16", "x + -1e9", "number-too-large", "x + -1e9"),
        ("f16", "x -> threshold(1e6, 0)", "number-too-large", "1e6"),
        ("i64", "x ** -1", "bad-attribute", "x ** -1"),
        ("u8", "full((2,), 256, dtype = u8)", "number-too-large", "256"),
        ("u8", "full((2,), 0.5, dtype = bool)", "dtype-mismatch", "0.5"),
        ("u8", "full((2,), inf, dtype = i32)", "dtype-mismatch", "inf"),
        ("bool", 'x -> pad((1, 1), mode = "reflect")', "dtype-mismatch", "pad"),
    ],
)
def test_numbers_that_the_dtype_of_the_operand_cannot_represent(type: str, use: str, code: str, place: str) -> None:
    text = f"model m {{ input x: {type}[N, 2, 4]  input b: bool[N, 2, 4]  output y = {use} }}"
    with pytest.raises(ArchcError) as caught:
        archc.parse(text)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code and diagnostic.help
    assert diagnostic.span is not None and text[diagnostic.span.start : diagnostic.span.end] == place


@pytest.mark.parametrize(
    ("type", "use", "expected"),
    [
        ("bool", "(b, x) -> where(other = 0)", lambda x, b: x & b),
        ("bool", "x -> pad((1, 0), value = 1)", lambda x, b: torch.cat([torch.ones_like(x[..., :1]), x], -1)),
        ("i16", "(b, x) -> where(other = -7)", lambda x, b: torch.where(b, x, -7)),
        ("u8", "x * 2.0 + 255", lambda x, b: x * 2 - 1),
        ("f16", "(b, x) -> where(other = -inf)", lambda x, b: x.masked_fill(~b, float("-inf"))),
        ("bf16", "x * 0.5 + -1e30", lambda x, b: x * 0.5 - 1e30),
        ("i8", "x -> clamp(-128, 1)", lambda x, b: x.clamp(max=1)),
    ],
)
def test_numbers_that_the_dtype_of_the_operand_can_represent(
    type: str, use: str, expected: Callable[..., Tensor]
) -> None:
    graph = archc.parse(f"model m {{ input x: {type}[N, 4]  input b: bool[N, 4]  output y = {use} }}")
    x = torch.tensor([[0, 1, 2, 3], [5, 4, 3, 0]]).to(torch_dtype(DType(type)))
    feeds = {"x": x, "b": torch.tensor([[True, False, True, False], [False, True, True, True]])}
    for found in (evaluate(graph, feeds)["y"], run_tensors(to_model(graph), [*feeds.values()])[0]):
        assert found.dtype is x.dtype and torch.equal(found, expected(**feeds))


WHOLE = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "-a": lambda a, b: -a,
    "a -> square": lambda a, b: a * a,
    "a ** 3": lambda a, b: a * a * a,
    "a ** 0": lambda a, b: a * 0 + 1,
    "a * 3 - 1": lambda a, b: a * 3 - 1,
    "(a, b) -> matmul": lambda a, b: (a[:, :, None] * b).sum(1),
}


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype.integral])
def test_integers_wrap_around(dtype: DType) -> None:
    """Results equal i64 arithmetic, cast to the dtype, also if a kernel computes in a wider dtype."""
    known = torch_dtype(dtype)
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(int(dtype.smallest), int(dtype.largest), (6, 6), generator=generator, dtype=known)
    a[0], a[1] = int(dtype.smallest), int(dtype.largest)
    feeds = {"a": a, "b": a.flip(0)}
    outputs = "  ".join(f"output y{k} = {use}" for k, use in enumerate(WHOLE))
    graph = archc.parse(f"model m {{ input a: {dtype}[6, 6]  input b: {dtype}[6, 6]  {outputs} }}")
    for found in (evaluate(graph, feeds), dict(zip(graph.outputs, run_tensors(to_model(graph), [*feeds.values()])))):
        for k, (use, expected) in enumerate(WHOLE.items()):
            assert torch.equal(found[f"y{k}"], expected(a.long(), feeds["b"].long()).to(known)), use


AWKWARD = [
    0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -128.9, -129.0, 200.0, 255.9, 256.0, -300.0, 32768.0, 65519.0, 65520.0, 1e6, -1e6,
    2147483648.0, -2147483904.0, 5e9, 9.3e18, -9.3e18, 1e20, 3e38, -3e38, 1e-40, 6e-8, math.inf, -math.inf, math.nan,
]  # fmt: skip


@pytest.mark.parametrize("source", DType)
def test_casts_agree_beyond_the_range(source: DType) -> None:
    """PyTorch and ONNX Runtime agree for short and long vectors, even if no standard defines the cast."""
    targets = [dtype for dtype in DType if dtype is not source]
    outputs = "  ".join(f"output y_{dtype} = x -> cast({dtype})" for dtype in targets)
    graph = archc.parse(f"model m {{ input x: {source}[N]  {outputs} }}")
    for repeats in (1, 33):
        x = torch.tensor(AWKWARD, dtype=torch.float64)
        if not source.floating:
            x = torch.tensor([v for v in AWKWARD if float(source.smallest) <= v < float(source.largest)]).double()
        x = x.to(torch_dtype(source)).repeat(repeats)
        found = dict(zip(graph.outputs, run_tensors(to_model(graph), [x])))
        for dtype in targets:
            torch.testing.assert_close(found[f"y_{dtype}"], x.to(torch_dtype(dtype)), rtol=0, atol=0, equal_nan=True)
