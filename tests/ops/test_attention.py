"""Attention against PyTorch and against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from archc.declaration.base import Operator, OperatorError
from archc.declaration.spelling import TorchSpelling
from archc.ops.attention import Attention, ScaledDotProductAttention
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, random
from tests.ops.operands import type_of

Q, K, V = random(2, 5, 24), random(2, 7, 24, seed=1), random(2, 7, 12, seed=2)
ROWS = torch.ones(5, 7).tril().bool()


def by_hand(
    heads: int, kv_heads: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """Compute attention by the formula, head by head."""
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


def zero_where_blind(result: Tensor) -> Tensor:
    """Replace NaN by 0: for queries that see no key, the formula gives 0/0."""
    return result.nan_to_num()


EVERY = torch.ones(5, 7).bool()
PADDING = (integers(2, 1, 1, 7, below=3) > 0) | (torch.arange(7) == 0)
BIAS = random(4, 5, 7, seed=3)
PADDED = (torch.arange(7) < torch.tensor([[4], [0]]))[:, None, None]
"""The second sample consists of padding."""
PADDED_SIDES = PADDED & PADDED[..., :5].transpose(2, 3)
BLIND = ROWS & (torch.arange(5) != 2)[:, None]
HALVES = [tensor.half() for tensor in (Q, K, V)]


def added(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert a bool mask to numbers to add, 0 and -inf."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


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
    *(
        case(
            Attention(4),
            (Q, K, V, mask),
            lambda q, k, v, m: zero_where_blind(by_hand(4, 4, q, k, v, m)),
            symbolic=[{0: "N"}, {0: "N"}, {0: "N"}, {0: "N"} if mask.dim() == 4 else {}],
        )
        for known in (PADDED, PADDED_SIDES, BLIND)
        for mask in (known, added(known))
    ),
    *(
        case(
            Attention(4),
            (*HALVES, mask),
            lambda q, k, v, m: zero_where_blind(
                by_hand(4, 4, q.float(), k.float(), v.float(), m if m.dtype is torch.bool else m.float())
            ).half(),
            rtol=2e-3,
            atol=2e-3,
            symbolic=[],
        )
        for mask in (PADDED, added(PADDED, torch.float16), BLIND, added(BLIND, torch.float16))
    ),
    *(
        case(
            ScaledDotProductAttention(),
            [tensor.double() for tensor in (Q, K, V)] + [mask],
            lambda q, k, v, m: zero_where_blind(by_hand(1, 1, q, k, v, m)),
            rtol=1e-12,
            atol=1e-12,
            symbolic=[],
        )
        for mask in (BLIND, added(BLIND, torch.float64))
    ),
    case(
        ScaledDotProductAttention(is_causal=True),
        (random(2, 7, 4), random(2, 3, 4, seed=1), random(2, 3, 4, seed=2)),
        lambda q, k, v: (
            torch.softmax((q @ k.mT / 2).masked_fill(~torch.ones(7, 3).tril().bool(), float("-inf")), -1) @ v
        ),
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "mask", [PADDED, added(PADDED), BLIND, added(BLIND)], ids=["rows", "-inf", "some", "some -inf"]
)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_finite_where_a_query_sees_no_key(mask: Tensor, dtype: torch.dtype, dropout: float) -> None:
    inputs = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (Q, K, V)]
    given = mask if mask.dtype is torch.bool else mask.to(dtype)
    types = [type_of(tensor, {}) for tensor in (*inputs, given)]
    op = Attention(4, dropout=dropout)
    names = ("q", "k", "v", "mask")
    text = op.torch(TorchSpelling(names, {}, types, op.infer(types).results, {}, str, {}, training="True"))
    result = eval(text, {"F": functional, **dict(zip(names, (*inputs, given)))})
    result.float().square().sum().backward()
    for tensor in (result, *(one.grad for one in inputs)):
        assert tensor is not None and tensor.isfinite().all()


def test_cost() -> None:
    """Both matrix products count: b·h·t·s·(e + f)."""
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
        (Attention(4, causal=True, scale=-0.5), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
        (ScaledDotProductAttention(scale=0.0), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
        (ScaledDotProductAttention(dropout_p=-0.1), [(2, 5, 24)] * 3, "f32 f32 f32", "bad-attribute"),
    ],
)
def test_mistakes(op: Operator, shapes: list[tuple[int, ...]], dtypes: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), shape) for dtype, shape in zip(dtypes.split(), shapes)])
    assert caught.value.code == code


@pytest.mark.parametrize("op", [Attention(4), ScaledDotProductAttention()])
@pytest.mark.parametrize("mask", [(2, 7), (2, 5, 7), (2, 1, 7), (2, 5, 1), (5, 7), (1, 7)])
def test_the_help_for_a_mask_without_an_axis_of_heads(op: Operator, mask: tuple[int, ...]) -> None:
    shapes = [(2, 5, 24), (2, 7, 24), (2, 7, 24)]
    types = [TensorType(DType.f32, shape) for shape in shapes]
    rank = 4 if isinstance(op, Attention) else 3
    if mask[0] != 2 or len(mask) == rank:
        op.infer([*types, TensorType(DType.bool, mask)])
        return
    with pytest.raises(OperatorError) as caught:
        op.infer([*types, TensorType(DType.bool, mask)])
    inserted = (caught.value.help or "").count("unsqueeze(1)")
    op.infer([*types, TensorType(DType.bool, (2, *[1] * inserted, *mask[1:]))])
