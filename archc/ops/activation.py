"""Activations: functions of single elements without state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from archc.declaration.base import Operator, operator
from archc.declaration.checks import bad_attribute
from archc.declaration.dtypes import FLOATS, ONNX_F32, ONNX_FLOATS, ONNX_SINGLE, ONNX_WIDE
from archc.declaration.parameter import Parameter, constant
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling, call
from archc.declaration.traits import CLIPS, IDEMPOTENT, IMPURE, POINTWISE, RELU, Homogeneous, Traits
from archc.types.attributes import attribute
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import TensorType


@operator
class Activation(Operator, abstract=True):
    """Base of activations: a function of each element, with the attributes of PyTorch's function."""

    signature = "x[*s] -> y[*s]"
    family = "activation"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    traits: ClassVar[Traits] = (POINTWISE,)


@operator
class Gelu(Activation):
    """x · Φ(x), with the distribution function Φ of N(0, 1).

    `approximate = "tanh"`: 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).
    (Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".)
    """

    torch_name = "F.gelu"
    torch_activation = "nn.GELU"
    onnx_dtypes = ONNX_F32
    example = "x -> gelu"

    approximate: Literal["none", "tanh"] = attribute("none", doc='"tanh" selects the cheaper formula')

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Gelu", *spell.operands, approximate=self.approximate)


@operator
class Silu(Activation):
    """x · σ(x), also called swish.  (Ramachandran et al. 2017, "Searching for Activation Functions".)"""

    torch_name = "F.silu"
    torch_activation = "nn.SiLU"
    onnx_dtypes = ONNX_WIDE
    example = "x -> silu"

    def onnx(self, spell: OnnxSpelling) -> str:
        x = spell.operands[0]
        return spell.add("Mul", x, spell.add("Sigmoid", x))


@operator
class Mish(Activation):
    """x · tanh(ln(1 + eˣ)).  (Misra 2020, "Mish: A Self Regularized Non-Monotonic Activation Function".)"""

    torch_name = "F.mish"
    torch_activation = "nn.Mish"
    onnx_dtypes = ONNX_F32
    onnx_name = "Mish"
    example = "x -> mish"


@operator
class Sigmoid(Activation):
    """σ(x) = 1 / (1 + e⁻ˣ)."""

    torch_name = "torch.sigmoid"
    torch_activation = "nn.Sigmoid"
    onnx_name = "Sigmoid"
    example = "x -> sigmoid"


@operator
class Logsigmoid(Activation):
    """ln σ(x) = -ln(1 + e⁻ˣ)."""

    torch_name = "F.logsigmoid"
    torch_activation = "nn.LogSigmoid"
    onnx_dtypes = ONNX_F32
    example = "x -> logsigmoid"

    def onnx(self, spell: OnnxSpelling) -> str:
        negated = spell.add("Neg", *spell.operands)
        return spell.add("Neg", spell.add("Softplus", negated))


@operator
class Tanh(Activation):
    """(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)."""

    torch_name = "torch.tanh"
    torch_activation = "nn.Tanh"
    onnx_name = "Tanh"
    example = "x -> tanh"


@operator
class Softplus(Activation):
    """ln(1 + e^(beta · x)) / beta, or x where beta · x > threshold."""

    torch_name = "F.softplus"
    torch_activation = "nn.Softplus"
    onnx_dtypes = ONNX_F32
    example = "x -> softplus"

    beta: float = attribute(1.0, doc="sharpness of the bend at 0")
    threshold: float = attribute(20.0, doc="value of beta · x above which the result is x")

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
        if self.threshold < 20:  # if beta · x > 20, both branches are equal in f32
            linear = spell.add("Greater", scaled, spell.constant(self.threshold, dtype))
            result = spell.add("Where", linear, x, result)
        return result


@operator
class Softsign(Activation):
    """x / (1 + |x|)."""

    torch_name = "F.softsign"
    torch_activation = "nn.Softsign"
    onnx_dtypes = ONNX_SINGLE
    onnx_name = "Softsign"
    example = "x -> softsign"


@operator
class Glu(Operator):
    """a · σ(b), where a and b are the first and the second half of x along an axis.

    (Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks".)
    """

    signature = "x[*a, 2*d] -> y[*a, d]"
    torch_name = "F.glu"
    torch_activation = "nn.GLU"
    dtypes = FLOATS
    onnx_dtypes = ONNX_WIDE
    example = "x -> glu"

    dim: int = attribute(-1, axis="x", doc="axis that is split into halves")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        axis = self.axis_number("dim", types)
        following = "".join(f", b{number}" for number in range(types[0].rank - axis - 1))
        return parse_signature(f"x[*a, 2*d{following}] -> y[*a, d{following}]")

    def onnx(self, spell: OnnxSpelling) -> str:
        values, gates = spell.add("Split", *spell.operands, outputs=2, axis=self.dim, num_outputs=2)
        return spell.add("Mul", values, spell.add("Sigmoid", gates))


