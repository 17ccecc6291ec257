"""What `a + b`, `x * 0.5`, `-x` and `x[:, 0]` do to a graph where tensors are in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archc.ir.dims import SymbolicDim
from archc.ir.graph import Value
from archc.language import syntax
from archc.language.expressions import describe_value
from archc.language.frames import Frame
from archc.ops.binary import BINARY
from archc.ops.operator import OPERATORS

if TYPE_CHECKING:
    from archc.language.elaborate import Elaborator


def apply_symbol(
    elaborator: Elaborator, frame: Frame, node: syntax.Node, symbol: str, operands: Sequence[Any]
) -> Value:
    """The tensor that `a + b`, `x * 0.5` or `-x` makes."""
    add = elaborator.application.add
    if len(operands) == 1:
        unary = {"-": "neg", "not": "logical_not"}[symbol]
        return add(frame, OPERATORS[unary](), operands, None, node.span)[0]
    if symbol not in BINARY:
        elaborator.report(
            frame,
            "wrong-type",
            f"`{symbol}` does not apply to tensors",
            node.span,
            help=f"write `(a, b) -> logical_{symbol}`" if symbol in ("and", "or") else None,
        )
    operator = BINARY[symbol]
    tensors = [operand for operand in operands if isinstance(operand, Value)]
    if len(tensors) == 2:
        return add(frame, operator(), tensors, None, node.span)[0]
    left, right = operands
    scalar = right if isinstance(left, Value) else left
    if isinstance(scalar, bool) or not isinstance(scalar, int | float | SymbolicDim):
        elaborator.report(
            frame,
            "wrong-type",
            f"`{symbol}` combines a tensor with a tensor or a number, and this is {describe_value(scalar)}",
            node.span,
        )
    op = operator(scalar=scalar, reverse=not isinstance(left, Value))
    return add(frame, op, tensors, None, node.span)[0]


def apply_index(elaborator: Elaborator, frame: Frame, node: syntax.Index, value: Value) -> Value:
    """The tensor that `x[:, 0]` makes."""
    items: list[Any] = []
    for item in node.items:
        if isinstance(item, syntax.Slice):
            parts = (item.start, item.stop, item.step)
            items.append(tuple(None if part is None else _bound(elaborator, frame, part) for part in parts))
        elif isinstance(item, syntax.Ellipsis):
            items.append(Ellipsis)
        else:
            items.append(_bound(elaborator, frame, item))
    return elaborator.application.add(frame, OPERATORS["slice"](tuple(items)), (value,), None, node.span)[0]  # type: ignore[call-arg]  # the field of `slice`


def _bound(elaborator: Elaborator, frame: Frame, node: syntax.Expression) -> int | SymbolicDim:
    value = elaborator.expressions.evaluate(frame, node)
    if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
        elaborator.report(
            frame, "wrong-type", f"an index is an integer, and this is {describe_value(value)}", node.span
        )
    return value
