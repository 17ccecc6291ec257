"""Patterns of `rearrange`: their parser, and their meaning as moves of axes.

A pattern names the axes of the operand and of the result: `b t (h e) -> b h t e`.  Axes in parentheses form one
axis, and the first of them varies slowest.  `1` is an axis of size 1.  `*d` is any number of axes, and `(*d)` is the
axis into which they are merged.  A pattern is parsed to the signature of the operator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from archc.declaration.errors import OperatorError, too_many_axes
from archc.declaration.spelling import literal
from archc.frozen_dataclass import frozen_dataclass
from archc.types.signature import Axis, Index, Pattern, Signature, Spread, expand
from archc.types.tensor_type import MOST_AXES

_TOKEN = re.compile(r"\s*(->|[()]|\*?[A-Za-z_]\w*|\d+|\S)")


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> Signature:
    """The signature that a pattern denotes.

    Raises:
        OperatorError: the text is not a pattern, or a name is on one side only (`bad-pattern`).
    """
    sides = text.split("->")
    if len(sides) != 2:
        raise _bad_pattern(f"a pattern has one `->`, got {len(sides) - 1} in {literal(text)}", "write `b t c -> b c t`")
    operand, result = (_side(side, number == 1) for number, side in enumerate(sides))
    left, right = (_all_names(axes) for axes in (operand, result))
    for axes, names in ((operand, left), (result, right)):
        count = max(len(axes), len(names))
        if count > MOST_AXES:
            raise too_many_axes(count)
        for name in names:
            if names.count(name) > 1:
                raise _bad_pattern(f"`{name}` is on one side of {literal(text)} twice")
    for name in (*left, *right):
        if (name in left) != (name in right):
            side, other = ("left", "right") if name in left else ("right", "left")
            raise _bad_pattern(
                f"`{name}` is on the {side} side of {literal(text)}, not on the {other} side",
                "write `1` for an axis of size 1; use `sum`, `mean` or `expand` to remove or repeat elements",
            )
    return Signature((Pattern("x", tuple(operand)),), (Pattern("y", tuple(result)),))


def _side(text: str, right: bool) -> list[Axis]:
    axes: list[Axis] = []
    group: list[Any] | None = None
    for token in _TOKEN.findall(text):
        if token == "(":
            if group is not None:
                raise _bad_pattern("parentheses in a pattern do not nest")
            group = []
        elif token == ")":
            if group is None:
                raise _bad_pattern("a `)` in the pattern has no `(`")
            axes.append(Axis((tuple(group),)))
            group = None
        elif token == "1":
            if group is None:
                axes.append(Axis(((),)))
        elif token.startswith("*") and len(token) > 1:
            if group is not None and not right:
                raise _bad_pattern(
                    f"`({token})` is not valid on the left side, because the sizes of its axes are unknown"
                )
            if group is None and any(_is_spread(axis) for axis in axes):
                raise _bad_pattern(f"a side of a pattern has at most one `*`, got `{token}` as the second")
            spread = Spread(token[1:], "*" if group is None else "prod")
            _append(spread, axes, group)
        elif token.isidentifier():
            _append(Index(token), axes, group)
        else:
            raise _bad_pattern(f"`{token}` is not valid in a pattern", "use names, `1`, `*name` and parentheses")
    if group is not None:
        raise _bad_pattern("a `(` in the pattern has no `)`")
    return axes


def _append(factor: Index | Spread, axes: list[Axis], group: list[Any] | None) -> None:
    """Append a name as an axis, or to the open parentheses."""
    if group is None:
        axes.append(Axis(((factor,),)))
    else:
        group.append(factor)


def _is_spread(axis: Axis) -> bool:
    return any(isinstance(factor, Spread) and factor.kind == "*" for factor in axis.factors)


def _all_names(axes: Sequence[Axis]) -> list[str]:
    names = []
    for axis in axes:
        for factor in axis.factors:
            assert isinstance(factor, (Index, Spread)), f"{factor} is not part of a pattern"
            names.append(factor.name if isinstance(factor, Index) else f"*{factor.name}")
    return names


def _names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]


def _bad_pattern(message: str, help: str | None = None) -> OperatorError:
    return OperatorError("bad-pattern", message, attribute="pattern", help=help)


@frozen_dataclass
class AxisMoves:
    """A pattern as three moves: split axes, permute the parts, merge the parts into new axes.

    Attributes:
        split: for each axis of the operand, the names of its parts; empty for an axis of size 1, which is removed.
        permutation: for each axis after the permutation, its number before the permutation.
        merged: for each axis of the result, the names of its parts; empty for a new axis of size 1.
    """

    split: list[list[str]]
    permutation: list[int]
    merged: list[list[str]]

    @staticmethod
    def of(signature: Signature, rank: int) -> AxisMoves:
        """The moves of a pattern for an operand of the given rank."""
        written_out = expand(signature, {"x": rank})
        split = [_names(axis) for axis in written_out.operands[0].axes]
        merged = [_names(axis) for axis in written_out.results[0].axes]
        place = {name: number for number, name in enumerate(name for names in split for name in names)}
        return AxisMoves(split, [place[name] for names in merged for name in names], merged)
