"""Reductions along given axes or all axes, and the k largest elements along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archc.declaration.axes import plain_axes, plain_axis
from archc.declaration.base import Operator, OperatorError, operator, symbolic
from archc.declaration.checks import check_positive
from archc.declaration.dtypes import ANY, FLOATS, NUMBERS, ONNX_MOST, ONNX_WIDE
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, call, method
from archc.declaration.traits import Rigid
from archc.types.attributes import attribute
from archc.types.dims import as_symbol, maximum, product
from archc.types.extent_solver import Extent
from archc.types.signature import UNIT, Pattern, Signature
from archc.types.tensor_type import DType, TensorType


@operator
class Reduction(Operator, abstract=True):
    """Base of reductions, with the attributes that select the axes."""

    signature = "x[*d] -> y[*e]"
    dtypes = NUMBERS

    dim: int | tuple[int, ...] | None = attribute(None, axis="x", doc="axis or axes to reduce; all by default")
    keepdim: bool = attribute(False, doc="keep the reduced axes with size 1")

    def axes(self, types: Sequence[TensorType]) -> tuple[int, ...]:
        """The reduced axes, in order."""
        if self.dim is None:
            return tuple(range(types[0].rank))
        if self.dim == ():  # PyTorch would reduce all axes, NumPy none
            raise OperatorError(
                "bad-attribute",
                f"`{self.name}` expects at least one axis in `dim`, got `()`",
                attribute="dim",
                help="omit `dim` to reduce all axes",
            )
        return tuple(sorted(self.axis_numbers("dim", types)))

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        reduced, axes = self.axes(types), plain_axes(types[0].rank)
        kept = [
            UNIT if number in reduced else axis
            for number, axis in enumerate(axes)
            if number not in reduced or self.keepdim
        ]
        return Signature((Pattern("x", tuple(axes)),), (Pattern("y", tuple(kept)),))

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (self.result_dtype(types[0].dtype),)

    def result_dtype(self, dtype: DType) -> DType:
        """Dtype of the result for an operand of the given dtype; equal to the operand's by default."""
        return dtype

    def torch(self, spell: TorchSpelling) -> str:
        # PyTorch keeps reduced axes only if they are listed.
        dim = self.axes(spell.types) if self.keepdim and self.dim is None else self.dim
        return self.torch_reduce(spell, dim)

    def torch_reduce(self, spell: TorchSpelling, dim: int | tuple[int, ...] | None, **named: Any) -> str:
        """Text of the method call: `x.mean((2, 3))`."""
        kept = spell.options(keepdim=(self.keepdim, False))
        return method(spell.operands[0], self.torch_name.rpartition(".")[2], dim, **named, **kept)

    def onnx(self, spell: OnnxSpelling) -> str:
        return self.onnx_reduce(spell, self.onnx_name, spell.operands[0])

    def onnx_reduce(self, spell: OnnxSpelling, op_type: str, value: str, keepdim: bool | None = None) -> str:
        """Add an ONNX reduction over the axes."""
        axes = self.axes(spell.types)
        keep = int(self.keepdim if keepdim is None else keepdim)
        if not axes:
            return spell.add("Identity", value) if op_type != "ReduceL1" else spell.add("Abs", value)
        reduced: str = spell.add(op_type, value, spell.constant(list(axes)), keepdims=keep)
        return reduced


@operator
class Sum(Reduction):
    """The sum: y = Σ x; the sum of integers or truth values is i64.

    ONNX Runtime adds i64 in f64, which rounds sums beyond 2⁵³.
    """

    dtypes = ANY
    torch_name = "torch.sum"
    onnx_name = "ReduceSum"
    example = "x -> sum(1)"

    def result_dtype(self, dtype: DType) -> DType:
        return dtype if dtype.floating else DType.i64

    def onnx(self, spell: OnnxSpelling) -> str:
        value = spell.operands[0]
        if spell.results[0].dtype is not spell.types[0].dtype:
            value = spell.add("Cast", value, to=spell.results[0].dtype)
        return self.onnx_reduce(spell, "ReduceSum", value)


