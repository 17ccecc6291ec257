"""Activations, functions of single elements without state: what all share, and the smooth ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from archc.operator.axes import axis_number
from archc.operator.base import Operator, operator
from archc.operator.checks import bad_attribute
from archc.operator.dtypes import FLOATS, ONNX_F32, ONNX_FLOATS, ONNX_SINGLE, ONNX_WIDE
from archc.operator.spelling import OnnxSpelling, TorchSpelling, call
from archc.types.attributes import attribute
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import TensorType


@operator
class Activation(Operator, abstract=True):
    """A function of each element: `x[*s] -> y[*s]`; its attributes are the arguments of the function in PyTorch."""

    signature = "x[*s] -> y[*s]"
    family = "activation"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    pointwise = True


@operator
class Gelu(Activation):
    """x · Φ(x), with the distribution function Φ of N(0, 1).

    `approximate = "tanh"`: 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).
    (Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".)
    """

    torch_name = "F.gelu"
    onnx_dtypes = ONNX_F32
    example = "x -> gelu"

    approximate: Literal["none", "tanh"] = attribute("none", doc='"tanh" for the cheaper formula')

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Gelu", *spell.operands, approximate=self.approximate)


@operator
class Silu(Activation):
    """x · σ(x), also called swish.  (Ramachandran et al. 2017, "Searching for Activation Functions".)"""

    torch_name = "F.silu"
    onnx_dtypes = ONNX_WIDE
    example = "x -> silu"

    def onnx(self, spell: OnnxSpelling) -> str:
        x = spell.operands[0]
        return spell.add("Mul", x, spell.add("Sigmoid", x))


@operator
class Mish(Activation):
    """x · tanh(ln(1 + eˣ)).  (Misra 2020, "Mish: A Self Regularized Non-Monotonic Activation Function".)"""

    torch_name = "F.mish"
    onnx_dtypes = ONNX_F32
    onnx_name = "Mish"
    example = "x -> mish"


@operator
class Sigmoid(Activation):
    """σ(x) = 1 / (1 + e⁻ˣ)."""

    torch_name = "torch.sigmoid"
    onnx_name = "Sigmoid"
    example = "x -> sigmoid"


@operator
class Logsigmoid(Activation):
    """ln σ(x) = -ln(1 + e⁻ˣ)."""

    torch_name = "F.logsigmoid"
    onnx_dtypes = ONNX_F32
    example = "x -> logsigmoid"

    def onnx(self, spell: OnnxSpelling) -> str:
        negated = spell.add("Neg", *spell.operands)
        return spell.add("Neg", spell.add("Softplus", negated))


@operator
class Tanh(Activation):
    """(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)."""

    torch_name = "torch.tanh"
    onnx_name = "Tanh"
    example = "x -> tanh"


@operator
class Softplus(Activation):
    """ln(1 + e^(beta · x)) / beta, and x itself where beta · x > threshold."""

    torch_name = "F.softplus"
    onnx_dtypes = ONNX_F32
    example = "x -> softplus"

    beta: float = attribute(1.0, doc="how sharp the bend at 0 is")
    threshold: float = attribute(20.0, doc="beta · x above it is taken as linear")

    def check(self, types: Sequence[TensorType]) -> None:
        if not self.beta > 0:
            raise bad_attribute(self, "beta", "positive")

    def onnx(self, spell: OnnxSpelling) -> str:
        x, dtype = spell.operands[0], spell.types[0].dtype
        beta = spell.constant(self.beta, dtype)
        scaled = x if self.beta == 1 else spell.add("Mul", x, beta)
        result = spell.add("Softplus", scaled)
        if self.beta != 1:
            result = spell.add("Div", result, beta)
        if self.threshold < 20:  # above 20 the two branches differ by less than a float32 can tell
            linear = spell.add("Greater", scaled, spell.constant(self.threshold, dtype))
            result = spell.add("Where", linear, x, result)
        return result


@operator
class Softsign(Activation):
    """x / (1 + |x|)."""

    torch_name = "F.softsign"
    onnx_dtypes = ONNX_SINGLE
    onnx_name = "Softsign"
    example = "x -> softsign"


@operator
class Glu(Activation):
    """a · σ(b), where a and b are the first and the second half of x along an axis.

    (Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks".)
    """

    signature = "x[*a, 2*d] -> y[*a, d]"
    pointwise = False
    torch_name = "F.glu"
    onnx_dtypes = ONNX_WIDE
    example = "x -> glu"

    dim: int = attribute(-1, doc="the axis that is halved")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        axis = axis_number(self, self.dim, types[0].rank)
        behind = "".join(f", b{number}" for number in range(types[0].rank - axis - 1))
        return parse_signature(f"x[*a, 2*d{behind}] -> y[*a, d{behind}]")

    def onnx(self, spell: OnnxSpelling) -> str:
        values, gates = spell.add("Split", *spell.operands, outputs=2, axis=self.dim, num_outputs=2)
        return spell.add("Mul", values, spell.add("Sigmoid", gates))


@operator
class Softmin(Activation):
    """e^(-xᵢ) / Σⱼ e^(-xⱼ) along an axis: `softmax` of -x."""

    pointwise = False
    example = "x -> softmin"

    dim: int = attribute(-1, doc="the axis whose results sum to 1")

    def check(self, types: Sequence[TensorType]) -> None:
        axis_number(self, self.dim, types[0].rank)

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return (f"s.{axis_number(self, self.dim, types[0].rank)}",)

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.softmin", *spell.operands, dim=self.dim)

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Softmax", spell.add("Neg", *spell.operands), axis=self.dim)


def onnx_clip(spell: OnnxSpelling, least: float, greatest: float) -> str:
    """The operand, with what is below `least` or above `greatest` cut off."""
    dtype = spell.types[0].dtype
    bounds = spell.constant(least, dtype), spell.constant(greatest, dtype)
    return spell.add("Clip", *spell.operands, *bounds)