@operator
class Hardsigmoid(Activation):
    """min(max(0, x + 3), 6) / 6.  (Howard et al. 2019, "Searching for MobileNetV3".)"""

    torch_name = "F.hardsigmoid"
    torch_activation = "nn.Hardsigmoid"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> hardsigmoid"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("HardSigmoid", *spell.operands, alpha=1 / 6, beta=0.5)


@operator
class Hardswish(Activation):
    """x · min(max(0, x + 3), 6) / 6.  (Howard et al. 2019, "Searching for MobileNetV3".)"""

    torch_name = "F.hardswish"
    torch_activation = "nn.Hardswish"
    onnx_dtypes = ONNX_F32
    onnx_name = "HardSwish"
    example = "x -> hardswish"


@operator
class Hardtanh(Activation):
    """min(max(min_val, x), max_val)."""

    traits = (CLIPS, IDEMPOTENT, Homogeneous("min_val", "max_val"))
    torch_name = "F.hardtanh"
    torch_activation = "nn.Hardtanh"
    example = "x -> hardtanh(-2, 2)"

    min_val: float = attribute(-1.0, doc="minimum of the result")
    max_val: float = attribute(1.0, doc="maximum of the result")

    def check(self, types: Sequence[TensorType]) -> None:
        if not self.min_val < self.max_val:
            raise bad_attribute(self, "min_val", f"below `max_val`, which is {self.max_val}")

    def onnx(self, spell: OnnxSpelling) -> str:
        return _onnx_clip(spell, self.min_val, self.max_val)


@operator
class Hardshrink(Activation):
    """x where |x| > lambd, else 0."""

    traits = (IDEMPOTENT,)
    torch_name = "F.hardshrink"
    torch_activation = "nn.Hardshrink"
    onnx_dtypes = ONNX_SINGLE  # `lambd` of `Shrink` is an f32
    example = "x -> hardshrink"

    lambd: float = attribute(0.5, doc="elements from -lambd to lambd become 0")

    def check(self, types: Sequence[TensorType]) -> None:
        _check_not_negative(self, "lambd")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Shrink", *spell.operands, lambd=self.lambd, bias=0.0)


@operator
class Softshrink(Activation):
    """sign(x) · max(0, |x| - lambd)."""

    torch_name = "F.softshrink"
    torch_activation = "nn.Softshrink"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> softshrink"

    lambd: float = attribute(0.5, doc="shift of the results towards 0")

    def check(self, types: Sequence[TensorType]) -> None:
        _check_not_negative(self, "lambd")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Shrink", *spell.operands, lambd=self.lambd, bias=self.lambd)


@operator
class Tanhshrink(Activation):
    """x - tanh(x)."""

    torch_name = "F.tanhshrink"
    torch_activation = "nn.Tanhshrink"
    onnx_dtypes = ONNX_WIDE
    example = "x -> tanhshrink"

    def onnx(self, spell: OnnxSpelling) -> str:
        x = spell.operands[0]
        return spell.add("Sub", x, spell.add("Tanh", x))


def _check_not_negative(op: Operator, name: str) -> None:
    if not getattr(op, name) >= 0:
        raise bad_attribute(op, name, "0 or more")


@operator
class Relu(Activation):
    """max(0, x).

    (Nair and Hinton 2010, "Rectified Linear Units Improve Restricted Boltzmann Machines".)
    """

    traits = (CLIPS, IDEMPOTENT, RELU, Homogeneous())
    torch_name = "F.relu"
    torch_activation = "nn.ReLU"
    onnx_name = "Relu"
    example = "x -> relu"


@operator
class Relu6(Activation):
    """min(max(0, x), 6).  (Krizhevsky 2010, "Convolutional Deep Belief Networks on CIFAR-10".)"""

    traits = (CLIPS, IDEMPOTENT, Homogeneous(high=6))
    torch_name = "F.relu6"
    torch_activation = "nn.ReLU6"
    example = "x -> relu6"

    def onnx(self, spell: OnnxSpelling) -> str:
        return _onnx_clip(spell, 0.0, 6.0)


@operator
class LeakyRelu(Activation):
    """x where x > 0, else negative_slope · x.

    (Maas et al. 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic Models".)
    """

    traits = (Homogeneous(),)
    torch_name = "F.leaky_relu"
    torch_activation = "nn.LeakyReLU"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> leaky_relu(0.2)"

    negative_slope: float = attribute(0.01, doc="slope below 0")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("LeakyRelu", *spell.operands, alpha=self.negative_slope)


