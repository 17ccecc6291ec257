"""`rearrange` against reshape and transpose by hand, and its special cases against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.declaration.base import Operator, OperatorError
from archc.declaration.spelling import TorchSpelling
from archc.interpreter.evaluate import evaluate
from archc.ops.rearrange import Flatten, Permute, Rearrange, Squeeze, Transpose, Unflatten, Unsqueeze
from archc.types.attributes import AttributeProblem
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, one_node, random

X = random(2, 3, 4, 6)


def rearrange(pattern: str, **sizes: int) -> Rearrange:
    return Rearrange.from_arguments([pattern], sizes)


CASES = [
    case(rearrange("b t (h e) -> b h t e", h=4), random(2, 3, 8), lambda x: x.view(2, 3, 4, 2).transpose(1, 2)),
    case(rearrange("b h t e -> b t (h e)"), X, lambda x: x.permute(0, 2, 1, 3).reshape(2, 4, 18)),
    case(rearrange("n *d -> n (*d)"), X, lambda x: x.reshape(2, 72)),
    case(rearrange("n *d c -> n c *d"), X, lambda x: x.permute(0, 3, 1, 2)),
    case(rearrange("w (g c) -> w (c g)", g=3), random(2, 6), lambda x: x.view(2, 3, 2).transpose(1, 2).reshape(2, 6)),
    case(rearrange("b 1 t -> t b 1 1"), random(2, 1, 3), lambda x: x[:, 0].T[..., None, None]),
    case(rearrange("a b -> a b"), random(2, 3), lambda x: x),
    case(rearrange("a b c d -> (a b) (c d)"), X, lambda x: x.reshape(6, 24)),
    case(rearrange("a -> () a"), random(3), lambda x: x[None]),
    case(Flatten(), X, lambda x: x.flatten(1)),
    case(Flatten(0), X, lambda x: x.flatten()),
    case(Flatten(1, 2), X, lambda x: x.flatten(1, 2)),
    case(Flatten(-2), X, lambda x: x.flatten(-2)),
    case(Unflatten(3, (2, -1)), X, lambda x: x.view(2, 3, 4, 2, 3)),
    case(Unflatten(-1, (3, 2)), X, lambda x: x.view(2, 3, 4, 3, 2)),
    case(Transpose(1, 2), X, lambda x: x.transpose(1, 2)),
    case(Transpose(-1, 0), X, lambda x: x.transpose(0, 3)),
    case(Permute((0, 2, 3, 1)), X, lambda x: x.permute(0, 2, 3, 1)),
    case(Permute(()), random(), lambda x: x.permute(())),
    case(Permute((-1, 0, 1, 2)), X, lambda x: x.permute(3, 0, 1, 2)),
    case(Squeeze(1), random(2, 1, 3), lambda x: x.squeeze(1)),
    case(Squeeze((1, -1)), random(2, 1, 3, 1), lambda x: x[:, 0, :, 0]),
    case(Squeeze(), random(2, 1, 3, 1), lambda x: x.squeeze()),
    case(Unsqueeze(1), random(2, 3), lambda x: x[:, None]),
    case(Unsqueeze(-1), random(2, 3), lambda x: x[..., None]),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@st.composite
def rearrangements(draw: st.DrawFn) -> tuple[str, dict[str, int], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Draw a pattern, and the reshape and transpose that it means.

    Returns:
        The pattern, its sizes, the operand's shape, the permutation of the factors, and the sizes of the factors
        followed by the result's shape.
    """
    names = list("abcde")[: draw(st.integers(1, 5))]
    sizes = {name: draw(st.integers(1, 3)) for name in names}
    order = draw(st.permutations(names))

    def grouped(flat: list[str]) -> tuple[str, tuple[int, ...], set[str]]:
        texts, shape, inner = [], [], set()
        while flat:
            group = [flat.pop(0) for _ in range(min(len(flat), draw(st.integers(1, 3))))]
            texts.append(f"({' '.join(group)})" if len(group) > 1 or draw(st.booleans()) else group[0])
            shape.append(math.prod(sizes[name] for name in group))
            inner.update(group[1:])
            if draw(st.integers(0, 5)) == 0:
                texts.append("1")
                shape.append(1)
        return " ".join(texts), tuple(shape), inner

    left, operand, told = grouped(list(names))
    right, result, _ = grouped(list(order))
    permutation = tuple(names.index(name) for name in order)
    return f"{left} -> {right}", {name: sizes[name] for name in told}, operand, permutation, (*sizes.values(), *result)


