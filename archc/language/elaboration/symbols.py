"""What `a + b`, `x * 0.5`, `-x` and `x[:, 0]` do to a graph where tensors are in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from archc.ir.graph import Value
from archc.language.elaboration.expressions import describe_value
from archc.language.elaboration.frames import Frame
from archc.language.syntax import tree
from archc.language.syntax.foreign_operators import OPERATORS
from archc.operator.base import FORMULAS
from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator

_HELP = {"//": OPERATORS["floor_divide"], "%": OPERATORS["remainder"]}


def apply_symbol(
    elaborator: Elaborator, frame: Frame, node: tree.SyntaxNode, symbol: str, operands: Sequence[Any]
) -> Value:
    """The tensor that `a + b`, `x * 0.5` or `-x` makes."""
    add = elaborator.application.add
    if len(operands) == 1:
        return add(frame, FORMULAS["unary"][symbol].from_sides(None), operands, None, node.span)[0]
    if symbol not in FORMULAS["binary"]:
        elaborator.report(
            frame,
            "wrong-type",
            f"`{symbol}` does not apply to tensors",
            node.span,
            help=f"write `(a, b) -> logical_{symbol}`" if symbol in ("and", "or") else _HELP.get(symbol),
        )
    for operand in operands:
        if isinstance(operand, bool) or not isinstance(operand, Value | int | float | SymbolicDim):
            elaborator.report(
                frame,
                "wrong-type",
                f"`{symbol}` combines a tensor with a tensor or a number, and this is {describe_value(operand)}",
                node.span,
                help="a tuple grows by a tuple: `keys = keys + (x,)`"
                if symbol == "+" and isinstance(operand, tuple)
                else None,
            )
    tensors = [operand for operand in operands if isinstance(operand, Value)]
    sides = [None if isinstance(operand, Value) else operand for operand in operands]
    return add(frame, FORMULAS["binary"][symbol].from_sides(*sides), tensors, None, node.span)[0]


def apply_index(elaborator: Elaborator, frame: Frame, node: tree.IndexExpression, value: Value) -> Value:
    """The tensor that `x[:, 0]` makes."""
    items: list[Any] = []
    for item in node.items:
        if isinstance(item, tree.Name) and item.name == "None" and frame.environment.get("None") is None:
            _report_new_axis(elaborator, frame, node, item)
        if isinstance(item, tree.SliceExpression):
            parts = (item.start, item.stop, item.step)
            bounds = [None if part is None else _bound(elaborator, frame, part) for part in parts]
            if isinstance(bounds[2], int) and bounds[2] < 0:
                _report_descending(elaborator, frame, node, item, value, bounds)
            items.append(tuple(bounds))
        elif isinstance(item, tree.Ellipsis):
            items.append(Ellipsis)
        else:
            items.append(_bound(elaborator, frame, item))
    op = FORMULAS["index"]["[]"].from_arguments(items, {})
    return elaborator.application.add(frame, op, (value,), None, node.span)[0]


def _report_descending(
    elaborator: Elaborator,
    frame: Frame,
    node: tree.IndexExpression,
    item: tree.SliceExpression,
    value: Value,
    bounds: Sequence[int | SymbolicDim | None],
) -> NoReturn:
    """Report `x[:, ::-1]`, which reverses an axis in Python."""
    place = _axis(node, item)
    help_ = OPERATORS["flip"]
    if bounds == [None, None, -1] and -value.type.rank <= place < value.type.rank:
        size = value.type.shape[place]
        help_ = f"write `({_tensor_text(node)}, {size} - 1 - arange({size})) -> index_select({place})`"
    elaborator.report(frame, "bad-attribute", "the step of a slice must be at least 1", item.span, help=help_)


def _axis(node: tree.IndexExpression, item: tree.Expression | tree.SliceExpression) -> int:
    """Axis of an item of an index, counted from the end after `...`."""
    place = next(number for number, other in enumerate(node.items) if other is item)
    after_ellipsis = any(isinstance(other, tree.Ellipsis) for other in node.items[:place])
    return place - len(node.items) if after_ellipsis else place


def _tensor_text(node: tree.IndexExpression) -> str:
    text = node.value.span.text
    return text if len(text) <= 40 else "x"


def _report_new_axis(elaborator: Elaborator, frame: Frame, node: tree.IndexExpression, item: tree.Name) -> NoReturn:
    """Report `x[:, None]`, which makes a new axis in Python."""
    help_ = f"write `{_tensor_text(node)} -> unsqueeze({_axis(node, item)})`"
    elaborator.report(frame, "wrong-type", "an index cannot insert an axis", item.span, help=help_)


def _bound(elaborator: Elaborator, frame: Frame, node: tree.Expression) -> int | SymbolicDim:
    value = elaborator.expressions.evaluate(frame, node)
    if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
        is_mask = isinstance(value, Value) and value.type.dtype is DType.bool
        elaborator.report(
            frame,
            "wrong-type",
            f"an index is an integer, and this is {describe_value(value)}",
            node.span,
            help="write `(mask, x) -> where(other = 0.0)` to keep the shape and clear the others"
            if is_mask
            else "write `(x, index) -> index_select(1)`, with the places in a vector"
            if isinstance(value, Value | list | tuple)
            else None,
        )
    return value