@operator
class Prelu(Activation):
    """x where x > 0, else weight · x, with one learned slope for all elements or one for each channel.

    The initial slope is 0.25.  (He et al. 2015, "Delving Deep into Rectifiers".)
    """

    signature = "x[*s], weight[p] -> y[*s]"
    parameters = {"weight": Parameter(constant(0.25))}
    traits = (Homogeneous(),)
    torch_name = "F.prelu"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> act: prelu"

    num_parameters: int = attribute(1, index="p", phrase="channels", doc="1, or the number of channels (axis 1)")

    def check(self, types: Sequence[TensorType]) -> None:
        if self.num_parameters < 1:
            raise bad_attribute(self, "num_parameters", "positive")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        channels = "x[n, p, *s], weight[p] -> y[n, p, *s]"
        return parse_signature(self.signature if self.num_parameters == 1 else channels)

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.prelu", *spell.operands, *spell.weights.values())

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        return TorchModule("nn.PReLU", {}, {"num_parameters": (self.num_parameters, 1)})

    def onnx(self, spell: OnnxSpelling) -> str:
        weight, rank = spell.weights["weight"], spell.types[0].rank
        if self.num_parameters != 1:  # ONNX broadcasts the slopes from the right
            weight = spell.add("Reshape", weight, spell.constant([self.num_parameters, *[1] * (rank - 2)]))
        elif rank == 0:  # with a slope of rank 1, the result would have rank 1
            weight = spell.add("Squeeze", weight)
        return spell.add("PRelu", spell.operands[0], weight)


@operator
class Rrelu(Activation):
    """x where x > 0, else a · x; in training, a is drawn from U(lower, upper).

    In inference, a is the mean of that distribution, (lower + upper) / 2.
    (Xu et al. 2015, "Empirical Evaluation of Rectified Activations in Convolutional Network".)
    """

    torch_name = "F.rrelu"
    torch_activation = "nn.RReLU"
    onnx_dtypes = ONNX_SINGLE
    traits = (IMPURE, Homogeneous())
    example = "x -> rrelu"

    lower: float = attribute(1 / 8, doc="minimum of the slope below 0")
    upper: float = attribute(1 / 3, doc="maximum of the slope below 0")

    def check(self, types: Sequence[TensorType]) -> None:
        if not self.lower <= self.upper:
            raise bad_attribute(self, "lower", f"at most `upper`, which is {self.upper}")

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        return TorchModule("nn.RReLU", {}, {"lower": (self.lower, 1 / 8), "upper": (self.upper, 1 / 3)})

    def onnx(self, spell: OnnxSpelling) -> str:
        slope = (self.lower + self.upper) / 2
        return spell.add("LeakyRelu", *spell.operands, alpha=slope)


@operator
class Elu(Activation):
    """x where x > 0, else alpha · (eˣ - 1).

    (Clevert et al. 2016, "Fast and Accurate Deep Network Learning by Exponential Linear Units (ELUs)".)
    """

    torch_name = "F.elu"
    torch_activation = "nn.ELU"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> elu"

    alpha: float = attribute(1.0, doc="negated limit of the result for x → -∞")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Elu", *spell.operands, alpha=self.alpha)


@operator
class Celu(Activation):
    """max(0, x) + min(0, alpha · (e^(x / alpha) - 1)).

    (Barron 2017, "Continuously Differentiable Exponential Linear Units".)
    """

    torch_name = "F.celu"
    torch_activation = "nn.CELU"
    onnx_dtypes = ONNX_F32
    example = "x -> celu"

    alpha: float = attribute(1.0, doc="negated limit of the result for x → -∞")

    def check(self, types: Sequence[TensorType]) -> None:
        if self.alpha == 0:
            raise bad_attribute(self, "alpha", "different from 0")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Celu", *spell.operands, alpha=self.alpha)


@operator
class Selu(Activation):
    """λ · (max(0, x) + min(0, α · (eˣ - 1))), which preserves mean 0 and variance 1 of the activations.

    λ ≈ 1.0507 and α ≈ 1.6733.  (Klambauer et al. 2017, "Self-Normalizing Neural Networks".)
    """

    torch_name = "F.selu"
    torch_activation = "nn.SELU"
    onnx_dtypes = ONNX_SINGLE
    onnx_name = "Selu"
    example = "x -> selu"


@operator
class Threshold(Activation):
    """x where x > threshold, else value."""

    traits = (IDEMPOTENT,)
    torch_name = "F.threshold"
    torch_activation = "nn.Threshold"
    example = "x -> threshold(0.1, 20)"

    threshold: float = attribute(element=True, doc="elements above it are unchanged")
    value: float = attribute(element=True, doc="replacement of all other elements")

    def onnx(self, spell: OnnxSpelling) -> str:
        x, dtype = spell.operands[0], spell.types[0].dtype
        replaced = spell.add(
            "LessOrEqual", x, spell.constant(self.threshold, dtype)
        )  # false for NaN, so NaN is unchanged
        return spell.add("Where", replaced, spell.constant(self.value, dtype), x)


def _onnx_clip(spell: OnnxSpelling, least: float, greatest: float) -> str:
    """Add a `Clip` of the operand to the range from `least` to `greatest`."""
    dtype = spell.types[0].dtype
    bounds = spell.constant(least, dtype), spell.constant(greatest, dtype)
    return spell.add("Clip", *spell.operands, *bounds)
