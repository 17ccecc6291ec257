"""Joining and splitting tensors: `concat` and `stack`, `split` and `chunk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.declaration.axes import plain_axes, plain_axis
from archc.declaration.base import Operator, OperatorError, operator
from archc.declaration.dtypes import ONNX_ALL
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, call, literal, method
from archc.declaration.traits import CONCATENATES, INTEGER_KERNEL, LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible
from archc.types.attributes import attribute, attributes
from archc.types.dims import SymbolicDim, divide
from archc.types.extent_solver import Extent
from archc.types.signature import Axis, Index, Pattern, Signature
from archc.types.tensor_type import DType, TensorType


@operator
class Concat(Operator):
    """Concatenation of tensors along an axis; the sizes of all other axes must be equal.

    Shapes: a[..., p, ...], b[..., q, ...], … -> y[..., p + q + …, ...].
    """

    signature = "a[*s, p], b[*s, q] -> y[*s, p + q]"
    onnx_dtypes = ONNX_ALL
    example = "(a, b) -> concat(1)"
    traits = (LAYOUT_ONLY, CONCATENATES, SAME_IF_SAME_TYPE, INTEGER_KERNEL)

    dim: int = attribute(0, axis="a", doc="axis of the concatenation")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if not types:
            return super().signature_for(types)
        axis = self.axis_number("dim", types)
        operands = []
        for number in range(len(types)):
            axes = plain_axes(types[0].rank)
            axes[axis] = plain_axis(f"p{number}")
            operands.append(Pattern(f"x{number}", tuple(axes)))
        axes[axis] = _sum_axis("p", len(types))
        return Signature(tuple(operands), (Pattern("y", tuple(axes)),))

    def torch(self, spell: TorchSpelling) -> str:
        return call("torch.cat", _tuple(spell.operands), spell.option("dim", self.dim, 0))

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Concat", *spell.operands, axis=self.dim)


@operator
class Stack(Operator):
    """Concatenation of tensors of one shape along a new axis.

    Shapes: n operands [...] -> y[..., n, ...].
    """

    signature = "a[*s], b[*s] -> y[n, *s]"
    onnx_dtypes = ONNX_ALL
    example = "(a, b) -> stack"
    traits = (LAYOUT_ONLY, CONCATENATES)

    dim: int = attribute(0, axis="y", doc="position of the new axis in the result")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if not types:
            return super().signature_for(types)
        place = self.axis_number("dim", types)
        axes = plain_axes(types[0].rank)
        operands = [Pattern(f"x{number}", tuple(axes)) for number in range(len(types))]
        return Signature(tuple(operands), (Pattern("y", (*axes[:place], plain_axis("n"), *axes[place:])),))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"n": len(types)}

    def torch(self, spell: TorchSpelling) -> str:
        return call("torch.stack", _tuple(spell.operands), spell.option("dim", self.dim, 0))

    def onnx(self, spell: OnnxSpelling) -> str:
        axes = spell.constant([self.dim])
        parts = [spell.add("Unsqueeze", operand, axes) for operand in spell.operands]
        # The unsqueezed operands have the rank of the result, so a negative `dim` is valid for both operators.
        return spell.add("Concat", *parts, axis=self.dim)


MOST_RESULTS = 10_000
"""Limit on the parts of one `split` or `chunk`; each part is a value of the graph."""


@operator
class Splitter(Operator, abstract=True):
    """Base of `split` and `chunk`, whose signature follows from the sizes of the parts."""

    signature = "x[*s, p + q] -> a[*s, p], b[*s, q]"
    onnx_dtypes = ONNX_ALL
    traits = (LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible())

    def parts(self, operand: TensorType, axis: int) -> tuple[Extent, ...]:
        """Size of each part."""
        raise AssertionError(f"{type(self).__name__} implements no `parts`")

    def axis(self, types: Sequence[TensorType]) -> int:
        """The axis that is split; subclasses declare the attribute `dim`."""
        return self.axis_number("dim", types)

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        axis = self.axis(types)
        count = len(self.parts(types[0], axis))
        axes = plain_axes(types[0].rank)
        results = [
            Pattern(f"y{number}", (*axes[:axis], plain_axis(f"p{number}"), *axes[axis + 1 :]))
            for number in range(count)
        ]
        axes[axis] = _sum_axis("p", count)
        return Signature((Pattern("x", tuple(axes)),), tuple(results))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {f"p{number}": size for number, size in enumerate(self.parts(types[0], self.axis(types)))}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Operator:
        """The operator that splits the axis into parts of the given sizes."""
        sizes = tuple(extents[name] for name in self.extents(types))
        return self.divided(sizes, self.axis(types))

    def divided(self, sizes: tuple[Extent, ...], axis: int) -> Operator:
        """The operator that splits an axis into parts of the given sizes."""
        return Split(sizes, axis)

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (types[0].dtype,) * len(self.parts(types[0], self.axis(types)))

    def onnx(self, spell: OnnxSpelling) -> str | tuple[str, ...]:
        axis = self.axis(spell.types)
        sizes = spell.shape([result.shape[axis] for result in spell.results])
        if len(spell.results) == 1:
            return spell.add("Split", spell.operands[0], sizes, axis=axis)
        return tuple(spell.add("Split", spell.operands[0], sizes, outputs=len(spell.results), axis=axis))


@operator
class Split(Splitter):
    """Parts of a tensor along an axis, with one size for all parts or a size for each part.

    With one size, the last part may be smaller.
    """

    example = "q, k, v = x -> split(768, dim = 2)"

    split_size: int | SymbolicDim | tuple[int | SymbolicDim, ...] = attribute(doc="size of all parts, or of each part")
    dim: int = attribute(0, axis="x", doc="the axis to cut")

    def divided(self, sizes: tuple[Extent, ...], axis: int) -> Split:
        equal = not isinstance(self.split_size, tuple) and len(set(sizes)) == 1
        return replace(self, split_size=sizes[0] if equal else sizes)

    def parts(self, operand: TensorType, axis: int) -> tuple[Extent, ...]:
        whole = operand.shape[axis]
        if isinstance(self.split_size, tuple):
            if not self.split_size or any(isinstance(size, int) and size < 0 for size in self.split_size):
                raise OperatorError("bad-attribute", "`split` expects sizes of at least 0", attribute="split_size")
            total = sum(self.split_size, start=0)
            if total != whole:
                raise OperatorError(
                    "shape-mismatch",
                    f"`split` expects sizes with the sum {whole} for axis {axis} of {operand}, got {total}",
                    operand=0,
                    attribute="split_size",
                )
            return self.split_size
        return _equal_parts(self, operand, axis, self.split_size)

    def torch(self, spell: TorchSpelling) -> str:
        sizes, dim = self.split_size, spell.option("dim", self.dim, 0)
        if isinstance(sizes, tuple):
            text = ", ".join(spell.size(size) for size in sizes) + ("," if len(sizes) == 1 else "")
            return _single(spell, method(spell.operands[0], "split", Verbatim(f"({text})"), dim))
        return _single(spell, method(spell.operands[0], "split", Verbatim(spell.size(sizes)), dim))


@operator
class Chunk(Splitter):
    """Parts of a tensor along an axis: `chunks` parts of equal size.

    If `chunks` does not divide the size of the axis, the last part is smaller, or there are fewer parts, as in
    PyTorch.
    """

    example = "q, k, v = x -> chunk(3, dim = 2)"

    chunks: int = attribute(doc="number of parts")
    dim: int = attribute(0, axis="x", doc="the axis to cut")

    def divided(self, sizes: tuple[Extent, ...], axis: int) -> Operator:
        return self if len(set(sizes)) == 1 else Split(sizes, self.dim)

    def parts(self, operand: TensorType, axis: int) -> tuple[Extent, ...]:
        whole = operand.shape[axis]
        if self.chunks < 1:
            raise OperatorError(
                "bad-attribute", f"`chunk` expects at least 1 part, got {self.chunks}", attribute="chunks"
            )
        exact = divide(whole, self.chunks)
        if exact is not None:
            _check_count(self, self.chunks, "chunks")
            return (exact,) * self.chunks
        if isinstance(whole, int):
            return _equal_parts(self, operand, axis, -(-whole // self.chunks))
        raise OperatorError(
            "shape-mismatch",
            f"`chunk` cannot split axis {axis} of {operand} into {self.chunks} parts:"
            f" {self.chunks} may not divide {whole}",
            operand=0,
            attribute="chunks",
        )

    def torch(self, spell: TorchSpelling) -> str:
        return _single(spell, method(spell.operands[0], "chunk", self.chunks, spell.option("dim", self.dim, 0)))


def _equal_parts(op: Operator, operand: TensorType, axis: int, size: Extent) -> tuple[Extent, ...]:
    """Parts of one size; the last part is smaller if that size does not divide the size of the axis."""
    whole = operand.shape[axis]
    if isinstance(size, int) and size < 1:
        raise OperatorError(
            "bad-attribute", f"`{op.name}` expects a size of at least 1, got {size}", attribute="split_size"
        )
    count = divide(whole, size)
    if isinstance(count, int) and count > 0:
        _check_count(op, count, next(iter(attributes(type(op)))).name)
        return (size,) * count
    if isinstance(whole, int) and isinstance(size, int):
        _check_count(op, whole // size, next(iter(attributes(type(op)))).name)
        return (*((size,) * (whole // size)), *((whole % size,) if whole % size or not whole else ()))
    raise OperatorError(
        "shape-mismatch",
        f"`{op.name}` has an unknown number of parts: axis {axis} of {operand} in parts of {size}",
        operand=0,
        attribute="split_size",
        help="give a size for each part, `split((1, T - 1))`, or their number, `chunk(3)`",
    )


def _check_count(op: Operator, count: int, attribute: str) -> None:
    """Check that an operator has at most `MOST_RESULTS` results.

    Raises:
        OperatorError: the operator has more results (`model-too-large`).
    """
    if count > MOST_RESULTS:
        raise OperatorError(
            "model-too-large",
            f"`{op.name}` would make {count:,} tensors; the limit is {MOST_RESULTS:,}",
            attribute=attribute,
            help="use fewer and larger parts, or `reshape` the axis into two",
        )


def _single(spell: TorchSpelling, parts: str) -> str:
    """PyTorch text of the parts; for a single part, the text of this part instead of a tuple."""
    return f"{parts}[0]" if len(spell.results) == 1 else parts


def _sum_axis(name: str, count: int) -> Axis:
    return Axis(tuple((Index(f"{name}{number}"),) for number in range(count)))


def _tuple(expressions: Sequence[str]) -> str:
    return literal(tuple(Verbatim(expression) for expression in expressions))
