"""Operators that only move elements: the pattern language of `rearrange`, and how it is spelled.

A pattern names the axes of the operand and of the result: `b t (h e) -> b h t e`.  Axes in parentheses are one
axis, the first of them the slowest; `1` is an axis of size 1; `*d` is any number of axes, and `(*d)` all of them
as one.  The pattern is the operator's signature, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from archc.operator.base import Operator, OperatorError, operator, symbolic
from archc.operator.dtypes import ONNX_ALL
from archc.operator.misfit import too_many_axes
from archc.operator.rewriting import Uniform
from archc.operator.spelling import OnnxSpelling, TorchSpelling, Verbatim, literal, method
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Extent
from archc.types.signature import Axis, Index, Pattern, Signature, Spread, expand
from archc.types.tensor_type import MOST_AXES, TensorType


@operator
class Layout(Operator, abstract=True):
    """An operator that `rearrange` could write: it gives the pattern, and perhaps a spelling of its own."""

    signature = "x[*d] -> y[*e]"
    onnx_dtypes = ONNX_ALL
    keeps_steps = True

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        """The pattern for an operand of that type."""
        raise AssertionError(f"{type(self).__name__} gives no pattern")

    def pattern_sizes(self, types: Sequence[TensorType]) -> Mapping[str, Extent]:
        """The sizes of axes of the pattern that the attributes give."""
        return {}

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:  # the count is reported before the pattern is asked for
            return super().signature_for(types)
        return parse_pattern(self.pattern_for(types))

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return dict(self.pattern_sizes(types))

    def in_order(self, types: Sequence[TensorType]) -> bool:
        """Whether the elements keep their row-major order, and only the axes are others."""
        permutation = Moves.of(self, types).permutation
        return permutation == sorted(permutation)

    def order(self, types: Sequence[TensorType]) -> tuple[int, ...] | None:
        """For each axis of the result its number in the operand, where axes change places and nothing else."""
        moves = Moves.of(self, types)
        whole = all(len(names) == 1 for names in (*moves.split, *moves.merged))
        return tuple(moves.permutation) if whole else None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        return 0 if self.in_order(types) and self.infer(types).results[0] == types[0] else None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """Both at once where they undo each other, or where both do nothing but put axes in another order."""
        if not isinstance(inner, Layout):
            return None
        between = inner.infer(types).results
        first, second = inner.order(types), self.order(between)
        if first is not None and second is not None:
            return self.permuted(tuple(first[axis] for axis in second))
        in_order = inner.in_order(types) and self.in_order(between)
        return 0 if in_order and self.infer(between).results[0] == types[0] else None

    @staticmethod
    def permuted(order: tuple[int, ...]) -> Operator | int:
        """The operator that puts axes into an order; 0, the operand itself, where they are in it."""
        from archc.ops.rearrange import Permute

        return Permute(order) if order != tuple(range(len(order))) else 0

    def torch(self, spell: TorchSpelling) -> str:
        moves = Moves.of(self, spell.types)
        text = spell.operands[0]
        # From the last axis to the first, so that the numbers of those to come stay as they are.
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
                # Merged axes stand side by side, and those to the left of them are merged already.
                last = not any(moves.merged[number + 1 :])
                text = method(text, "flatten", number, None if last else number + len(names) - 1)
        return text

    def _torch_sizes(self, names: Sequence[str], spell: TorchSpelling) -> Verbatim:
        """The sizes that an axis is split into, with a -1 for the one that the text leaves open."""
        given = self.pattern_sizes(spell.types)
        sizes = [spell.sizes[name] for name in names]
        free = [k for k, size in enumerate(sizes) if isinstance(size, SymbolicDim)]
        free += [k for k, name in enumerate(names) if name not in given and k not in free]
        # PyTorch cannot infer -1 if another size is 0, as a symbolic size may be.
        left = free[:1] if sum(isinstance(size, SymbolicDim) for size in sizes) <= 1 and 0 not in sizes else []
        texts = ["-1" if k in left else spell.size(size) for k, size in enumerate(sizes)]
        return Verbatim(f"({', '.join(texts)})")

    def onnx(self, spell: OnnxSpelling) -> str:
        moves = Moves.of(self, spell.types)
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


@dataclass(frozen=True, slots=True)
class Moves:
    """A pattern as three moves: split axes, permute what came out, merge.

    Attributes:
        split: for each axis of the operand, the names it falls into; none for a unit axis, which goes.
        permutation: for each axis after the permutation, its number before.
        merged: for each axis of the result, the names it is made of; none for a new unit axis.
    """

    split: list[list[str]]
    permutation: list[int]
    merged: list[list[str]]

    @staticmethod
    def of(op: Operator, types: Sequence[TensorType]) -> Moves:
        """The moves for an operand of that type."""
        written_out = expand(op.signature_for(types), {"x": types[0].rank})
        split = [_names(axis) for axis in written_out.operands[0].axes]
        merged = [_names(axis) for axis in written_out.results[0].axes]
        place = {name: number for number, name in enumerate(name for names in split for name in names)}
        return Moves(split, [place[name] for names in merged for name in names], merged)


def torch_shape(spell: TorchSpelling, shape: Sequence[Extent]) -> list[Any]:
    """Sizes as arguments of `reshape` and its like: a single symbolic one is -1, which PyTorch works out."""
    unknown = [k for k, dim in enumerate(shape) if symbolic(dim)]
    if len(unknown) == 1 and 0 not in shape:
        return [-1 if k in unknown else dim for k, dim in enumerate(shape)]
    return [Verbatim(spell.size(dim)) for dim in shape]


_TOKEN = re.compile(r"\s*(->|[()]|\*?[A-Za-z_]\w*|\d+|\S)")


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> Signature:
    """The signature that a pattern means.

    Raises:
        OperatorError: the text is no pattern, or loses or invents elements.
    """
    sides = text.split("->")
    if len(sides) != 2:
        raise _bad(f"a pattern has one `->`, and {literal(text)} has {len(sides) - 1}", "write `b t c -> b c t`")
    operand, result = (_side(side, number == 1) for number, side in enumerate(sides))
    left, right = (_all_names(axes) for axes in (operand, result))
    for axes, names in ((operand, left), (result, right)):
        count = max(len(axes), len(names))
        if count > MOST_AXES:
            raise too_many_axes(count)
        for name in names:
            if names.count(name) > 1:
                raise _bad(f"`{name}` is twice on one side of {literal(text)}")
    for name in (*left, *right):
        if (name in left) != (name in right):
            side, other = ("left", "right") if name in left else ("right", "left")
            raise _bad(
                f"`{name}` is on the {side} of {literal(text)}, and not on the {other}",
                "an axis of size 1 is written `1`; use `sum`, `mean` or `expand` to drop or repeat elements",
            )
    return Signature((Pattern("x", tuple(operand)),), (Pattern("y", tuple(result)),))


def _side(text: str, right: bool) -> list[Axis]:
    axes: list[Axis] = []
    group: list[Any] | None = None
    for token in _TOKEN.findall(text):
        if token == "(":
            if group is not None:
                raise _bad("parentheses in a pattern do not nest")
            group = []
        elif token == ")":
            if group is None:
                raise _bad("a `)` in the pattern closes nothing")
            axes.append(Axis((tuple(group),)))
            group = None
        elif token == "1":
            if group is None:
                axes.append(Axis(((),)))
        elif token.startswith("*") and len(token) > 1:
            if group is not None and not right:
                raise _bad(f"`({token})` can be on the right alone: its axes could not be told apart")
            if group is None and any(_spreads(axis) for axis in axes):
                raise _bad(f"one `*` is enough for a side; `{token}` is the second")
            spread = Spread(token[1:], "*" if group is None else "prod")
            _put(spread, axes, group)
        elif token.isidentifier():
            _put(Index(token), axes, group)
        else:
            raise _bad(f"`{token}` means nothing in a pattern", "it holds names, `1`, `*name` and parentheses")
    if group is not None:
        raise _bad("a `(` in the pattern is not closed")
    return axes


def _put(factor: Index | Spread, axes: list[Axis], group: list[Any] | None) -> None:
    """Enter a name as an axis, or into the parentheses that are open."""
    if group is None:
        axes.append(Axis(((factor,),)))
    else:
        group.append(factor)


def _spreads(axis: Axis) -> bool:
    return any(isinstance(factor, Spread) and factor.kind == "*" for factor in axis.factors)


def _all_names(axes: Sequence[Axis]) -> list[str]:
    names = []
    for axis in axes:
        for factor in axis.factors:
            assert isinstance(factor, (Index, Spread)), f"{factor} does not come from a pattern"
            names.append(factor.name if isinstance(factor, Index) else f"*{factor.name}")
    return names


def _names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]


def _bad(message: str, help: str | None = None) -> OperatorError:
    return OperatorError("bad-pattern", message, attribute="pattern", help=help)
