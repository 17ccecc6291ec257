"""A tensor of numbers that were worked out before the model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.ir.attributes import attribute
from archc.ir.signature import Pattern, Signature
from archc.ir.solve import Extent
from archc.ir.types import DType, TensorType
from archc.ops.axes import plain_axes
from archc.ops.operator import Operator, OperatorError, operator
from archc.ops.parameter import Parameter, zeros
from archc.ops.spelling import OnnxSpelling, TorchSpelling


@operator
class Constant(Operator):
    """Fixed numbers, kept with the weights and not trained; `simplify` leaves them where it computed something.

    A fresh one is all zeros, so it needs a weights file to mean something.
    """

    family = "create"
    signature = "value[*d] -> y[*d]"
    parameters = {"value": Parameter(zeros, trainable=False)}
    example = "mask = constant((16, 16), bool)"

    shape: tuple[int, ...] = attribute(doc="the sizes")
    dtype: DType = attribute(DType.f32, doc="the dtype of the numbers")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        axes = tuple(plain_axes(len(self.shape)))
        return Signature((Pattern("value", axes),), (Pattern("y", axes),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        if any(size < 0 for size in self.shape):
            raise OperatorError("bad-attribute", f"`constant` cannot have the shape {self.shape}", attribute="shape")
        return {f"d{number}": size for number, size in enumerate(self.shape)}

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return tuple(self.extents(types))

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Constant:
        return replace(self, shape=tuple(extents[name] for name in self.extents(types)))

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return self.dtype

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        return spell.weights["value"]

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.weights["value"]