@operator
class Mean(Reduction):
    """The mean of n elements: y = Σ x / n; NaN if there are no elements."""

    dtypes = FLOATS
    torch_name = "torch.mean"
    onnx_name = "ReduceMean"
    example = "features -> mean((2, 3))"

    def onnx(self, spell: OnnxSpelling) -> str:
        mean, operand = super().onnx(spell), spell.types[0]
        if not any(symbolic(operand.shape[axis]) for axis in self.axes(spell.types)):
            return mean
        # The mean of no elements is 0 in ONNX Runtime, and NaN in PyTorch.
        empty = spell.add("Equal", spell.add("Size", spell.operands[0]), spell.constant(0))
        return spell.add("Where", empty, spell.constant(float("nan"), operand.dtype), mean)


@operator
class Max(Reduction):
    """The maximum."""

    torch_name = "torch.amax"
    onnx_name = "ReduceMax"
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "x -> max(1)"


@operator
class Min(Reduction):
    """The minimum."""

    torch_name = "torch.amin"
    onnx_name = "ReduceMin"
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "x -> min(1)"


@operator
class Var(Reduction):
    """The variance: y = Σ (x - mean)² / (n - correction)."""

    dtypes = FLOATS
    torch_name = "torch.var"
    onnx_dtypes = ONNX_WIDE
    example = "x -> var(1)"

    correction: int = attribute(1, keyword=True, doc="1 for an unbiased estimate, 0 for the mean square deviation")

    def torch_reduce(self, spell: TorchSpelling, dim: int | tuple[int, ...] | None, **named: Any) -> str:
        corrected = spell.options(correction=(self.correction, 1))
        return super().torch_reduce(spell, dim, **named, **corrected)

    def onnx(self, spell: OnnxSpelling) -> str:
        operand = spell.types[0]
        mean = self.onnx_reduce(spell, "ReduceMean", spell.operands[0], keepdim=True)
        deviation = spell.add("Sub", spell.operands[0], mean)
        total = self.onnx_reduce(spell, "ReduceSum", spell.add("Mul", deviation, deviation))
        count = product([operand.shape[axis] for axis in self.axes(spell.types)]) - self.correction
        if isinstance(count, int):
            divisor = spell.constant(float(max(count, 0)), operand.dtype)
        else:
            divisor = spell.add("Cast", spell.size(maximum(count, 0)), to=operand.dtype)
        return spell.add("Div", total, divisor)


@operator
class Std(Var):
    """The standard deviation: the square root of the variance."""

    torch_name = "torch.std"
    example = "x -> std(1)"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Sqrt", super().onnx(spell))


@operator
class Norm(Reduction):
    """The p-norm: y = (Σ |x|ᵖ)^(1/p); with p = inf the maximum of |x|."""

    dtypes = FLOATS
    onnx_dtypes = ONNX_WIDE
    example = "x -> norm(1, p = 1)"

    p: float = attribute(2.0, keyword=True, doc="order of the norm, above 0")

    def check(self, types: Sequence[TensorType]) -> None:
        if not self.p > 0:
            raise OperatorError("bad-attribute", f"`p` of `norm` must be above 0, got {self.p}", attribute="p")

    def torch(self, spell: TorchSpelling) -> str:
        given = spell.options(dim=(self.dim, None), keepdim=(self.keepdim, False))
        order = int(self.p) if self.p.is_integer() else self.p
        return call("torch.linalg.vector_norm", *spell.operands, order, **given)

    def onnx(self, spell: OnnxSpelling) -> str:
        x, dtype = spell.operands[0], spell.types[0].dtype
        if not self.axes(spell.types):
            return spell.add("Abs", x)
        if self.p in (1.0, 2.0):
            return self.onnx_reduce(spell, "ReduceL1" if self.p == 1.0 else "ReduceL2", x)
        size = spell.add("Abs", x)
        if self.p == float("inf"):
            return self.onnx_reduce(spell, "ReduceMax", size)
        powers = spell.add("Pow", size, spell.constant(self.p, dtype))
        return spell.add("Pow", self.onnx_reduce(spell, "ReduceSum", powers), spell.constant(1 / self.p, dtype))


