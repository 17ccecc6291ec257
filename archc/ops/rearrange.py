"""Operators that only move elements: `rearrange` and its special cases, such as `flatten`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from archc.declaration.base import Operator, OperatorError, operator, symbolic
from archc.declaration.dtypes import ONNX_ALL
from archc.declaration.pattern import AxisMoves, parse_pattern
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, method
from archc.declaration.traits import COMMUTES_WITH_ROUNDING, LAYOUT_ONLY, Flexible, Traits, Uniform
from archc.types.attributes import AttributeProblem, attribute, string_literal, value_text
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Extent
from archc.types.signature import Index, Signature, Spread
from archc.types.tensor_type import TensorType


@operator
class Rearrangement(Operator, abstract=True):
    """Base of `rearrange` and its special cases: operators that a pattern such as `a b -> b a` defines."""

    signature = "x[*d] -> y[*e]"
    onnx_dtypes = ONNX_ALL
    traits: ClassVar[Traits] = (LAYOUT_ONLY, COMMUTES_WITH_ROUNDING)

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        """Pattern for an operand of the given type; see `archc.declaration.pattern`."""
        raise AssertionError(f"{type(self).__name__} implements no `pattern_for`")

    def pattern_sizes(self, types: Sequence[TensorType]) -> Mapping[str, Extent]:
        """Sizes of the pattern's axes that attributes determine."""
        return {}

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:  # the base class reports a wrong number of operands
            return super().signature_for(types)
        return parse_pattern(self.pattern_for(types))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return dict(self.pattern_sizes(types))

    def in_order(self, types: Sequence[TensorType]) -> bool:
        """Return whether the elements keep their row-major order, and only the axes change."""
        permutation = AxisMoves.of(self.signature_for(types), types[0].rank).permutation
        return permutation == sorted(permutation)

    def order(self, types: Sequence[TensorType]) -> tuple[int, ...] | None:
        """Operand axis of each result axis, if the pattern only permutes axes; else None."""
        moves = AxisMoves.of(self.signature_for(types), types[0].rank)
        whole = all(len(names) == 1 for names in (*moves.split, *moves.merged))
        return tuple(moves.permutation) if whole else None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        return 0 if self.in_order(types) and self.infer(types).results[0] == types[0] else None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """0 (the operand) if `inner` and this operator cancel; one permutation if both are permutations."""
        if not isinstance(inner, Rearrangement):
            return None
        between = inner.infer(types).results
        first, second = inner.order(types), self.order(between)
        if first is not None and second is not None:
            return self.permuted(tuple(first[axis] for axis in second))
        in_order = inner.in_order(types) and self.in_order(between)
        return 0 if in_order and self.infer(between).results[0] == types[0] else None

    @staticmethod
    def permuted(order: tuple[int, ...]) -> Operator | int:
        """The permutation of axes into an order; 0, the operand itself, if the axes are already in that order."""
        return Permute(order) if order != tuple(range(len(order))) else 0

    def torch(self, spell: TorchSpelling) -> str:
        moves = AxisMoves.of(self.signature_for(spell.types), spell.types[0].rank)
        text = spell.operands[0]
        # The loop starts at the last axis, so that the numbers of the remaining axes do not change.
        for number, names in reversed(list(enumerate(moves.split))):
            if not names:
                text = method(text, "squeeze", number)
            elif len(names) > 1:
                text = method(text, "unflatten", number, self._torch_sizes(names, spell))
        swapped = [number for number, source in enumerate(moves.permutation) if number != source]
        if len(swapped) == 2:
            text = method(text, "transpose", *swapped)
        elif swapped:
            text = method(text, "permute", *moves.permutation)
        for number, names in enumerate(moves.merged):
            if not names:
                text = method(text, "unsqueeze", number)
            elif len(names) > 1:
                # All axes to the left are merged already, so the first axis to merge has the number `number`.
                last = not any(moves.merged[number + 1 :])
                text = method(text, "flatten", number, None if last else number + len(names) - 1)
        return text

    def _torch_sizes(self, names: Sequence[str], spell: TorchSpelling) -> Verbatim:
        """Sizes of the parts of an axis, with -1 for a size that PyTorch can infer."""
        given = self.pattern_sizes(spell.types)
        sizes = [spell.sizes[name] for name in names]
        free = [k for k, size in enumerate(sizes) if isinstance(size, SymbolicDim)]
        free += [k for k, name in enumerate(names) if name not in given and k not in free]
        # PyTorch cannot infer -1 if another size is 0; a symbolic size may be 0.
        left = free[:1] if sum(isinstance(size, SymbolicDim) for size in sizes) <= 1 and 0 not in sizes else []
        texts = ["-1" if k in left else spell.size(size) for k, size in enumerate(sizes)]
        return Verbatim(f"({', '.join(texts)})")

    def onnx(self, spell: OnnxSpelling) -> str:
        moves = AxisMoves.of(self.signature_for(spell.types), spell.types[0].rank)
        value = spell.operands[0]
        shape: list[Extent] = list(spell.types[0].shape)
        factors = [spell.sizes[name] for names in moves.split for name in names]
        if any(len(names) != 1 for names in moves.split):
            value, shape = spell.reshape(value, factors), factors
        if moves.permutation != sorted(moves.permutation):
            value = spell.add("Transpose", value, perm=moves.permutation)
            shape = [shape[source] for source in moves.permutation]
        if any(len(names) != 1 for names in moves.merged):
            value = spell.reshape(value, spell.results[0].shape)
        return spell.add("Identity", value) if value == spell.operands[0] else value


