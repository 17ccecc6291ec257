"""Activations that cut off or shrink: the piecewise linear stand-ins for the smooth ones."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import Operator, operator
from archc.operator.checks import bad_attribute
from archc.operator.dtypes import ONNX_F32, ONNX_SINGLE, ONNX_WIDE
from archc.operator.spelling import OnnxSpelling
from archc.ops.activation import Activation, onnx_clip
from archc.types.attributes import attribute
from archc.types.tensor_type import TensorType


@operator
class Hardsigmoid(Activation):
    """min(max(0, x + 3), 6) / 6.  (Howard et al. 2019, "Searching for MobileNetV3".)"""

    torch_name = "F.hardsigmoid"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> hardsigmoid"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("HardSigmoid", *spell.operands, alpha=1 / 6, beta=0.5)


@operator
class Hardswish(Activation):
    """x · min(max(0, x + 3), 6) / 6.  (Howard et al. 2019, "Searching for MobileNetV3".)"""

    torch_name = "F.hardswish"
    onnx_dtypes = ONNX_F32
    onnx_name = "HardSwish"
    example = "x -> hardswish"


@operator
class Hardtanh(Activation):
    """min(max(min_val, x), max_val)."""

    torch_name = "F.hardtanh"
    example = "x -> hardtanh(-2, 2)"

    min_val: float = attribute(-1.0, doc="the least result")
    max_val: float = attribute(1.0, doc="the greatest result")

    def check(self, types: Sequence[TensorType]) -> None:
        if not self.min_val < self.max_val:
            raise bad_attribute(self, "min_val", f"below `max_val`, which is {self.max_val}")

    def onnx(self, spell: OnnxSpelling) -> str:
        return onnx_clip(spell, self.min_val, self.max_val)


@operator
class Hardshrink(Activation):
    """x where |x| > lambd, else 0."""

    torch_name = "F.hardshrink"
    onnx_dtypes = ONNX_SINGLE  # `lambd` of `Shrink` is an f32
    example = "x -> hardshrink"

    lambd: float = attribute(0.5, doc="half the width of the band that becomes 0")

    def check(self, types: Sequence[TensorType]) -> None:
        _check_not_negative(self, "lambd")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Shrink", *spell.operands, lambd=self.lambd, bias=0.0)


@operator
class Softshrink(Activation):
    """sign(x) · max(0, |x| - lambd)."""

    torch_name = "F.softshrink"
    onnx_dtypes = ONNX_SINGLE
    example = "x -> softshrink"

    lambd: float = attribute(0.5, doc="how far results are moved towards 0")

    def check(self, types: Sequence[TensorType]) -> None:
        _check_not_negative(self, "lambd")

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Shrink", *spell.operands, lambd=self.lambd, bias=self.lambd)


@operator
class Tanhshrink(Activation):
    """x - tanh(x)."""

    torch_name = "F.tanhshrink"
    onnx_dtypes = ONNX_WIDE
    example = "x -> tanhshrink"

    def onnx(self, spell: OnnxSpelling) -> str:
        x = spell.operands[0]
        return spell.add("Sub", x, spell.add("Tanh", x))


def _check_not_negative(op: Operator, name: str) -> None:
    if not getattr(op, name) >= 0:
        raise bad_attribute(op, name, "0 or more")
