"""Slices against NumPy, and lookups by tensors against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.declaration.base import OperatorError
from archc.interpreter.evaluate import evaluate
from archc.ops.index import Gather, IndexSelect, Slice
from archc.types.attributes import AttributeProblem
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, one_node, random

X = random(4, 5, 6)


class Brackets:
    """Notation for slices: `at[:, 0]` is the operator of `x[:, 0]`."""

    def __getitem__(self, items: Any) -> Slice:
        return Slice.from_arguments(items if isinstance(items, tuple) else (items,), {})


at = Brackets()

CASES = [
    case(at[:, 0], X, lambda x: x[:, 0]),
    case(at[:, 1:-1, ::2], X, lambda x: x[:, 1:-1, ::2]),
    case(at[..., -1], X, lambda x: x[..., -1]),
    case(at[:, -1, 2], X, lambda x: x[:, -1, 2]),
    case(at[2:, :3], X, lambda x: x[2:, :3]),
    case(at[:, -3:], X, lambda x: x[:, -3:]),
    case(at[:, 1:4:2, 5], X, lambda x: x[:, 1:4:2, 5]),
    case(at[...], X, lambda x: x),
    case(at[1:], X, lambda x: x[1:]),
    case(at[:-1], X, lambda x: x[:-1]),
    case(at[::3], X, lambda x: x[::3]),
    case(at[:, 3:2], X, lambda x: x[:, 3:2], onnx_reference=False),
    case(IndexSelect(1), (X, torch.tensor([4, 0, 0])), lambda x, i: x[:, i]),
    case(IndexSelect(-1), (X, torch.tensor([5, 1], dtype=torch.int32)), lambda x, i: x[..., i]),
    case(Gather(1), (X, integers(4, 2, 6, below=5)), lambda x, i: x.gather(1, i)),
    case(Gather(0), (X, integers(2, 5, 6, below=4, dtype=torch.int32)), lambda x, i: x.gather(0, i.long())),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


BOUND = st.none() | st.integers(-6, 6)
ITEM = st.builds(slice, BOUND, BOUND, st.none() | st.integers(1, 3))


@given(st.lists(ITEM | st.integers(-3, 2) | st.just(...), max_size=3).filter(lambda items: items.count(...) < 2))
@settings(max_examples=100, deadline=None)
def test_any_slice(items: list[Any]) -> None:
    numbers = np.arange(60).reshape(3, 4, 5)
    expected = numbers[tuple(items)]
    graph = one_node(Slice.from_arguments(items, {}), [torch.from_numpy(numbers)], {})
    found = evaluate(graph, {"x0": torch.from_numpy(numbers)})["y0"]
    assert graph.outputs["y0"].type.shape == expected.shape
    assert np.array_equal(found.numpy(), expected)


def test_symbolic_sizes() -> None:
    t = symbol("T", maximum=8)
    x = TensorType(DType.f32, (t, 8))

    def shape(op: Slice) -> str:
        return str(op.infer([x]).results[0])

    assert shape(at[1:]) == "f32[T - 1, 8]"
    assert shape(at[:-1]) == "f32[T - 1, 8]"
    assert shape(at[-1:]) == "f32[1, 8]"
    assert shape(at[:5]) == "f32[min(T, 5), 8]" or shape(at[:5]) == "f32[min(5, T), 8]"
    assert shape(at[:, :t]) == "f32[T, T]"  # T is at most 8
    assert shape(at[:, t:]) == "f32[T, -T + 8]"
    assert shape(at[: t // 2]) == "f32[T // 2, 8]"
    assert shape(at[: 2 * t]) == "f32[T, 8]"
    assert shape(at[::2]) == "f32[(T + 1) // 2, 8]"
    assert shape(at[t - 1]) == "f32[8]"
    assert str(at[:, : t - 1]) == "slice(:, :T - 1)"


def test_texts() -> None:
    op = at[:, 0, 1:-1, ::2, ...]
    assert op.arguments() == [":", "0", "1:-1", "::2", "..."]
    assert op == Slice(((None, None, None), 0, (1, -1, 1), (0, None, 2), ...))
    assert str(at[1:-1].signature_for([TensorType(DType.f32, (5, 2))])) == "x[a0 + d0 + b0, d1] -> y[d0, d1]"


@pytest.mark.parametrize(
    ("op", "code"),
    [
        (at[0, 0, 0], "rank-mismatch"),
        (at[..., 0, ...], "bad-attribute"),
        (at[3], "bad-attribute"),
        (at[:, -4], "bad-attribute"),
        (at[::-1], "bad-attribute"),
        (at[::0], "bad-attribute"),
    ],
    ids=str,
)
def test_mistakes(op: Slice, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, (3, 3))])
    assert caught.value.code == code


def test_items_that_are_no_slices() -> None:
    for positional, named in ((["a"], {}), ([True], {}), ([1.5], {}), ([slice("a", None)], {}), ([], {"dim": 1})):
        with pytest.raises(AttributeProblem):
            Slice.from_arguments(positional, named)


def test_indices_are_integers() -> None:
    x = TensorType(DType.f32, (3, 3))
    for op in (Gather(0), IndexSelect(0)):
        with pytest.raises(OperatorError) as caught:
            op.infer([x, TensorType(DType.f32, (3, 3) if op.name == "gather" else (3,))])
        assert caught.value.code == "dtype-mismatch"
