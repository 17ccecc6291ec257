"""`concat`, `stack`, `split` and `chunk` against PyTorch, and as inverses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.declaration.base import Operator, OperatorError
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate
from archc.ops.combine import Chunk, Concat, Split, Stack
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, one_node, random

X = random(2, 7, 3)

CASES = [
    case(Concat(1), (random(2, 3), random(2, 4)), lambda a, b: torch.cat((a, b), 1)),
    case(Concat(-1), (random(2, 3), random(2, 4), random(2, 1)), lambda *all: torch.cat(all, 1)),
    case(Concat(), (random(2, 3), random(1, 3)), lambda a, b: torch.cat((a, b))),
    case(Concat(1), (X,), lambda a: a),
    case(Stack(), (random(2, 3), random(2, 3, seed=1)), lambda a, b: torch.stack((a, b))),
    case(Stack(-1), (random(2, 3), random(2, 3, seed=1)), lambda a, b: torch.stack((a, b), -1)),
    case(Split((2, 5), 1), X, lambda x: x.split((2, 5), 1)),
    case(Split(3, 1), X, lambda x: x.split(3, 1)),
    case(Split(1, -1), X, lambda x: x.split(1, -1)),
    case(Split(7, 1), X, lambda x: x),
    case(Split((3,), 2), X, lambda x: x),
    case(Chunk(3, 2), X, lambda x: x.chunk(3, 2)),
    case(Chunk(3, 1), X, lambda x: x.chunk(3, 1)),
    case(Chunk(5, 1), X, lambda x: x.chunk(5, 1)),  # four chunks
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(-2, 1))
@settings(max_examples=30, deadline=None)
def test_concat_is_the_inverse_of_split(sizes: list[int], dim: int) -> None:
    shape = [3, 3]
    shape[dim] = sum(sizes)
    whole = torch.arange(3 * sum(sizes)).reshape(shape)
    parts = list(evaluate(one_node(Split(tuple(sizes), dim), [whole], {}), {"x0": whole}).values())
    assert [part.shape[dim] for part in parts] == sizes
    graph = one_node(Concat(dim), parts, {})
    again = evaluate(graph, {f"x{number}": part for number, part in enumerate(parts)})["y0"]
    assert torch.equal(again, whole)


def test_symbolic_sizes() -> None:
    n, t = symbol("N"), symbol("T")
    a, b = TensorType(DType.f32, (n, t)), TensorType(DType.f32, (n, 3))
    assert Concat(1).infer([a, b]).results[0].shape == (n, t + 3)
    assert [str(r) for r in Split((1, t - 1), 1).infer([a]).results] == ["f32[N, 1]", "f32[N, T - 1]"]
    assert [str(r) for r in Chunk(2, 0).infer([TensorType(DType.f32, (2 * t,))]).results] == ["f32[T]"] * 2


def test_the_signature_follows_every_element() -> None:
    a = TensorType(DType.f32, (2, 3))
    assert str(Concat(1).signature_for([a, a])) == "x0[d0, p0], x1[d0, p1] -> y[d0, p0 + p1]"
    assert str(Split(2, 1).signature_for([a])) == "x[d0, p0 + p1] -> y0[d0, p0], y1[d0, p1]"


@pytest.mark.parametrize(
    ("op", "shapes", "code"),
    [
        (Concat(2), [(2, 3), (2, 3)], "bad-attribute"),
        (Concat(1), [(2, 3), (3, 3)], "shape-mismatch"),
        (Concat(1), [(2, 3), (2,)], "rank-mismatch"),
        (Concat(), [], "operand-count"),
        (Stack(), [(2, 3), (2, 4)], "shape-mismatch"),
        (Split((2, 2)), [(5,)], "shape-mismatch"),
        (Split(0), [(5,)], "bad-attribute"),
        (Split((6, -1)), [(5,)], "bad-attribute"),
        (Split(2), [(symbol("N"),)], "shape-mismatch"),
        (Chunk(0), [(5,)], "bad-attribute"),
        (Chunk(2), [(symbol("N"),)], "shape-mismatch"),
        (Split(2), [(4,), (4,)], "operand-count"),
    ],
    ids=str,
)
def test_mistakes(op: Operator, shapes: list[tuple[int, ...]], code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape) for shape in shapes])
    assert caught.value.code == code


@pytest.mark.parametrize("call", ["chunk(10001, 1)", "split(1, 1)", "chunk(100000000, 1)"])
def test_parts_beyond_counting_are_refused(call: str) -> None:
    with pytest.raises(ArchcError, match="the limit is"):
        archc.parse(f"model m {{ input x: f32[N, 100010000]  k = x -> {call}  output k[0] }}")
