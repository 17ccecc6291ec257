"""Activations that treat what is above and below 0 differently: `relu` and its relatives."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import operator
from archc.operator.checks import bad_attribute
from archc.operator.dtypes import ONNX_F32, ONNX_SINGLE
from archc.operator.parameter import Parameter, constant
from archc.operator.spelling import OnnxSpelling, TorchModule, TorchSpelling, call
from archc.ops.activation import Activation, onnx_clip
from archc.types.attributes import attribute
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import TensorType


@operator
class Relu(Activation):
    """max(0, x).  (Nair and Hinton 2010, "Rectified Linear Units Improve Restricted Boltzmann Machines".)"""

    clips = True
    rectifies = True
    idempotent = True
    torch_name = "F.relu"
    onnx_name = "Relu"
    example = "x -> relu"


@operator
class Relu6(Activation):
    """min(max(0, x), 6).  (Krizhevsky 2010, "Convolutional Deep Belief Networks on CIFAR-10".)"""

    clips = True
    idempotent = True
    torch_name = "F.relu6"
    example = "x -> relu6"

    def onnx(self, spell: OnnxSpelling) -> str:
        return onnx_clip(spell, 0.0, 6.0)


@operator
class LeakyRelu(Activation):
    """x where x > 0, else negative_slope · x.  (Maas et al. 2013, "Rectifier Nonlinearities Improve ...")"""

    torch_name = "F.leaky_relu"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> leaky_relu(0.2)"

    negative_slope: float = attribute(0.01, doc="the slope below 0")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("LeakyRelu", *spell.operands, alpha=self.negative_slope)


@operator
class Prelu(Activation):
    """x where x > 0, else weight · x, with one learned slope for all elements or one for each channel.

    (He et al. 2015, "Delving Deep into Rectifiers".)  A fresh slope is 0.25.
    """

    signature = "x[*s], weight[p] -> y[*s]"
    parameters = {"weight": Parameter(constant(0.25))}
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
        if self.num_parameters != 1:  # ONNX aligns the slopes from the right, so the channels need axes behind them
            weight = spell.add("Reshape", weight, spell.constant([self.num_parameters, *[1] * (rank - 2)]))
        elif rank == 0:  # a slope of rank 1 would make the result one of rank 1
            weight = spell.add("Squeeze", weight)
        return spell.add("PRelu", spell.operands[0], weight)


@operator
class Rrelu(Activation):
    """x where x > 0, else a · x, with a drawn from U(lower, upper) in training; a is their mean in inference.

    (Xu et al. 2015, "Empirical Evaluation of Rectified Activations in Convolutional Network".)
    """

    torch_name = "F.rrelu"
    onnx_dtypes = ONNX_SINGLE
    repeatable = False
    example = "x -> rrelu"

    lower: float = attribute(1 / 8, doc="the least slope below 0")
    upper: float = attribute(1 / 3, doc="the greatest slope below 0")

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
    """x where x > 0, else alpha · (eˣ - 1).  (Clevert et al. 2016, "Fast and Accurate Deep Network Learning ...")"""

    torch_name = "F.elu"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> elu"

    alpha: float = attribute(1.0, doc="minus the limit towards -∞")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Elu", *spell.operands, alpha=self.alpha)


@operator
class Celu(Activation):
    """max(0, x) + min(0, alpha · (e^(x / alpha) - 1)).  (Barron 2017, "Continuously Differentiable ... Units".)"""

    torch_name = "F.celu"
    onnx_dtypes = ONNX_F32
    example = "x -> celu"

    alpha: float = attribute(1.0, doc="minus the limit towards -∞")

    def check(self, types: Sequence[TensorType]) -> None:
        if self.alpha == 0:
            raise bad_attribute(self, "alpha", "different from 0")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Celu", *spell.operands, alpha=self.alpha)


@operator
class Selu(Activation):
    """λ · (max(0, x) + min(0, α · (eˣ - 1))) with λ ≈ 1.0507 and α ≈ 1.6733, which keep mean 0 and variance 1.

    (Klambauer et al. 2017, "Self-Normalizing Neural Networks".)
    """

    torch_name = "F.selu"
    onnx_dtypes = ONNX_SINGLE
    onnx_name = "Selu"
    example = "x -> selu"


@operator
class Threshold(Activation):
    """x where x > threshold, else value."""

    torch_name = "F.threshold"
    example = "x -> threshold(0.1, 20)"

    threshold: float = attribute(element=True, doc="elements above it are kept")
    value: float = attribute(element=True, doc="replaces all other elements")

    def onnx(self, spell: OnnxSpelling) -> str:
        x, dtype = spell.operands[0], spell.types[0].dtype
        replaced = spell.add("LessOrEqual", x, spell.constant(self.threshold, dtype))  # NaN is not, and stays
        return spell.add("Where", replaced, spell.constant(self.value, dtype), x)
