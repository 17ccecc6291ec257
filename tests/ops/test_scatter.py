"""`scatter` against a loop over the elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from archc.declaration.base import OperatorError
from archc.ops.index import Scatter
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

X = random(4, 5, 6)


def permutation(*shape: int, dim: int) -> torch.Tensor:
    """Random permutations of the positions along an axis."""
    return random(*shape, seed=7).argsort(dim)


def written(dim: int) -> Callable[..., torch.Tensor]:
    """Return a function that scatters element by element."""

    def scattered(x: torch.Tensor, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        for place in np.ndindex(*index.shape):
            target = list(place)
            target[dim] = int(index[place])
            y[tuple(target)] = src[place]
        return y

    return scattered


CASES = [
    case(Scatter(1), (X, permutation(4, 5, 6, dim=1)[:, :2], random(4, 2, 6, seed=1)), written(1)),
    case(Scatter(-1), (X, permutation(4, 5, 6, dim=2)[:3, :, :4], random(3, 5, 4, seed=1)), written(2)),
    case(Scatter(0), (X, permutation(4, 5, 6, dim=0).int(), random(4, 5, 6, seed=1)), written(0), symbolic=[]),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_it_moves_elements_and_multiplies_none() -> None:
    types = [tensor_type(text) for text in ("f32[3, 5]", "i64[3, 2]", "f32[3, 2]")]
    assert Scatter(1).multiply_adds(Scatter(1).infer(types), types) == 0


@pytest.mark.parametrize(
    ("index", "src", "code"),
    [
        ("i64[2]", "f32[2]", "rank-mismatch"),
        ("i64[3, 2]", "f32[2]", "rank-mismatch"),
        ("i64[4, 2]", "f32[4, 2]", "shape-mismatch"),
        ("i64[3, 2]", "f32[3, 3]", "shape-mismatch"),
        ("f32[3, 2]", "f32[3, 2]", "dtype-mismatch"),
        ("i64[3, 2]", "i64[3, 2]", "dtype-mismatch"),
    ],
)
def test_operands_that_do_not_fit(index: str, src: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        Scatter(1).infer([TensorType(DType.f32, (3, 5)), *(tensor_type(text) for text in (index, src))])
    assert caught.value.code == code


def tensor_type(text: str) -> TensorType:
    dtype, sizes = text.rstrip("]").split("[")
    return TensorType(DType(dtype), tuple(int(size) for size in sizes.split(",")))
