"""Quantization to 8-bit integers: x ≈ scale · (q - zero_point).

The semantics are those of ONNX's QuantizeLinear, DynamicQuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias

from archc.declaration.axes import plain_axes
from archc.declaration.base import Operator, OperatorError, operator, symbolic
from archc.declaration.dtypes import EIGHT_BIT, FLOATS, ONNX_ALL, ONNX_F32, ONNX_SINGLE, dtype_set
from archc.declaration.parameter import Parameter, ones, zeros
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling, call, infix, method
from archc.declaration.traits import DECODES
from archc.types.attributes import attribute
from archc.types.signature import Pattern, Signature
from archc.types.tensor_type import DType, TensorType

_NARROW = dtype_set("f16 bf16")
RANGES = {DType.u8: (0, 255), DType.i8: (-128, 127)}
"""Smallest and largest integer of each dtype."""
_MIDDLE = 128
LEAST_SCALE = 1e-30
Granularity: TypeAlias = Literal["tensor", "token"]


@operator
class Quantize(Operator):
    """Quantization to 8 bits: q = saturate(round(x / scale) + zero_point), with halves rounded to even.

    The results are q, scale and zero_point, the operands of `dequantize`.  Scale and zero point are buffers: one of
    each, or one for each position along `axis`.  With `dynamic` there are no buffers: scale and zero point follow from
    the range of the data (from its minimum to its maximum, extended to include 0).

    With `granularity = "token"` there is a scale for each position of all axes but the last: max|x| / 127 along the
    last axis, and at least 1e-30.  The zero point is 128, so the range is symmetric.  A sum of products with the
    weights then needs no correction for the zero point, and a token does not depend on the others of its batch.

    The result for NaN is not defined, nor is a dynamic range of infinite data.
    """

    signature = "x[*s], scale[], zero_point[] -> q[*s], scale_of[], zero_point_of[]"
    parameters = {"scale": Parameter(ones, trainable=False), "zero_point": Parameter(zeros, trainable=False)}
    dtypes = FLOATS
    onnx_dtypes = ONNX_F32
    example = "x -> q0: quantize(u8) -> dequantize"

    dtype: DType = attribute(doc="u8 or i8")
    axis: int | None = attribute(
        None, axis="x", keyword=True, doc="axis with a scale for each position; by default one scale"
    )
    dynamic: bool = attribute(False, keyword=True, doc="compute scale and zero point from the data at run time")
    granularity: Granularity = attribute(
        "tensor", keyword=True, doc='"token": a dynamic scale for each position of all axes but the last'
    )

    def has_parameter(self, name: str) -> bool:
        return not self.dynamic

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return floating if name == "scale" else self.dtype

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("x", "q", self, types, ("scale", "zero_point"), ("scale_of", "zero_point_of"))

    def check(self, types: Sequence[TensorType]) -> None:
        check_quantizer(self, types)
        if self.dynamic and self.axis is not None:
            raise OperatorError(
                "bad-attribute",
                "a dynamic `quantize` expects a single scale",
                attribute="axis",
                help="write `quantize(u8, dynamic = true)`",
            )
        if self.dynamic and types[0].dtype is not DType.f32:
            raise OperatorError("dtype-mismatch", f"a dynamic `quantize` expects f32, got {types[0]}", operand=0)

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype, types[0].dtype, self.dtype)

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        return None if self.dynamic else OnGrid(self.dtype, axis=self.axis, scale=types[0].dtype)

    def torch(self, spell: TorchSpelling) -> str:
        (x,) = spell.operands
        if self.granularity == "token":
            return _dynamic_by_token(x)
        if self.dynamic:
            return _dynamic(x)
        scale, zero_point = spell.weights["scale"], spell.weights["zero_point"]
        low, high = RANGES[self.dtype]
        divided, divisor = x, self._broadcast(scale, spell)
        if spell.types[0].dtype in _NARROW:  # a quotient in f16 may round to another integer than one in f32
            divided, divisor = method(divided, "float"), method(divisor, "float")
        steps = method(infix(divided, "/", divisor), "round")
        shifted = infix(steps, "+", self._broadcast(zero_point, spell))
        q = method(method(shifted, "clamp", low, high), "to", f"torch.{self.dtype.torch}")
        return f"({q}, {scale}, {zero_point})"

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | str | None:
        """Quantizer for integer kernels, which support only u8 with a single scale or a scale for each token."""
        if self.granularity == "token":
            return call("quantize_tokens", *spell.operands)
        if self.dtype is not DType.u8 or self.axis is not None or spell.types[0].dtype is not DType.f32:
            return None
        return call("quantize", *spell.operands) if self.dynamic else TorchModule("Quantize", {})

    def _broadcast(self, parameter: str, spell: TorchSpelling) -> str:
        return _broadcast(self, parameter, spell.types)

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        (x,) = spell.operands
        if self.granularity == "token":
            return _onnx_by_token(spell, x)
        if self.dynamic:
            return tuple(spell.add("DynamicQuantizeLinear", x, outputs=3))
        scale, zero_point = spell.weights["scale"], spell.weights["zero_point"]
        # `add` omits attributes that are None.
        return spell.add("QuantizeLinear", x, scale, zero_point, axis=self.axis), scale, zero_point


@operator
class OnGrid(Operator):
    """Integers that were quantized elsewhere, with their scale and zero point.

    The results are q, scale and zero_point, as those of `quantize`.  A stage of a pipeline that receives integers
    begins with `on_grid`: it receives only q, and has scale and zero point among its weights.
    """

    signature = "x[*s], scale[], zero_point[] -> q[*s], scale_of[], zero_point_of[]"
    parameters = {"scale": Parameter(ones, trainable=False), "zero_point": Parameter(zeros, trainable=False)}
    dtypes = EIGHT_BIT
    onnx_dtypes = ONNX_ALL
    example = "q -> q0: on_grid(u8) -> dequantize"

    dtype: DType = attribute(doc="dtype of the integers, u8 or i8")
    axis: int | None = attribute(
        None, axis="x", keyword=True, doc="axis with a scale for each position; by default one scale"
    )
    scale: DType = attribute(DType.f32, keyword=True, doc="dtype of the scale")

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return self.scale if name == "scale" else self.dtype

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("x", "q", self, types, ("scale", "zero_point"), ("scale_of", "zero_point_of"))

    def check(self, types: Sequence[TensorType]) -> None:
        if self.dtype not in RANGES:
            made = self.dtype.value
            raise OperatorError("bad-attribute", f"`on_grid` expects u8 or i8, got {made}", attribute="dtype")
        if not self.scale.floating:
            made = self.scale.value
            raise OperatorError(
                "bad-attribute", f"`on_grid` expects a floating-point scale, got {made}", attribute="scale"
            )
        if types[0].dtype is not self.dtype:
            wanted = self.dtype.value
            raise OperatorError("dtype-mismatch", f"`on_grid` expects {wanted}, got {types[0]}", operand=0)

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype, self.scale, self.dtype)

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        return self

    def torch(self, spell: TorchSpelling) -> str:
        return f"({spell.operands[0]}, {spell.weights['scale']}, {spell.weights['zero_point']})"

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | None:
        single = self.dtype is DType.u8 and self.axis is None and self.scale is DType.f32
        return TorchModule("OnGrid", {}) if single else None

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        return spell.operands[0], spell.weights["scale"], spell.weights["zero_point"]


@operator
class Dequantize(Operator):
    """Floating-point numbers from integers: y = scale · (q - zero_point)."""

    signature = "q[*s], scale[], zero_point[] -> y[*s]"
    dtypes = {"q": EIGHT_BIT, "scale": FLOATS, "zero_point": "q"}
    onnx_name: ClassVar[str] = "DequantizeLinear"
    onnx_dtypes = {"scale": ONNX_SINGLE}
    traits = (DECODES,)
    example = "x -> q0: quantize(u8) -> dequantize"

    axis: int | None = attribute(
        None, axis="q", keyword=True, doc="axis with a scale for each position; by default one scale"
    )
    granularity: Granularity = attribute(
        "tensor", keyword=True, doc='"token": a scale for each position of all axes but the last'
    )

    def check(self, types: Sequence[TensorType]) -> None:
        if self.granularity == "token" and self.axis is not None:
            raise OperatorError(
                "bad-attribute", "`dequantize` expects `axis` or `granularity`, not both", attribute="axis"
            )
        _check_token(self, types)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("q", "y", self, types, ("scale", "zero_point"), ())

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[1].dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        q, scale, zero_point = spell.operands
        types = spell.types
        number = method(q, "to", f"torch.{spell.types[1].dtype.torch}")
        if self.granularity == "token":
            return infix(infix(number, "-", zero_point), "*", method(scale, "unsqueeze", -1))
        return infix(infix(number, "-", _broadcast(self, zero_point, types)), "*", _broadcast(self, scale, types))

    def onnx(self, spell: OnnxSpelling) -> str:
        q, scale, zero_point = spell.operands
        return self.onnx_decoded(spell, q, scale, zero_point, spell.types[1].dtype)

    def onnx_decoded(self, spell: OnnxSpelling, q: str, scale: str, zero_point: str, dtype: DType) -> str:
        """Add the nodes that decode integers to floats of a dtype."""
        if self.granularity == "token":  # DequantizeLinear has scales along a single axis
            number, zero = (spell.add("Cast", one, to=dtype) for one in (q, zero_point))
            return spell.add("Mul", spell.add("Sub", number, zero), spell.add("Unsqueeze", scale, spell.constant([-1])))
        return spell.add(self.onnx_name, q, scale, zero_point, axis=self.axis)


def _dynamic(x: str) -> str:
    """The three results of a dynamic quantizer as one expression, with assignments for repeated terms.

    The padding is the zero that the range contains; with it, data without elements have a range, too.  Data of zeros
    have the range 0, which cannot be a divisor: their scale is 1, as in ONNX Runtime.
    """
    again = x if x.isidentifier() else "_x"
    first = x if x.isidentifier() else f"(_x := {x})"
    padded = f"(_padded := F.pad({again}.flatten(), (0, 1)))"
    step = f"(_step := (-(_low := {padded}.amin()) + _padded.amax()) / 255)"
    scale = f"(_scale := {step} + (_step == 0))"
    zero_point = "(_zero_point := (-_low / _scale).round().clamp(0, 255))"
    q = f"(({first} / {scale}).round() + {zero_point}).clamp(0, 255).to(torch.uint8)"
    return f"({q}, _scale, _zero_point.to(torch.uint8))"


class Quantizer(Protocol):
    """Attributes of operators that quantize."""

    @property
    def name(self) -> str:
        """Name of the operator."""

    @property
    def dtype(self) -> DType:
        """Dtype of the integers."""

    @property
    def dynamic(self) -> bool:
        """True if scale and zero point follow from the data."""

    @property
    def granularity(self) -> Granularity:
        """Granularity of dynamic scales."""


def check_quantizer(op: Quantizer, types: Sequence[TensorType]) -> None:
    """Check the attributes of an operator that quantizes.

    Raises:
        OperatorError: the attributes do not fit together, or do not fit the operand.
    """
    name = op.name
    if op.dtype not in RANGES:
        made = op.dtype.value
        raise OperatorError("bad-attribute", f"`{name}` expects u8 or i8, got {made}", attribute="dtype")
    if op.dynamic and op.dtype is not DType.u8:
        raise OperatorError(
            "bad-attribute",
            f"a dynamic `{name}` expects u8",
            attribute="dtype",
            help=f"write `{name}(u8, dynamic = true)`",
        )
    if op.granularity == "token" and not op.dynamic:
        raise OperatorError(
            "bad-attribute",
            f"a `{name}` with a scale for each token is dynamic",
            attribute="granularity",
            help=f'write `{name}(u8, dynamic = true, granularity = "token")`',
        )
    _check_token(op, types)


def _check_token(op: Quantizer | Dequantize, types: Sequence[TensorType]) -> None:
    if op.granularity == "token" and not types[0].rank:
        raise OperatorError(
            "rank-mismatch", f"`{op.name}` of tokens expects at least 1 axis, got {types[0]}", operand=0
        )


def _dynamic_by_token(x: str) -> str:
    """The three results of a quantizer with a scale for each token as one expression; see `_dynamic`."""
    again = x if x.isidentifier() else "_x"
    first = x if x.isidentifier() else f"(_x := {x})"
    scale = f"(_scale := ({again}.abs().amax(-1) / 127).clamp(min={LEAST_SCALE}))"
    steps = f"({first} / {scale}.unsqueeze(-1)).round()"
    q = f"({steps} + {_MIDDLE}).clamp(0, 255).to(torch.uint8)"
    return f"({q}, _scale, torch.full((), {_MIDDLE}, dtype=torch.uint8, device={again}.device))"


def _onnx_by_token(spell: OnnxSpelling, x: str) -> tuple[str, str, str]:
    """Add the nodes of a quantizer with a scale for each token.

    A `QuantizeLinear` with the scale 1 rounds and adds the zero point in one pass.  The integers are unsigned, because
    ONNX Runtime 1.31 has no fast kernel for signed activations on x86.
    """
    last, zero_point = spell.constant([-1]), spell.constant(_MIDDLE, DType.u8)
    largest = spell.add("ReduceMax", spell.add("Abs", x), last, keepdims=1)
    if any(symbolic(dim) for dim in spell.types[0].shape[:-1]):
        # Without tokens, ONNX Runtime 1.31 does not reduce the last axis.
        largest = spell.add("Slice", largest, spell.constant([0]), spell.constant([1]), last)
    scale = spell.add("Max", spell.add("Div", largest, spell.constant(127.0)), spell.constant(LEAST_SCALE))
    q = spell.add("QuantizeLinear", spell.add("Div", x, scale), spell.constant(1.0), zero_point)
    return q, spell.add("Squeeze", scale, last), zero_point


def _signature(
    operand: str,
    result: str,
    op: Quantize | OnGrid | Dequantize,
    types: Sequence[TensorType],
    scales: Sequence[str],
    copies: Sequence[str],
) -> Signature:
    """Signature in which operand and result have equal shapes.

    Scales and zero points have the axis `axis` or none.  Scales of tokens have all axes but the last.
    """
    axes = tuple(plain_axes(types[0].rank if types else 0))
    along = () if op.axis is None or not types else (axes[op.axis_number("axis", types)],)
    by_token = not isinstance(op, OnGrid) and op.granularity == "token"

    def pattern(name: str) -> Pattern:
        return Pattern(name, axes[:-1] if by_token and name.startswith("scale") else along)

    return Signature(
        (Pattern(operand, axes), *map(pattern, scales)),
        (Pattern(result, axes), *map(pattern, copies)),
    )


def _broadcast(op: Quantize | OnGrid | Dequantize, parameter: str, types: Sequence[TensorType]) -> str:
    """Expression for a scale or zero point, reshaped so that its elements are along the axis `axis`."""
    if op.axis is None:
        return parameter
    following = types[0].rank - 1 - op.axis_number("axis", types)
    return method(parameter, "reshape", -1, *([1] * following)) if following else parameter
