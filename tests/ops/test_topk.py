"""`topk` against sorting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archc
from archc.codegen import onnx
from archc.declaration.base import OperatorError
from archc.ops.reduce import Topk
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

X = random(4, 5, 6)


def ordered(x: torch.Tensor, k: int, dim: int, descending: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The first k elements of each sorted axis, and their indices."""
    values, places = x.sort(dim=dim, descending=descending)
    return values.narrow(dim, 0, k), places.narrow(dim, 0, k)


CASES = [
    case(Topk(2), X, lambda x: ordered(x, 2, -1)),
    case(Topk(6), X, lambda x: ordered(x, 6, -1)),
    case(Topk(3, 1), X, lambda x: ordered(x, 3, 1)),
    case(Topk(1, 0, largest=False), X, lambda x: ordered(x, 1, 0, descending=False), symbolic=[{1: "T"}]),
    case(Topk(2, -2, largest=False), X, lambda x: ordered(x, 2, 1, descending=False)),
    case(Topk(3), torch.randperm(40).reshape(5, 8), lambda x: ordered(x, 3, 1)),
    case(Topk(2), random(7), lambda x: ordered(x, 2, 0)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_bf16_in_onnx(tmp_path: Path) -> None:
    """`topk` supports bf16 in ONNX, although the ONNX operator `TopK` does not."""
    text = """model m {
        input x: f32[N, 8]
        values, places = x -> cast(bf16) -> topk(3)
        output y = values -> cast(f32)
        output places
    }"""
    archc.compile(text).write(tmp_path, ["onnx"])
    x = torch.randperm(40).reshape(5, 8).float() / 8  # all different, and representable in bf16
    values, places = ordered(x, 3, 1)
    found = onnx.run(tmp_path / "m.onnx", {"x": x.numpy()})
    assert (found["y"] == values.numpy()).all() and (found["places"] == places.numpy()).all()


def test_a_symbolic_size_is_assumed_to_be_large_enough() -> None:
    values, indices = Topk(3).infer([TensorType(DType.f32, (2, symbol("T")))]).results
    assert (str(values), str(indices)) == ("f32[2, 3]", "i64[2, 3]")


@pytest.mark.parametrize(
    ("op", "operand", "code"),
    [
        (Topk(0), TensorType(DType.f32, (2, 3)), "bad-attribute"),
        (Topk(4), TensorType(DType.f32, (2, 3)), "bad-attribute"),
        (Topk(9), TensorType(DType.f32, (2, symbol("T", maximum=8))), "bad-attribute"),
        (Topk(1, 2), TensorType(DType.f32, (2, 3)), "bad-attribute"),
        (Topk(1), TensorType(DType.f32, ()), "bad-attribute"),
        (Topk(1), TensorType(DType.bool, (2, 3)), "dtype-mismatch"),
    ],
    ids=str,
)
def test_mistakes(op: Topk, operand: TensorType, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([operand])
    assert caught.value.code == code
