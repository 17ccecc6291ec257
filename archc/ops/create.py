"""Tensors without operands: ranges, filled tensors, constants, parameters; and conversion of dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, Self

from archc.declaration.axes import plain_axes
from archc.declaration.base import Operator, OperatorError, SizeOf, operator
from archc.declaration.dtypes import FLOATS, NUMBERS, ONNX_ALL, ONNX_MOST, as_element, dtype_set, wider
from archc.declaration.parameter import Parameter, normal, zeros
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, call, literal, method
from archc.declaration.traits import (
    FACTORED_STORAGE,
    HOLDS_WEIGHT,
    IDEMPOTENT,
    INVOLUTION,
    LAYOUT_ONLY,
    POINTWISE,
    SAME_IF_SAME_TYPE,
    AllEqual,
    Flexible,
    Number,
    Quantizable,
    Traits,
)
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, floor_divide
from archc.types.extent_solver import Extent
from archc.types.signature import Pattern, Signature
from archc.types.tensor_type import DType, TensorType

_COUNTING = dtype_set("f64 f32 i64 i32")
"""Dtypes for which `torch.arange` accepts every size as `end`."""


@operator
class Arange(Operator):
    """The integers from `start` up to, but not including, `end`: start, start + step, …"""

    signature = " -> y[n]"
    dtypes = NUMBERS
    example = "positions = arange(T)"

    end: int | SymbolicDim = attribute(doc="end of the range, excluded")
    start: int | SymbolicDim = attribute(0, doc="first number")
    step: int = attribute(1, doc="difference of consecutive numbers; not 0")
    dtype: DType = attribute(DType.i64, keyword=True, doc="dtype of the result")

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        if self.step == 0:
            raise OperatorError("bad-attribute", "`arange` expects a step other than 0", attribute="step")
        distance, step = (self.end - self.start, self.step) if self.step > 0 else (self.start - self.end, -self.step)
        count = floor_divide(distance + step - 1, step)  # rounded up
        if isinstance(count, int) and count < 0:
            raise OperatorError(
                "bad-attribute", f"`arange` cannot reach {self.end} from {self.start} in steps of {self.step}"
            )
        return {"n": count}

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype,)

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        numbers = range(size(self.start), size(self.end), self.step)
        return range(min(numbers), max(numbers) + 1) if numbers else None

    def torch(self, spell: TorchSpelling) -> str:
        numbers = [spell.size(self.end)]
        step = spell.option("step", self.step, 1)
        if step is not None or spell.option("start", self.start, 0) is not None:
            numbers.insert(0, spell.size(self.start))
        if step is not None:
            numbers.append(str(step))
        # `torch.arange` rejects an `end` beyond the range of its dtype.  So numbers of narrow dtypes are made as i64
        # and then cast: integers wrap around, and floats become infinite.
        direct = self.dtype in _COUNTING
        made = call("torch.arange", *numbers, **_tensor_options(self.dtype if direct else DType.i64, DType.i64, spell))
        return made if direct else method(made, "to", Verbatim(literal(self.dtype)))

    def onnx(self, spell: OnnxSpelling) -> str:
        value: str = spell.add("Range", spell.size(self.start), spell.size(self.end), spell.size(self.step))
        return value if self.dtype is DType.i64 else spell.add("Cast", value, to=self.dtype)


@operator
class Filled(Operator, abstract=True):
    """Base of tensors with one value."""

    signature = " -> y[*d]"
    traits: ClassVar[Traits] = (Flexible(),)

    shape: tuple[int | SymbolicDim, ...] = attribute(doc="shape of the result")
    _: KW_ONLY
    dtype: DType = attribute(DType.f32, keyword=True, doc="dtype of the result")

    def element(self) -> Number:
        """The value of every element, converted to the dtype."""
        filled = self.trait(AllEqual)
        assert filled is not None, f"{type(self).__name__} does not declare its value"
        return as_element(filled.value(self), self.dtype)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        return Signature((), (Pattern("y", tuple(plain_axes(len(self.shape)))),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        for size in self.shape:
            if isinstance(size, int) and size < 0:
                raise OperatorError(
                    "bad-attribute", f"`{self.name}` expects sizes of at least 0, got {size}", attribute="shape"
                )
        return {f"d{number}": size for number, size in enumerate(self.shape)}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        return replace(self, shape=tuple(extents[name] for name in self.extents(types)))

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        return call(self.torch_name, self.torch_sizes(spell), **_tensor_options(self.dtype, DType.f32, spell))

    def torch_sizes(self, spell: TorchSpelling) -> Verbatim:
        """The shape as PyTorch text."""
        return Verbatim(literal(tuple(Verbatim(spell.size(size)) for size in self.shape)))

    def onnx(self, spell: OnnxSpelling) -> str:
        known = wider(self.dtype, ONNX_MOST)
        value: str = spell.add("Expand", spell.constant(self.element(), known), spell.shape(self.shape))
        return value if known is self.dtype else spell.add("Cast", value, to=self.dtype)


@operator
class Full(Filled):
    """A tensor with one value."""

    traits = (AllEqual("value"),)
    example = "mask = full((T, T), 1.0)"

    value: int | float | bool = attribute(element=True, doc="value of every element")

    def torch(self, spell: TorchSpelling) -> str:
        natural = {bool: DType.bool, int: DType.i64, float: DType.f32}[type(self.element())]
        return call(
            "torch.full", self.torch_sizes(spell), self.element(), **_tensor_options(self.dtype, natural, spell)
        )


@operator
class Zeros(Filled):
    """A tensor of zeros."""

    traits = (AllEqual(0),)
    torch_name = "torch.zeros"
    example = "x = zeros((N, 64))"


@operator
class Ones(Filled):
    """A tensor of ones."""

    traits = (AllEqual(1),)
    torch_name = "torch.ones"
    example = "x = ones((N, 64))"


@operator
class Cast(Operator):
    """The same values in another dtype; fractions are truncated, and truth values become 0 and 1.

    Integers beyond the range of the dtype wrap around.  Infinity, NaN and floating-point numbers beyond the range
    become integers that depend on the CPU; on x86, PyTorch and ONNX Runtime agree.
    """

    signature = "x[*s] -> y[*s]"
    traits = (POINTWISE, IDEMPOTENT, SAME_IF_SAME_TYPE)
    onnx_dtypes = ONNX_ALL
    example = "x -> cast(f16)"

    dtype: DType = attribute(doc="dtype of the result")

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.dtype,)

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "to", Verbatim(literal(self.dtype)))

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Cast", spell.operands[0], to=self.dtype)


@operator
class Identity(Operator):
    """The operand itself: y = x."""

    signature = "x[*s] -> y[*s]"
    traits = (POINTWISE, IDEMPOTENT, INVOLUTION, LAYOUT_ONLY, SAME_IF_SAME_TYPE)
    onnx_name = "Identity"
    onnx_dtypes = ONNX_ALL
    example = "x -> identity"

    def torch(self, spell: TorchSpelling) -> str:
        return spell.operands[0]


def _tensor_options(dtype: DType, default: DType | None, spell: TorchSpelling) -> dict[str, Any]:
    """Keyword arguments of PyTorch functions for dtype and device."""
    kind: dict[str, Any] = {} if dtype is default else {"dtype": dtype}
    return kind if spell.device is None else kind | {"device": Verbatim(spell.device)}


@operator
class OwnedTensor(Operator, abstract=True):
    """Base of operators that own a stored tensor and return it."""

    family = "create"
    traits: ClassVar[Traits] = (HOLDS_WEIGHT, FACTORED_STORAGE, Flexible())

    shape: tuple[int, ...] = attribute(doc="shape of the result")
    dtype: DType = attribute(DType.f32, doc="dtype of the result")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        axes = tuple(plain_axes(len(self.shape)))
        (name,) = self.parameters
        return Signature((Pattern(name, axes),), (Pattern("y", axes),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        if any(size < 0 for size in self.shape):
            raise OperatorError(
                "bad-attribute", f"`{self.name}` expects sizes of at least 0, got {self.shape}", attribute="shape"
            )
        return {f"d{number}": size for number, size in enumerate(self.shape)}

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
class Constant(OwnedTensor):
    """A fixed tensor that is stored with the weights and not trained.

    The initial value is zero: load another value from a weights file.  The pass `simplify` also stores the results of
    constant folding in constants.
    """

    signature = "value[*d] -> y[*d]"
    parameters = {"value": Parameter(zeros, trainable=False)}
    example = "mask = constant((16, 16), bool)"


@operator
class LearnedTensor(OwnedTensor):
    """A learned tensor without operands, such as a class token, position embeddings or a temperature.

    The initial elements are drawn from N(0, 0.02²), like the weights of BERT.
    """

    name = "parameter"
    signature = "weight[*d] -> y[*d]"
    parameters = {"weight": Parameter(normal(std=0.02))}
    dtypes = FLOATS
    traits = (Quantizable("weight", channel_axis=None),)
    example = "scale = parameter((64,))"
