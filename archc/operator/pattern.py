"""Patterns of `rearrange`: how they are parsed, and the moves of axes that they mean.

A pattern names the axes of the operand and of the result: `b t (h e) -> b h t e`.  Axes in parentheses are one
axis, the first of them the slowest; `1` is an axis of size 1; `*d` is any number of axes, and `(*d)` all of them
as one.  The pattern is the operator's signature, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from archc.operator.errors import OperatorError, too_many_axes
from archc.operator.spelling import literal
from archc.types.signature import Axis, Index, Pattern, Signature, Spread, expand
from archc.types.tensor_type import MOST_AXES

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
    def of(signature: Signature, rank: int) -> Moves:
        """The moves that a pattern means for an operand of that rank."""
        written_out = expand(signature, {"x": rank})
        split = [_names(axis) for axis in written_out.operands[0].axes]
        merged = [_names(axis) for axis in written_out.results[0].axes]
        place = {name: number for number, name in enumerate(name for names in split for name in names)}
        return Moves(split, [place[name] for names in merged for name in names], merged)
