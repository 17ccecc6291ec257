"""`matmul` against PyTorch, and its cost."""

from __future__ import annotations

import pytest
import torch

from archc.declaration.base import OperatorError
from archc.ops.matmul import Matmul
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

CASES = [
    case(Matmul(), (random(3, 4), random(4, 5)), torch.matmul),
    case(Matmul(), (random(2, 3, 4), random(2, 4, 5)), torch.matmul),
    case(Matmul(), (random(2, 1, 3, 4), random(6, 4, 5)), torch.matmul, symbolic=[{0: "N"}, {0: "M"}]),
    case(Matmul(), (random(3, 4), random(2, 4, 5)), torch.matmul, symbolic=[{}, {0: "N"}]),
    case(Matmul(), (random(2, 3, 4), random(1, 4, 5)), torch.matmul),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_multiply_adds() -> None:
    n = symbol("N")
    types = [TensorType(DType.f32, (n, 3, 4)), TensorType(DType.f32, (4, 5))]
    assert Matmul().multiply_adds(Matmul().infer(types), types) == n * 60


@pytest.mark.parametrize(("left", "right"), [((3, 4), (5, 6)), ((4,), (4, 5)), ((2, 3, 4), (3, 4, 5))])
def test_shapes_that_do_not_fit(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(OperatorError) as caught:
        Matmul().infer([TensorType(DType.f32, left), TensorType(DType.f32, right)])
    assert caught.value.code in ("shape-mismatch", "rank-mismatch")
