"""Fake quantization: floats that are rounded to 8-bit integers and back, with gradients for training."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import Operator, operator
from archc.declaration.dtypes import FLOATS
from archc.declaration.parameter import Parameter, ones, zeros
from archc.declaration.spelling import OnnxSpelling, TorchHelper, TorchSpelling, call
from archc.declaration.traits import ROUNDED, ROUNDED_BY_TOKEN
from archc.ops.quantize import RANGES, Dequantize, Granularity, Quantize, check_quantizer
from archc.types.attributes import attribute
from archc.types.tensor_type import DType, TensorType

_STATIC = TorchHelper(
    "_fake_quantize",
    (),
    '''\
def _fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int
) -> Tensor:
    """Quantize and dequantize.

    The gradient is straight-through: 1 within the range, and 0 outside.
    """
    held = x.detach()
    steps = (held / scale).round() + zero_point
    q = steps.clamp(low, high)
    # The difference is zero: it has only a gradient.
    return (q - zero_point) * scale + torch.where(steps == q, x - held, 0.0)''',
)

_DYNAMIC = TorchHelper(
    "_fake_quantize_dynamic",
    (),
    '''\
def _fake_quantize_dynamic(x: Tensor) -> Tensor:
    """Quantize to the range of the data and 0, and dequantize; the gradient is 1."""
    held = x.detach()
    padded = nn.functional.pad(held.flatten(), (0, 1))
    low = padded.amin()
    step = (padded.amax() - low) / 255
    scale = step + (step == 0)
    zero_point = (-low / scale).round().clamp(0, 255)
    q = ((held / scale).round() + zero_point).clamp(0, 255)
    return (q - zero_point) * scale + (x - held)''',
)

_BY_TOKEN = TorchHelper(
    "_fake_quantize_tokens",
    (),
    '''\
def _fake_quantize_tokens(x: Tensor) -> Tensor:
    """Quantize with a scale for each token, and dequantize; the gradient is 1."""
    held = x.detach()
    scale = (held.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-30)
    return (held / scale).round() * scale + (x - held)''',
)


@operator
class FakeQuantize(Operator):
    """Quantization and dequantization in one step, for training.

    The result is y = scale · (q - zero_point), with the integers q of `quantize`.  The gradient is straight-through:
    that of x is the gradient of y where x is within the range of the integers, and 0 outside.  (Jacob et al. 2018,
    "Quantization and Training of Neural Networks", section 3.)

    Scale and zero point are buffers.  They do not change in training.  With `dynamic` they follow from the data, as in
    `quantize`, and all elements are within the range.

    `quant(training = true)` inserts this operator.  After the training, `quant` replaces it by `quantize` and
    `dequantize`, with the same results.
    """

    family = "quantize"
    signature = "x[*s], scale[], zero_point[] -> y[*s]"
    parameters = {"scale": Parameter(ones, trainable=False), "zero_point": Parameter(zeros, trainable=False)}
    dtypes = FLOATS.without("f64", "f16", "bf16")
    traits = (ROUNDED, ROUNDED_BY_TOKEN.when("by_token"))
    torch_helpers = (_STATIC, _DYNAMIC, _BY_TOKEN)
    example = "x -> x_in: fake_quantize(u8) -> fc: linear(10, weight = fake_quantized(int8(axis = 0)))"

    dtype: DType = attribute(doc="u8 or i8")
    dynamic: bool = attribute(False, keyword=True, doc="compute scale and zero point from the data at run time")
    granularity: Granularity = attribute(
        "tensor", keyword=True, doc='"token": a dynamic scale for each position of all axes but the last'
    )

    @property
    def by_token(self) -> bool:
        """True if each token has a scale."""
        return self.granularity == "token"

    def quantizer(self) -> Quantize:
        """The operator that computes the integers; it has the same weights."""
        return Quantize(self.dtype, dynamic=self.dynamic, granularity=self.granularity)

    def decoder(self) -> Dequantize:
        """The operator that computes the result from the results of `quantizer`."""
        return Dequantize(granularity=self.granularity)

    def has_parameter(self, name: str) -> bool:
        return not self.dynamic

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return floating if name == "scale" else self.dtype

    def check(self, types: Sequence[TensorType]) -> None:
        check_quantizer(self, types)

    def torch(self, spell: TorchSpelling) -> str:
        (x,) = spell.operands
        if self.dynamic:
            return call((_BY_TOKEN if self.by_token else _DYNAMIC).name, x)
        return call(_STATIC.name, x, spell.weights["scale"], spell.weights["zero_point"], *RANGES[self.dtype])

    def onnx(self, spell: OnnxSpelling) -> str:
        q, scale, zero_point = self.quantizer().onnx(spell)
        return self.decoder().onnx_decoded(spell, q, scale, zero_point, spell.types[0].dtype)