@operator
class Rearrange(Rearrangement):
    """The same elements with other axes, by a pattern: `b t (h e) -> b h t e`.

    Axes in parentheses form one axis; the first of them varies slowest.  `1` is an axis of size 1, `*d` matches
    any number of axes, and `(*d)` merges all these axes into one.  If the operand does not determine the size of an
    axis, give the size by name: `h = 12`.
    """

    traits = (Flexible(),)
    example = 'x -> rearrange("b t (h e) -> b h t e", h = 12)'

    pattern: str = attribute(doc="axes of the operand and of the result")
    sizes: tuple[tuple[str, int | SymbolicDim], ...] = attribute((), keyword=True, doc="sizes of axes: `h = 12`")

    @classmethod
    def from_arguments(cls, positional: Sequence[Any], named: Mapping[str, Any]) -> Self:
        # Every argument by name, except `pattern`, is the size of an axis.
        for name, value in named.items():
            if name != "pattern" and (isinstance(value, bool) or not isinstance(value, (int, SymbolicDim))):
                raise AttributeProblem("wrong-type", f"`{name}` of `rearrange` must be a size", name)
        pattern = {name: value for name, value in named.items() if name == "pattern"}
        sizes = tuple((name, value) for name, value in named.items() if name != "pattern")
        bare = super().from_arguments(positional, pattern)
        return cls(bare.pattern, sizes)

    def arguments(self) -> list[str]:
        return [string_literal(self.pattern), *(f"{name} = {value_text(size)}" for name, size in self.sizes)]

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return self.pattern

    def pattern_sizes(self, types: Sequence[TensorType]) -> Mapping[str, Extent]:
        return dict(self.sizes)

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Rearrange:
        return Rearrange(self.pattern, tuple((name, extents[name]) for name, _ in self.sizes))

    def check(self, types: Sequence[TensorType]) -> None:
        factors = [factor for axis in parse_pattern(self.pattern).operands[0].axes for factor in axis.factors]
        known = {factor.name for factor in factors if isinstance(factor, Index)}
        for name, size in self.sizes:
            if name not in known:
                spread = any(isinstance(factor, Spread) and factor.name == name for factor in factors)
                raise OperatorError(
                    "unknown-attribute",
                    f"`{name}` is not a single axis of the pattern {string_literal(self.pattern)}",
                    attribute=name,
                    help="`*` matches several axes, which have no common size" if spread else None,
                )
            if isinstance(size, int) and size < 1:
                raise OperatorError(
                    "bad-attribute", f"`rearrange` expects a positive size of `{name}`, got {size}", attribute=name
                )


@operator
class Flatten(Rearrangement):
    """Several axes merged into one: y[n, (c h w)] = x[n, c, h, w]."""

    example = "features -> flatten"

    start_dim: int = attribute(1, axis="x", doc="first axis to merge")
    end_dim: int = attribute(-1, axis="x", doc="last axis to merge")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        start, end = self._ends(types)
        names = _names(types[0].rank)
        merged = f"({' '.join(names[start : end + 1])})"
        return _pattern(names, [*names[:start], merged, *names[end + 1 :]])

    def _ends(self, types: Sequence[TensorType]) -> tuple[int, int]:
        start, end = self.axis_number("start_dim", types), self.axis_number("end_dim", types)
        if start > end:
            raise OperatorError(
                "bad-attribute", f"`flatten` cannot merge from axis {start} to axis {end}", attribute="start_dim"
            )
        return start, end

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "flatten", self.start_dim, spell.option("end_dim", self.end_dim, -1))

    def torch_integers(self, spell: TorchSpelling) -> str:
        return self.torch(spell)

    def onnx(self, spell: OnnxSpelling) -> str:
        if self._ends(spell.types) == (1, spell.types[0].rank - 1):
            return spell.add("Flatten", spell.operands[0], axis=1)
        return super().onnx(spell)


