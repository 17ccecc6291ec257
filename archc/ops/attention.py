"""Scaled dot-product attention, with and without heads (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.declaration.axes import plain_axis
from archc.declaration.base import Inference, Operator, OperatorError, operator
from archc.declaration.checks import check_positive, check_probability
from archc.declaration.dtypes import BOOL, FLOATS, ONNX_WIDE
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, call, literal, method
from archc.declaration.traits import IMPURE, Blocks, Flexible, Rigid
from archc.types.attributes import attribute
from archc.types.dims import divide
from archc.types.extent_solver import Extent
from archc.types.signature import UNIT, Axis, Index, Pattern, Signature, parse_signature
from archc.types.tensor_type import DType, TensorType

_MASKED_SCORE = float("-inf")
"""Number added to the score of a masked key."""


@operator
class ScaledDotProductAttention(Operator):
    """Weighted sums of values, with weights from queries and keys: y = softmax(q kᵀ · scale + mask) v.

    Shapes: q[..., t, e], k[..., s, e], v[..., s, f] -> y[..., t, f].  A mask broadcasts to [..., t, s].  A bool mask is
    true for visible keys; a floating-point mask is added to q kᵀ · scale, so -inf hides a key.  `is_causal` hides all
    keys j > i from query i.  If a mask hides all keys from a query, the result of the query is zero.  In training, each
    weight of softmax becomes 0 with probability p = `dropout_p`, and the other weights are scaled by 1 / (1 - p).
    """

    signature = "q[*b, t, e], k[*b, s, e], v[*b, s, f], mask[*m]? -> y[*b, t, f]"
    dtypes = {"q": FLOATS, "k": "q", "v": "q", "mask": ("q", BOOL)}
    onnx_dtypes = ONNX_WIDE
    example = "(q, k, v) -> scaled_dot_product_attention(is_causal = true)"

    traits = (IMPURE.when("dropout_p"), Rigid("t", "s", "e"))

    is_causal: bool = attribute(False, keyword=True, doc="hide the keys after the position of each query")
    scale: float | None = attribute(None, keyword=True, doc="factor of q kᵀ, above 0; by default 1/√e")
    dropout_p: float = attribute(0.0, keyword=True, doc="probability that a weight becomes 0 in training")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 4 or types[0].rank < 2:
            return parse_signature("q[*b, t, e], k[*b, s, e], v[*b, s, f] -> y[*b, t, f]")
        scores = [plain_axis(f"b.{number}") for number in range(types[0].rank - 2)]
        return _with_mask("q[*b, t, e], k[*b, s, e], v[*b, s, f] -> y[*b, t, f]", types[3], scores)

    def check(self, types: Sequence[TensorType]) -> None:
        check_probability(self, "dropout_p")
        check_positive(self, "scale")  # PyTorch scales after it masks: -inf times a negative number is inf
        _check_mask(self, types, self.is_causal, types[0].shape[:-2])

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        # The signature is one contraction of all indices, but the operator computes two matrix products in sequence.
        # Their MACs are added.
        q, v = types[0].shape, types[2].shape
        total = q[-2] * v[-2] * (q[-1] + v[-1])
        for size in q[:-2]:
            total = total * size
        return total

    def torch(self, spell: TorchSpelling) -> str:
        q, k, v, *mask = spell.operands
        options = spell.options(
            dropout_p=(self.dropout_p, 0.0), is_causal=(self.is_causal, False), scale=(self.scale, None)
        )
        return _torch_attention(spell, (q, k, v), mask, options)

    def onnx(self, spell: OnnxSpelling) -> str:
        q, k, v, *mask = spell.operands
        width = spell.types[0].shape[-1]
        scale = _scale(spell, self.scale, width)
        axes = list(range(spell.types[1].rank))
        transposed = spell.add("Transpose", k, perm=[*axes[:-2], axes[-1], axes[-2]])
        sizes = spell.types[0].shape[-2], spell.types[1].shape[-2]
        return _onnx_attention(spell, (q, transposed, v), mask, scale, sizes if self.is_causal else None)


@operator
class Attention(Operator):
    """Multi-head attention: `scaled_dot_product_attention` of each head on its part of the last axis.

    Shapes: q[b, t, h·e], k[b, s, h·e], v[b, s, h·f] -> y[b, t, h·f].  With `kv_heads` = g < h, keys and values have g
    heads, each shared by h/g heads of the queries (Ainslie et al. 2023).  A mask broadcasts to [b, h, t, s].  A bool
    mask is true for visible keys; a floating-point mask is added to q kᵀ · scale, so -inf hides a key.  `causal` hides
    all keys j > i from query i.  If a mask hides all keys from a query, the result of the query is zero.  In training,
    each weight of softmax becomes 0 with probability p = `dropout`, and the other weights are scaled by 1 / (1 - p).
    """

    signature = "q[b, t, h*e], k[b, s, h*e], v[b, s, h*f], mask[*m]? -> y[b, t, h*f]"
    dtypes = {"q": FLOATS, "k": "q", "v": "q", "mask": ("q", BOOL)}
    onnx_dtypes = ONNX_WIDE
    example = "(q, k, v) -> attention(12, causal = true)"

    traits = (IMPURE.when("dropout"), Rigid("t", "s", "e"), Blocks("h", "g"), Flexible())

    heads: int = attribute(doc="number of heads of the queries")
    causal: bool = attribute(False, keyword=True, doc="hide the keys after the position of each query")
    kv_heads: int | None = attribute(None, keyword=True, doc="number of heads of keys and values; by default `heads`")
    scale: float | None = attribute(None, keyword=True, doc="factor of q kᵀ, above 0; by default 1/√e")
    dropout: float = attribute(0.0, keyword=True, doc="probability that a weight becomes 0 in training")

    @property
    def grouped(self) -> bool:
        """Return whether several heads of the queries share a head of the keys."""
        return self.kv_heads not in (None, self.heads)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        text = "q[b, t, h*e], k[b, s, h*e], v[b, s, h*f] -> y[b, t, h*f]"
        if self.grouped:
            text = "q[b, t, g*r*e], k[b, s, g*e], v[b, s, g*f] -> y[b, t, g*r*f]"
        if len(types) != 4:
            return parse_signature(text)
        heads = Axis(((Index("g"), Index("r")),)) if self.grouped else plain_axis("h")
        return _with_mask(text, types[3], [plain_axis("b"), heads])

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        if self.grouped and self.kv_heads:
            return {"g": self.kv_heads, "r": self.heads // self.kv_heads}
        return {"h": self.heads}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Attention:
        if self.grouped:
            return replace(self, heads=extents["g"] * extents["r"], kv_heads=extents["g"])
        return replace(self, heads=extents["h"], kv_heads=None if self.kv_heads is None else extents["h"])

    def check(self, types: Sequence[TensorType]) -> None:
        if self.heads < 1:
            raise OperatorError(
                "bad-attribute", f"`attention` expects at least 1 head, got {self.heads}", attribute="heads"
            )
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise OperatorError(
                "bad-attribute",
                f"`attention` expects `kv_heads` to divide {self.heads} heads, got {self.kv_heads}",
                attribute="kv_heads",
            )
        for position, operand in enumerate(types[:3]):
            heads = self.heads if position == 0 else self.kv_heads or self.heads
            if operand.rank == 3 and divide(operand.shape[2], heads) is None:
                raise OperatorError(
                    "shape-mismatch",
                    f"`attention` cannot split the last axis of {operand} into {heads} heads",
                    operand=position,
                    attribute="heads" if position == 0 or self.kv_heads is None else "kv_heads",
                )
        check_probability(self, "dropout")
        check_positive(self, "scale")
        _check_mask(self, types, self.causal, (*types[0].shape[:1], self.heads))

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        # The signature is one contraction of all indices, but the operator computes two matrix products in sequence.
        # Their MACs are added.
        (b, t, query_width), s = types[0].shape, types[1].shape[1]
        return b * t * s * (query_width + inference.results[0].shape[2])

    def torch(self, spell: TorchSpelling) -> str:
        q, k, v, *mask = spell.operands
        counts = (self.heads, self.kv_heads or self.heads, self.kv_heads or self.heads)
        q, k, v = (
            method(method(one, "unflatten", 2, (heads, -1)), "transpose", 1, 2) for one, heads in zip((q, k, v), counts)
        )
        options = spell.options(dropout=(self.dropout, 0.0), causal=(self.causal, False), scale=(self.scale, None))
        if self.grouped or "kv_heads" in spell.varying:
            options["grouped"] = self.grouped
        joined = _torch_attention(spell, (q, k, v), mask, options)
        return method(method(joined, "transpose", 1, 2), "flatten", 2)

    def onnx(self, spell: OnnxSpelling) -> str:
        q, k, v, *mask = spell.operands
        (b, t, query_width), (_, s, _) = spell.types[0].shape, spell.types[1].shape
        keys = self.kv_heads or self.heads
        width, value_width = divide(query_width, self.heads), divide(spell.types[2].shape[2], keys)
        assert width is not None and value_width is not None, "`check` accepts divisible widths only"
        query = spell.reshape(q, (b, t, self.heads, width))
        query = spell.add("Transpose", query, perm=[0, 2, 1, 3])
        key = spell.add("Transpose", spell.reshape(k, (b, s, keys, width)), perm=[0, 2, 3, 1])
        value = spell.add("Transpose", spell.reshape(v, (b, s, keys, value_width)), perm=[0, 2, 1, 3])
        if self.grouped:
            key, value = (
                self._repeated(spell, one, (b, keys, *rest))
                for one, rest in ((key, (width, s)), (value, (s, value_width)))
            )
        scale = _scale(spell, self.scale, width)
        heads = _onnx_attention(spell, (query, key, value), mask, scale, (t, s) if self.causal else None)
        joined = spell.add("Transpose", heads, perm=[0, 2, 1, 3])
        return spell.reshape(joined, spell.results[0].shape)

    def _repeated(self, spell: OnnxSpelling, value: str, shape: Sequence[Extent]) -> str:
        """Repeat each head of keys or values for the heads of queries that share it: [b, g, …] to [b, g·r, …]."""
        b, g, *rest = shape
        shared = self.heads // (self.kv_heads or self.heads)
        wider = spell.add("Unsqueeze", value, spell.constant([2]))
        wider = spell.add("Expand", wider, spell.shape((b, g, shared, *rest)))
        return spell.reshape(wider, (b, self.heads, *rest))


def _with_mask(text: str, mask: TensorType, leading: Sequence[Axis]) -> Signature:
    """The signature `text` with a mask that broadcasts from the right to the scores [*leading, t, s]."""
    known = parse_signature(text)
    scores = [*leading, plain_axis("t"), plain_axis("s")]
    own = scores[len(scores) - mask.rank :] if mask.rank <= len(scores) else scores
    axes = tuple(UNIT if size == 1 else axis for axis, size in zip(own, mask.shape, strict=False))
    return Signature((*known.operands, Pattern("mask", axes)), known.results)


def _check_mask(op: Operator, types: Sequence[TensorType], causal: bool, leading: Sequence[Extent]) -> None:
    """Check that a mask broadcasts to the scores [*leading, t, s].

    Raises:
        OperatorError: the mask does not broadcast, or the operator has a causal mask already (`bad-attribute`).
    """
    if len(types) != 4:
        return
    if causal:
        raise OperatorError(
            "bad-attribute",
            f"`{op.name}` takes a mask or is causal, not both",
            operand=3,
            help="add the causal mask to the mask",
        )
    rank = len(leading) + 2
    if not 2 <= types[3].rank <= rank:
        raise OperatorError(
            "rank-mismatch", f"`{op.name}` expects a mask of 2 to {rank} axes, got {types[3]}", operand=3
        )
    if min(types[0].rank, types[1].rank) > 2:
        _check_batch_of_masks(op, types[3], (*leading, types[0].shape[-2], types[1].shape[-2]))


def _check_batch_of_masks(op: Operator, mask: TensorType, scores: Sequence[Extent]) -> None:
    """Reject a mask [b, s] or [b, t, s] that lacks axes of size 1 after the batch axis.

    Raises:
        OperatorError: the mask lacks axes (`shape-mismatch`); the help is code that inserts these axes.
    """

    def broadcasts(shape: Sequence[Extent]) -> bool:
        return len(shape) == mask.rank and all(own in (1, size) for own, size in zip(mask.shape, shape))

    if broadcasts(scores[-mask.rank :]):
        return
    if broadcasts((scores[0], scores[-1])) or broadcasts((scores[0], *scores[-2:])):
        way = " -> ".join(["unsqueeze(1)"] * (len(scores) - mask.rank))
        raise OperatorError(
            "shape-mismatch",
            f"`{op.name}` expects a mask that broadcasts to [{', '.join(map(str, scores))}], got {mask}",
            operand=3,
            help=f"insert axes after the batch axis: `mask -> {way}`",
        )


_TORCH_NAMES = {"dropout": "dropout_p", "causal": "is_causal", "grouped": "enable_gqa"}
"""Keywords of PyTorch's function for the options of `attention`."""


