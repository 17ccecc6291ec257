"""Integers in place of floating-point numbers: x ≈ scale · (q - zero_point).

The semantics are those of ONNX's QuantizeLinear, DynamicQuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archc.operator.axes import axis_number, plain_axes
from archc.operator.base import Operator, OperatorError, operator
from archc.operator.dtypes import EIGHT_BIT, FLOATS, ONNX_ALL, ONNX_F32, ONNX_SINGLE, dtype_set
from archc.operator.parameter import Parameter, ones, zeros
from archc.operator.spelling import OnnxSpelling, TorchModule, TorchSpelling, call, infix, method
from archc.types.attributes import attribute
from archc.types.signature import Pattern, Signature
from archc.types.tensor_type import DType, TensorType

_NARROW = dtype_set("f16 bf16")
_RANGES = {DType.u8: (0, 255), DType.i8: (-128, 127)}


@operator
class Quantize(Operator):
    """Rounding to 8-bit integers: q = saturate(round(x / scale) + zero_point), halves to the even neighbour.

    The results are q, scale and zero_point, which `dequantize` takes.  Scale and zero point are buffers, one of
    each or one for each place along `axis`.  With `dynamic` there are none: they follow from the least and the
    largest element, which both are counted as 0 where they would leave it out.
    """

    signature = "x[*s], scale[], zero_point[] -> q[*s], scale_of[], zero_point_of[]"
    parameters = {"scale": Parameter(ones, trainable=False), "zero_point": Parameter(zeros, trainable=False)}
    dtypes = FLOATS
    onnx_dtypes = ONNX_F32
    example = "x -> q0: quantize(u8) -> dequantize"

    dtype: DType = attribute(doc="u8 or i8")
    axis: int | None = attribute(None, keyword=True, doc="the axis with a scale for each place; without it one scale")
    dynamic: bool = attribute(False, keyword=True, doc="take scale and zero point from the data when the model runs")

    def has_parameter(self, name: str) -> bool:
        return not self.dynamic

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return floating if name == "scale" else self.dtype

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("x", "q", self, types, ("scale", "zero_point"), ("scale_of", "zero_point_of"))

    def check(self, types: Sequence[TensorType]) -> None:
        if self.dtype not in _RANGES:
            made = self.dtype.value
            raise OperatorError("bad-attribute", f"`quantize` makes u8 or i8, not {made}", attribute="dtype")
        if self.dynamic and (self.dtype is not DType.u8 or self.axis is not None):
            raise OperatorError(
                "bad-attribute",
                "a dynamic `quantize` makes u8 with a single scale",
                attribute="dtype" if self.dtype is not DType.u8 else "axis",
                help="write `quantize(u8, dynamic = true)`",
            )
        if self.dynamic and types[0].dtype is not DType.f32:
            raise OperatorError("dtype-mismatch", f"a dynamic `quantize` needs f32, got {types[0]}", operand=0)

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype, types[0].dtype, self.dtype)

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        return None if self.dynamic else OnGrid(self.dtype, axis=self.axis, scale=types[0].dtype)

    def torch(self, spell: TorchSpelling) -> str:
        (x,) = spell.operands
        if self.dynamic:
            return _dynamic(x)
        scale, zero_point = spell.weights["scale"], spell.weights["zero_point"]
        low, high = _RANGES[self.dtype]
        divided, divisor = x, self._spread(scale, spell)
        if spell.types[0].dtype in _NARROW:  # a quotient rounded to f16 may be rounded to another integer then
            divided, divisor = method(divided, "float"), method(divisor, "float")
        steps = method(infix(divided, "/", divisor), "round")
        shifted = infix(steps, "+", self._spread(zero_point, spell))
        q = method(method(shifted, "clamp", low, high), "to", f"torch.{self.dtype.torch}")
        return f"({q}, {scale}, {zero_point})"

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | str | None:
        """For what kernels take: bytes without a sign, and a single scale."""
        if self.dtype is not DType.u8 or self.axis is not None or spell.types[0].dtype is not DType.f32:
            return None
        return call("quantize", *spell.operands) if self.dynamic else TorchModule("Quantize", {})

    def _spread(self, parameter: str, spell: TorchSpelling) -> str:
        return _beside(self, parameter, spell.types[0].rank)

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        (x,) = spell.operands
        if self.dynamic:
            return tuple(spell.add("DynamicQuantizeLinear", x, outputs=3))
        scale, zero_point = spell.weights["scale"], spell.weights["zero_point"]
        # An attribute that is None is left out.
        return spell.add("QuantizeLinear", x, scale, zero_point, axis=self.axis), scale, zero_point


@operator
class OnGrid(Operator):
    """Integers that were rounded elsewhere, beside the scale and the zero point by which they are read.

    The results are q, scale and zero_point, as `quantize` has them.  A later stage of a pipeline begins so: it is
    sent the integers alone, and has scale and zero point among its weights.
    """

    signature = "x[*s], scale[], zero_point[] -> q[*s], scale_of[], zero_point_of[]"
    parameters = {"scale": Parameter(ones, trainable=False), "zero_point": Parameter(zeros, trainable=False)}
    dtypes = EIGHT_BIT
    onnx_dtypes = ONNX_ALL
    example = "q -> q0: on_grid(u8) -> dequantize"

    dtype: DType = attribute(doc="u8 or i8, that of the integers")
    axis: int | None = attribute(None, keyword=True, doc="the axis with a scale for each place; without it one scale")
    scale: DType = attribute(DType.f32, keyword=True, doc="the dtype of the scale")

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return self.scale if name == "scale" else self.dtype

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("x", "q", self, types, ("scale", "zero_point"), ("scale_of", "zero_point_of"))

    def check(self, types: Sequence[TensorType]) -> None:
        if self.dtype not in _RANGES:
            made = self.dtype.value
            raise OperatorError("bad-attribute", f"`on_grid` takes u8 or i8, not {made}", attribute="dtype")
        if not self.scale.floating:
            made = self.scale.value
            raise OperatorError("bad-attribute", f"a scale is of floats, not of {made}", attribute="scale")
        if types[0].dtype is not self.dtype:
            wanted = self.dtype.value
            raise OperatorError("dtype-mismatch", f"`on_grid` needs {wanted}, got {types[0]}", operand=0)

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
    decodes = True
    example = "x -> q0: quantize(u8) -> dequantize"

    axis: int | None = attribute(None, keyword=True, doc="the axis with a scale for each place; without it one scale")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return _signature("q", "y", self, types, ("scale", "zero_point"), ())

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[1].dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        q, scale, zero_point = spell.operands
        rank = spell.types[0].rank
        number = method(q, "to", f"torch.{spell.types[1].dtype.torch}")
        return infix(infix(number, "-", _beside(self, zero_point, rank)), "*", _beside(self, scale, rank))

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add(self.onnx_name, *spell.operands, axis=self.axis)


def _dynamic(x: str) -> str:
    """The three results in one expression, which names what it needs again.

    Data of nothing but zeros have the range 0, by which nothing can be divided: their scale is 1, as in ONNX Runtime.
    """
    again = x if x.isidentifier() else "_x"
    first = x if x.isidentifier() else f"(_x := {x})"
    low = f"(_low := {again}.amin().clamp(max=0))"
    step = f"(_step := ({again}.amax().clamp(min=0) - {low}) / 255)"
    scale = f"(_scale := {step} + (_step == 0))"
    zero_point = "(_zero_point := (-_low / _scale).round().clamp(0, 255))"
    q = f"(({first} / {scale}).round() + {zero_point}).clamp(0, 255).to(torch.uint8)"
    return f"({q}, _scale, _zero_point.to(torch.uint8))"


def _signature(
    operand: str,
    result: str,
    op: Quantize | OnGrid | Dequantize,
    types: Sequence[TensorType],
    scales: Sequence[str],
    copies: Sequence[str],
) -> Signature:
    """The operand and the result of equal shape, beside scales along the axis, or single ones."""
    axes = tuple(plain_axes(types[0].rank if types else 0))
    along = () if op.axis is None or not types else (axes[axis_number(op, op.axis, len(axes), "axis")],)
    return Signature(
        (Pattern(operand, axes), *(Pattern(name, along) for name in scales)),
        (Pattern(result, axes), *(Pattern(name, along) for name in copies)),
    )


def _beside(op: Quantize | OnGrid | Dequantize, parameter: str, rank: int) -> str:
    """A vector along the axis, with axes behind it so that it broadcasts against the data."""
    if op.axis is None:
        return parameter
    behind = rank - 1 - axis_number(op, op.axis, rank, "axis")
    return method(parameter, "reshape", -1, *([1] * behind)) if behind else parameter
