"""Tensors of numbers that belong to a model itself: worked out before it runs, or learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from archc.operator.axes import plain_axes
from archc.operator.base import Operator, OperatorError, operator
from archc.operator.dtypes import FLOATS
from archc.operator.parameter import Parameter, normal, zeros
from archc.operator.spelling import OnnxSpelling, TorchSpelling
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.signature import Pattern, Signature
from archc.types.tensor_type import DType, TensorType


@operator
class _Owned(Operator, abstract=True):
    """Numbers that depend on nothing."""

    family = "create"
    holds_weight = True
    factored_storage = True

    shape: tuple[int, ...] = attribute(doc="the sizes")
    dtype: DType = attribute(DType.f32, doc="the dtype of the numbers")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        axes = tuple(plain_axes(len(self.shape)))
        (name,) = self.parameters
        return Signature((Pattern(name, axes),), (Pattern("y", axes),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        if any(size < 0 for size in self.shape):
            raise OperatorError("bad-attribute", f"`{self.name}` cannot have the shape {self.shape}", attribute="shape")
        return {f"d{number}": size for number, size in enumerate(self.shape)}

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return tuple(self.extents(types))

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        return replace(self, shape=tuple(extents[name] for name in self.extents(types)))

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        return self.dtype

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        (numbers,) = spell.weights.values()
        return numbers

    def onnx(self, spell: OnnxSpelling) -> str:
        (numbers,) = spell.weights.values()
        return numbers


@operator
class Constant(_Owned):
    """Fixed numbers, kept with the weights and not trained; `simplify` leaves them where it computed something.

    A fresh one is all zeros, so it needs a weights file to mean something.
    """

    signature = "value[*d] -> y[*d]"
    parameters = {"value": Parameter(zeros, trainable=False)}
    example = "mask = constant((16, 16), bool)"


@operator
class LearnedTensor(_Owned):
    """Numbers that are learned, and depend on nothing: the vector of a class, a position, a temperature.

    A fresh one is drawn from N(0, 0.02²), as BERT draws its weights.
    """

    name = "parameter"
    signature = "weight[*d] -> y[*d]"
    parameters = {"weight": Parameter(normal(std=0.02))}
    dtypes = FLOATS
    integer_schemes = ("weight",)
    channel_axis = None
    example = "scale = parameter((64,))"
