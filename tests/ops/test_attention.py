"""Attention against PyTorch's, and against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from archc.ir.dims import symbol
from archc.ir.types import DType, TensorType
from archc.ops.attention import Attention, ScaledDotProductAttention
from archc.ops.operator import Operator, OperatorError
from tests.ops.harness import Case, case, integers, random

Q, K, V = random(2, 5, 24), random(2, 7, 24, seed=1), random(2, 7, 12, seed=2)
ROWS = torch.ones(5, 7).tril().bool()


def by_hand(
    heads: int, kv_heads: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """Head after head, as the formula has it."""
    results = []
    for head in range(heads):
        own = head // (heads // kv_heads)
        a = q.chunk(heads, 2)[head]
        b, c = k.chunk(kv_heads, 2)[own], v.chunk(kv_heads, 2)[own]
        scores = torch.einsum("bte,bse->bts", a, b) * (scale or 1 / math.sqrt(a.shape[2]))
        part = mask if mask.dim() < 4 else mask.expand(2, heads, 5, 7)[:, head]
        scores = scores.masked_fill(~part, float("-inf")) if part.dtype is torch.bool else scores + part
        results.append(scores.softmax(2) @ c)
    return torch.cat(results, 2)


EVERY = torch.ones(5, 7).bool()
PADDING = (integers(2, 1, 1, 7, below=3) > 0) | (torch.arange(7) == 0)
BIAS = random(4, 5, 7, seed=3)

CASES = [
    case(Attention(4), (Q, K, V), lambda q, k, v: by_hand(4, 4, q, k, v, EVERY)),
    case(Attention(1), (Q, K, V), lambda q, k, v: by_hand(1, 1, q, k, v, EVERY)),
    case(Attention(4, causal=True), (Q, K, V), lambda q, k, v: by_hand(4, 4, q, k, v, ROWS)),
    case(Attention(4, scale=0.3), (Q, K, V), lambda q, k, v: by_hand(4, 4, q, k, v, EVERY, 0.3)),
    case(
        Attention(6, kv_heads=2),
        (Q, K[..., :8], V[..., :4]),
        lambda q, k, v: by_hand(6, 2, q, k, v, EVERY),
    ),
    case(
        Attention(6, kv_heads=2, causal=True),
        (Q, K[..., :8], V[..., :4]),
        lambda q, k, v: by_hand(6, 2, q, k, v, ROWS),
        symbolic=[{0: "N", 1: "T"}, {0: "N", 1: "S"}, {0: "N", 1: "S"}],
    ),
    case(
        Attention(4),
        (Q, K, V, PADDING),
        lambda q, k, v, m: by_hand(4, 4, q, k, v, m),
        symbolic=[{0: "N"}, {0: "N"}, {0: "N"}, {0: "N"}],
    ),
    case(
        Attention(4),
        (Q, K, V, BIAS),
        lambda q, k, v, m: by_hand(4, 4, q, k, v, m[None]),
        symbolic=[{0: "N"}, {0: "N"}, {0: "N"}, {}],
    ),
    case(Attention(4, dropout=0.5), (Q, K, V), lambda q, k, v: by_hand(4, 4, q, k, v, EVERY)),
    case(
        ScaledDotProductAttention(dropout_p=0.5),
        (random(2, 3, 5, 4), random(2, 3, 6, 4, seed=1), random(2, 3, 6, 2, seed=2)),
        functional.scaled_dot_product_attention,
    ),
    case(
        ScaledDotProductAttention(),
        (random(2, 3, 5, 4), random(2, 3, 6, 4, seed=1), random(2, 3, 6, 2, seed=2)),
        functional.scaled_dot_product_attention,
    ),
    case(
        ScaledDotProductAttention(is_causal=True, scale=0.5),
        (random(3, 5, 4), random(3, 5, 4, seed=1), random(3, 5, 4, seed=2)),
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5),
    ),
    case(
        ScaledDotProductAttention(),
        (random(3, 5, 4), random(3, 7, 4, seed=1), random(3, 7, 4, seed=2), ROWS),
        functional.scaled_dot_product_attention,
    ),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_cost() -> None:
    """Both products count: b·h·t·s·(e + f)."""
    n = symbol("N")
    types = [TensorType(DType.f32, (n, 5, 24)), TensorType(DType.f32, (n, 7, 24)), TensorType(DType.f32, (n, 7, 12))]
    assert Attention(4).multiply_adds(Attention(4).infer(types), types) == n * 4 * 5 * 7 * (6 + 3)
    plain = ScaledDotProductAttention()
    assert plain.multiply_adds(plain.infer(types), types) == n * 5 * 7 * (24 + 12)


def test_the_signature_names_the_heads() -> None:
    q = TensorType(DType.f32, (2, 5, 24))
    assert str(Attention(4).infer([q, q, q]).solution.signature) == (
        "q[b, t, h*e], k[b, s, h*e], v[b, s, h*f] -> y[b, t, h*f]"
    )
    assert "y[b, t, g*r*f]" in str(Attention(4, kv_heads=2).signature_for([q, q, q]))


@pytest.mark.parametrize(
    ("op", "shapes", "dtypes", "code"),
    [
        (Attention(5), [(2, 5, 24)] * 3, "f32 f32 f32", "shape-mismatch"),
        (Attention(0), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
        (Attention(4, kv_heads=3), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
        (Attention(4), [(2, 5, 24)] * 3, "f32 f32 f16", "dtype-mismatch"),
        (Attention(4), [(5, 24)] * 3, "f32 f32 f32", "rank-mismatch"),
        (Attention(4), [(2, 5, 24), (2, 5, 12), (2, 5, 24)], "f32 f32 f32", "shape-mismatch"),
        (Attention(4, causal=True), [(2, 5, 24)] * 3 + [(5, 5)], "f32 f32 f32 bool", "bad-attribute"),
        (Attention(4), [(2, 5, 24)] * 3 + [(5,)], "f32 f32 f32 bool", "rank-mismatch"),
        (Attention(4), [(2, 5, 24)] * 3 + [(5, 6)], "f32 f32 f32 bool", "shape-mismatch"),
        (Attention(4), [(2, 5, 24)] * 3 + [(5, 5)], "f32 f32 f32 i64", "dtype-mismatch"),
        (Attention(4), [(2, 5, 24)] * 2, "f32 f32", "operand-count"),
        (Attention(4, dropout=1.5), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
        (ScaledDotProductAttention(dropout_p=-0.1), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
    ],
)
def test_mistakes(op: Operator, shapes: list[tuple[int, ...]], dtypes: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), shape) for dtype, shape in zip(dtypes.split(), shapes)])
    assert caught.value.code == code
