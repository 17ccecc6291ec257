"""Softmax, its logarithm, and softmin."""

from __future__ import annotations

from archc.declaration.base import Operator, operator
from archc.declaration.dtypes import FLOATS, ONNX_FLOATS
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling, call
from archc.declaration.traits import Rigid
from archc.types.attributes import attribute


@operator
class Softmax(Operator):
    """Positive numbers with sum 1 along an axis: y_i = exp(x_i) / Σ_j exp(x_j)."""

    signature = "x[*s] -> y[*s]"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    torch_name = "F.softmax"
    torch_activation = "nn.Softmax"
    onnx_name = "Softmax"
    traits = (Rigid(axis="dim"),)
    example = "logits -> softmax"

    dim: int = attribute(-1, axis="x", doc="axis along which the results have the sum 1")

    def torch(self, spell: TorchSpelling) -> str:
        return call(self.torch_name, *spell.operands, dim=self.dim)

    def activation_module(self) -> TorchModule:
        return TorchModule(self.torch_activation, {}, {"dim": (self.dim, None)})

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add(self.onnx_name, *spell.operands, axis=self.dim)


@operator
class LogSoftmax(Softmax):
    """Logarithm of softmax, more precise than `log` after `softmax`: y_i = x_i - ln Σ_j exp(x_j)."""

    torch_name = "F.log_softmax"
    torch_activation = "nn.LogSoftmax"
    onnx_name = "LogSoftmax"
    example = "logits -> log_softmax"


@operator
class Softmin(Softmax):
    """`softmax` of -x along an axis: e^(-xᵢ) / Σⱼ e^(-xⱼ)."""

    family = "activation"
    torch_name = "F.softmin"
    torch_activation = "nn.Softmin"
    example = "x -> softmin"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Softmax", spell.add("Neg", *spell.operands), axis=self.dim)