def _torch_attention(
    spell: TorchSpelling, operands: Sequence[str], mask: Sequence[str], options: Mapping[str, Any]
) -> str:
    named: dict[str, Any] = {"attn_mask": Verbatim(mask[0])} if mask else {}
    for option, value in options.items():
        name = _TORCH_NAMES.get(option, option)
        if name != "dropout_p":
            named[name] = value
        elif spell.training is not None:
            named[name] = Verbatim(f"{literal(value)} if {spell.training} else 0.0")
    return call("F.scaled_dot_product_attention", *operands, **named)


def _scale(spell: OnnxSpelling, scale: float | None, width: Extent) -> str:
    """ONNX name of the factor of the scores: the attribute, or 1/√width by default."""
    dtype = spell.types[0].dtype
    if scale is not None:
        return spell.constant(scale, dtype)
    if isinstance(width, int):
        return spell.constant(1 / math.sqrt(width), dtype)
    root = spell.add("Sqrt", spell.add("Cast", spell.size(width), to=dtype))
    return spell.add("Reciprocal", root)


def _onnx_attention(
    spell: OnnxSpelling,
    operands: tuple[str, str, str],
    mask: Sequence[str],
    scale: str,
    causal: tuple[Extent, Extent] | None,
) -> str:
    """Add the nodes of softmax(q k · scale + mask) v.

    Args:
        operands: q, k and v; k is transposed already.
        causal: the sizes t and s of the causal mask; None without a causal mask.
    """
    query, key, value = operands
    dtype = spell.types[0].dtype
    scores = spell.add("MatMul", spell.add("Mul", query, scale), key)
    if causal is not None:
        ones = spell.add("Expand", spell.constant(1.0, DType.f32), spell.shape(causal))
        visible = spell.add("Cast", spell.add("Trilu", ones, upper=0), to=DType.bool)
        scores = spell.add("Where", visible, scores, spell.constant(_MASKED_SCORE, dtype))
    elif mask and spell.types[3].dtype is DType.bool:
        scores = spell.add("Where", mask[0], scores, spell.constant(_MASKED_SCORE, dtype))
    elif mask:
        scores = spell.add("Add", scores, mask[0])
    result = spell.add("MatMul", spell.add("Softmax", scores, axis=-1), value)
    if not mask:
        return result
    return spell.add("Where", _fully_masked(spell, mask[0]), spell.constant(0.0, dtype), result)


def _fully_masked(spell: OnnxSpelling, mask: str) -> str:
    """ONNX name of a bool tensor [..., t, 1] that is true for queries from which the mask hides all keys.

    The shape is [..., 1, 1] if the mask has one row for all queries.
    """
    dtype = spell.types[3].dtype
    last = spell.constant([spell.types[3].rank - 1])  # ONNX Runtime cannot reduce an axis of size 0 that is given as -1
    if dtype is DType.bool:
        count = spell.add("ReduceSum", spell.add("Cast", mask, to=DType.f32), last, keepdims=1)
        return spell.add("Equal", count, spell.constant(0.0, DType.f32))
    largest = spell.add("ReduceMax", mask, last, keepdims=1)
    return spell.add("Equal", largest, spell.constant(_MASKED_SCORE, dtype))