@operator
class Argmax(Reduction):
    """Index of the maximum along an axis; the lowest index if there are several maxima.

    Without `dim`, the result is the index in the flattened operand.
    """

    torch_name = "torch.argmax"
    onnx_name = "ArgMax"
    onnx_dtypes = ONNX_MOST - {DType.i16}
    example = "logits -> argmax(1)"

    dim: int | None = attribute(None, axis="x", doc="axis to reduce; by default all elements")

    def result_dtype(self, dtype: DType) -> DType:
        return DType.i64

    def torch(self, spell: TorchSpelling) -> str:
        return self.torch_reduce(spell, self.dim)

    def onnx(self, spell: OnnxSpelling) -> str:
        value, dim = spell.operands[0], self.dim
        if dim is not None:
            # ONNX Runtime cannot reduce an axis of size 0 that is given as -1.
            axis = self.axis_number("dim", spell.types)
            return spell.add(self.onnx_name, value, axis=axis, keepdims=int(self.keepdim))
        flat = spell.add("Reshape", value, spell.constant([-1]))
        found: str = spell.add(self.onnx_name, flat, axis=0, keepdims=0)
        shape = spell.constant([1] * spell.types[0].rank)
        return spell.add("Reshape", found, shape) if self.keepdim else found


@operator
class Argmin(Argmax):
    """Index of the minimum along an axis; the lowest index if there are several minima.

    Without `dim`, the result is the index in the flattened operand.
    """

    torch_name = "torch.argmin"
    onnx_name = "ArgMin"
    example = "x -> argmin(1)"


@operator
class Topk(Operator):
    """The k largest elements along an axis, in descending order, and their i64 indices.

    Shapes: x[..., n, ...] -> values[..., k, ...], indices[..., k, ...].  The backend determines the
    order of equal elements, as in PyTorch.
    """

    signature = "x[*s, n] -> values[*s, k], indices[*s, k]"
    family = "reduce"
    dtypes = NUMBERS
    example = "values, indices = scores -> topk(5)"
    traits = (Rigid("n", "k"),)

    k: int = attribute(doc="number of elements")
    dim: int = attribute(-1, axis="x", doc="axis to search")
    largest: bool = attribute(True, doc="false for the smallest elements, in ascending order")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        before, after = plain_axes(types[0].rank), plain_axes(types[0].rank)
        axis = self.axis_number("dim", types)
        before[axis], after[axis] = plain_axis("n"), plain_axis("k")
        results = (Pattern("values", tuple(after)), Pattern("indices", tuple(after)))
        return Signature((Pattern("x", tuple(before)),), results)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"k": self.k}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "k")
        axis = self.axis_number("dim", types)
        size = types[0].shape[axis]
        symbol = as_symbol(size)
        most = size if isinstance(size, int) else symbol.maximum if symbol else None
        if most is not None and self.k > most:
            count = f"{most}" if isinstance(size, int) else f"at most {most}"
            raise OperatorError(
                "bad-attribute",
                f"`topk` expects at least {self.k} elements along axis {axis} of {types[0]}, got {count}",
                operand=0,
                attribute="k",
                help="use a smaller `k`, or set `dim`, by default the last axis",
            )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        return [(types[0].shape[self.axis_number("dim", types)], self.k)]

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[0].dtype, DType.i64)

    def torch(self, spell: TorchSpelling) -> str:
        largest = spell.options(largest=(self.largest, True))
        return method(spell.operands[0], "topk", self.k, spell.option("dim", self.dim, -1), **largest)

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        count, largest = spell.constant([self.k]), int(self.largest)
        return tuple(spell.add("TopK", *spell.operands, count, outputs=2, axis=self.dim, largest=largest, sorted=1))