@operator
class Unflatten(Rearrangement):
    """One axis split into several, in row-major order; a size of -1 is inferred from the other sizes."""

    traits = (Flexible(),)
    example = "x -> unflatten(2, (12, 64))"

    dim: int = attribute(axis="x", doc="axis to split")
    sizes: tuple[int | SymbolicDim, ...] = attribute(doc="sizes of the new axes; one may be -1")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        axis = self.axis_number("dim", types)
        if not self.sizes or sum(1 for size in self.sizes if size == -1) > 1:
            raise OperatorError("bad-attribute", "`unflatten` expects sizes, of which one may be -1", attribute="sizes")
        names = _names(types[0].rank)
        factors = [f"u{number}" for number in range(len(self.sizes))]
        split = [*names[:axis], f"({' '.join(factors)})", *names[axis + 1 :]]
        return _pattern(split, [*names[:axis], *factors, *names[axis + 1 :]])

    def pattern_sizes(self, types: Sequence[TensorType]) -> Mapping[str, Extent]:
        return {f"u{number}": size for number, size in enumerate(self.sizes) if size != -1}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Unflatten:
        sizes = (-1 if size == -1 else extents[f"u{number}"] for number, size in enumerate(self.sizes))
        return Unflatten(self.dim, tuple(sizes))

    def torch(self, spell: TorchSpelling) -> str:
        place, sizes = self.axis_number("dim", spell.types), self.sizes
        if any(symbolic(size) for size in sizes):  # PyTorch cannot infer -1 if another size is 0
            sizes = spell.results[0].shape[place : place + len(sizes)]
        texts = ", ".join(spell.size(size) for size in sizes) + ("," if len(sizes) == 1 else "")
        return method(spell.operands[0], "unflatten", self.dim, Verbatim(f"({texts})"))


@operator
class Transpose(Rearrangement):
    """Exchange of two axes."""

    example = "x -> transpose(1, 2)"

    dim0: int = attribute(axis="x", doc="first axis")
    dim1: int = attribute(axis="x", doc="second axis")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        names = _names(types[0].rank)
        first = self.axis_number("dim0", types)
        second = self.axis_number("dim1", types)
        swapped = list(names)
        swapped[first], swapped[second] = names[second], names[first]
        return _pattern(names, swapped)

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "transpose", self.dim0, self.dim1)


@operator
class Permute(Rearrangement):
    """Permutation of the axes: axis k of the result is axis dims[k] of the operand."""

    example = "x -> permute((0, 2, 3, 1))"

    dims: tuple[int, ...] = attribute(axis="x", doc="for each axis of the result, its number in the operand")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        numbers = self.axis_numbers("dims", types)
        if len(numbers) != types[0].rank:
            raise OperatorError(
                "bad-attribute",
                f"`permute` expects {len(numbers)} axes, got {types[0]}",
                attribute="dims",
            )
        names = _names(types[0].rank)
        return _pattern(names, [names[number] for number in numbers])

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "permute", *(spell.unpacked("dims", self.dims) or ((),)))


@operator
class Squeeze(Rearrangement):
    """Removal of axes of size 1: the given axes, or all of them."""

    example = "x -> squeeze(1)"

    dim: int | tuple[int, ...] | None = attribute(
        None, axis="x", doc="axis or axes to remove; by default all of size 1"
    )

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        removed = self._removed(types)
        names = _names(types[0].rank)
        left = ["1" if number in removed else name for number, name in enumerate(names)]
        return _pattern(left, [name for number, name in enumerate(names) if number not in removed])

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Squeeze:
        """The removal of the same axes by number, so that no other axis is removed if its size becomes 1."""
        return Squeeze(self._removed(types)) if self.dim is None and 1 in extents.values() else self

    def _removed(self, types: Sequence[TensorType]) -> tuple[int, ...]:
        (operand,) = types
        if self.dim is None:
            return tuple(number for number, size in enumerate(operand.shape) if size == 1)
        numbers = self.axis_numbers("dim", types)
        for number in numbers:
            if operand.shape[number] != 1:
                raise OperatorError(
                    "shape-mismatch",
                    f"`squeeze` expects axis {number} of {operand} to have size 1, got {operand.shape[number]}",
                    attribute="dim",
                )
        return numbers

    def torch(self, spell: TorchSpelling) -> str:
        dim = self.dim
        if dim is None and any(symbolic(size) for size in spell.types[0].shape):
            # The types determine the removed axes: an axis of symbolic size is kept, even if its size is 1 at run time.
            removed = self._removed(spell.types)
            dim = removed[0] if len(removed) == 1 else removed
        return method(spell.operands[0], "squeeze", dim)

    def onnx(self, spell: OnnxSpelling) -> str:
        removed = self._removed(spell.types)
        if not removed:  # `Squeeze` without axes would remove all axes that have size 1 at run time
            return spell.add("Identity", spell.operands[0])
        return spell.add("Squeeze", spell.operands[0], spell.constant(list(removed)))


@operator
class Unsqueeze(Rearrangement):
    """Insertion of an axis of size 1."""

    signature = "x[*d] -> y[1, *d]"
    example = "x -> unsqueeze(1)"

    dim: int = attribute(axis="y", doc="position of the new axis in the result")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        place = self.axis_number("dim", types)
        names = _names(types[0].rank)
        return _pattern(names, [*names[:place], "1", *names[place:]])

    def torch(self, spell: TorchSpelling) -> str:
        return method(spell.operands[0], "unsqueeze", self.dim)

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Unsqueeze", spell.operands[0], spell.constant([self.dim]))


def _names(rank: int) -> list[str]:
    return [f"d{number}" for number in range(rank)]


def _pattern(left: Sequence[str], right: Sequence[str]) -> str:
    return f"{' '.join(left)} -> {' '.join(right)}"