@given(rearrangements())
@settings(max_examples=60, deadline=None)
def test_any_pattern(drawn: tuple[str, dict[str, int], tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> None:
    pattern, sizes, shape, permutation, more = drawn
    factors, result = more[: len(permutation)], more[len(permutation) :]
    numbers = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    expected = numbers.reshape(factors).transpose(permutation).reshape(result)
    graph = one_node(rearrange(pattern, **sizes), [torch.from_numpy(numbers)], {})
    found = evaluate(graph, {"x0": torch.from_numpy(numbers)})["y0"]
    assert graph.outputs["y0"].type.shape == result
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        (rearrange("b t (h e) -> b h t e", h=12), ("B", "T", 768), "x.unflatten(2, (12, -1)).transpose(1, 2)"),
        (rearrange("b h t e -> b t (h e)"), ("B", 12, "T", 64), "x.transpose(1, 2).flatten(2)"),
        (rearrange("n h w c -> n c h w"), ("N", 8, 8, 3), "x.permute(0, 3, 1, 2)"),
        (rearrange("n c h w -> n (h w) c"), ("N", 3, 8, 8), "x.permute(0, 2, 3, 1).flatten(1, 2)"),
        (rearrange("a b -> a 1 b"), ("N", 3), "x.unsqueeze(1)"),
        (Flatten(), ("N", 3, 8), "x.flatten(1)"),
        (Transpose(1, -1), ("N", 3, 8), "x.transpose(1, -1)"),
    ],
    ids=str,
)
def test_torch_text(op: Operator, shape: tuple[Any, ...], text: str) -> None:
    """The emitted text has no symbolic sizes and no steps without effect, like hand-written code."""
    operand = TensorType(DType.f32, tuple(symbol(size) if isinstance(size, str) else size for size in shape))
    inference = op.infer([operand])
    spelling = TorchSpelling(["x"], {}, [operand], inference.results, inference.solution.extents, str, {})
    assert op.torch(spelling) == text


def test_text_and_back() -> None:
    op = rearrange("b t (h e) -> b h t e", h=12)
    assert str(op) == 'rearrange("b t (h e) -> b h t e", h = 12)'
    assert str(op.signature_for([TensorType(DType.f32, (2, 3, 24))])) == "x[b, t, h*e] -> y[b, h, t, e]"


@pytest.mark.parametrize(
    ("pattern", "sizes", "shape", "code"),
    [
        ("a b", {}, (2, 3), "bad-pattern"),
        ("a -> b -> c", {}, (2,), "bad-pattern"),
        ("a b -> a", {}, (2, 3), "bad-pattern"),
        ("a -> a b", {}, (2,), "bad-pattern"),
        ("a a -> a a", {}, (2, 2), "bad-pattern"),
        ("(a b -> a b", {}, (2, 3), "bad-pattern"),
        ("a b) -> a b", {}, (2, 3), "bad-pattern"),
        ("((a b)) -> a b", {}, (2, 3), "bad-pattern"),
        ("a * b -> a b", {}, (2, 3), "bad-pattern"),
        ("*a *b -> *a *b", {}, (2, 3), "bad-pattern"),
        ("(*a) -> *a", {}, (6,), "bad-pattern"),
        ("a b -> b a", {"c": 2}, (2, 3), "unknown-attribute"),
        ("*a -> (*a)", {"a": 2}, (2, 3), "unknown-attribute"),
        ("a b -> b a", {"a": 0}, (2, 3), "bad-attribute"),
        ("a b -> b a", {"a": 5}, (2, 3), "shape-mismatch"),
        ("(a b) -> b a", {"a": 4}, (6,), "shape-mismatch"),
        ("(a b) -> b a", {}, (6,), "shape-mismatch"),
        ("a 1 -> a", {}, (2, 3), "shape-mismatch"),
        ("a b -> b a", {}, (2,), "rank-mismatch"),
    ],
)
def test_mistakes(pattern: str, sizes: dict[str, int], shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        rearrange(pattern, **sizes).infer([TensorType(DType.f32, shape)])
    assert caught.value.code == code


def test_sizes_are_sizes() -> None:
    for positional, named in (([], {}), (["a -> a"], {"a": 1.5}), (["a -> a"], {"a": True}), ([3], {})):
        with pytest.raises(AttributeProblem):
            Rearrange.from_arguments(positional, named)


@pytest.mark.parametrize(
    ("op", "shape", "code"),
    [
        (Flatten(2, 1), (2, 3, 4), "bad-attribute"),
        (Flatten(1), (2,), "bad-attribute"),
        (Unflatten(0, (-1, -1)), (4,), "bad-attribute"),
        (Unflatten(0, (3, -1)), (4,), "shape-mismatch"),
        (Unflatten(0, (2, 3)), (4,), "shape-mismatch"),
        (Transpose(0, 2), (2, 3), "bad-attribute"),
        (Permute((0, 0)), (2, 3), "bad-attribute"),
        (Permute((0,)), (2, 3), "bad-attribute"),
        (Squeeze(1), (2, 3), "shape-mismatch"),
        (Unsqueeze(3), (2, 3), "bad-attribute"),
    ],
    ids=str,
)
def test_mistakes_of_special_cases(op: Operator, shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape)])
    assert caught.value.code == code
