"""Detection of input sizes given first, as for PyTorch's layers: `conv2d(3, 32, 3)` instead of `conv2d(32, 3)`.

Such arguments may be valid, for instance as a kernel of size 32.  An operator's signature has the axis of the operand
that is contracted with the weights; PyTorch's layers take the size of that axis first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Span
from archc.language.syntax import tree
from archc.operator.base import Operator, OperatorError
from archc.types.attributes import AttributeInfo, AttributeProblem, attributes
from archc.types.dims import SymbolicDim
from archc.types.signature import Index, Spread, parse_signature
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    from archc.diagnostics import Diagnostics

_MANY = 16
"""Least second argument that is more likely a width than a kernel size or a number of layers."""
_LONG_STRIDE = 3
"""Least third argument that is more likely a kernel size than a stride, if it differs from the second."""
_LONGEST_CALL = 60  # characters of a call that a help text repeats


def input_axis(operator: type[Operator]) -> int | None:
    """The axis of the first operand that is contracted with the weights; None where there is no such axis."""
    if not operator.signature:
        return None
    signature = parse_signature(operator.signature)
    owned = _indices(pattern.axes for pattern in signature.operands if pattern.name in operator.parameters)
    summed = owned - _indices(pattern.axes for pattern in signature.results)
    data = [pattern for pattern in signature.operands if pattern.name not in operator.parameters]
    axes = data[0].axes if data else ()
    for number, axis in enumerate(axes):
        if _indices([[axis]]) & summed:
            has_spread = any(isinstance(factor, Spread) for before in axes[:number] for factor in before.factors)
            return number - len(axes) if has_spread else number
    return None


def _indices(shapes: Any) -> set[Index]:
    return {factor for axes in shapes for axis in axes for factor in axis.factors if isinstance(factor, Index)}


def help_for_arguments(
    operator: type[Operator],
    arguments: Sequence[tree.Argument],
    positional: Sequence[Any],
    named: Mapping[str, Any],
    types: Sequence[TensorType],
) -> str | None:
    """Help for arguments that do not fit an operator, if they fit without the first of them.

    Args:
        positional, named: the values of the arguments.
        types: the types of the operands.
    """
    sizes = positional[:2]
    if not sizes or not types or not all(_is_count(size) for size in sizes):
        return None
    axis = input_axis(operator)
    is_input_size = sizes[0] == _size(types[0], -1 if axis is None else axis)
    if not is_input_size and (axis is None or len(sizes) == 1):
        return None
    if _without_first(operator, positional, named, types) is None:
        return None
    return _way_out(operator.name, arguments)


def help_for_operands(op: Operator, arguments: Sequence[tree.Argument], types: Sequence[TensorType]) -> str | None:
    """Help for an operator that does not fit its operands, if it fits without the first of its arguments."""
    slots = _positional(op, arguments)
    if len(slots) < 2 or not _begins_with_input_size(op, slots, types):
        return None
    values = [getattr(op, info.name) for info in slots]
    if _without_first(type(op), values, _named(op, arguments), types) is None:
        return None
    return _way_out(op.name, arguments)


def warn_of_input_size(
    diagnostics: Diagnostics,
    op: Operator,
    arguments: Sequence[tree.Argument],
    types: Sequence[TensorType],
    span: Span,
) -> None:
    """Warn of an operator that fits its operands, but whose first argument was probably meant as an input size.

    The conditions are a first argument equal to the input size, more positional arguments than are required, and
    unusual values of these.
    """
    slots = _positional(op, arguments)
    needed = sum(info.required for info in slots)
    if len(slots) <= needed or not _begins_with_input_size(op, slots, types):
        return
    values = [getattr(op, info.name) for info in slots]
    second, third = values[1], values[2] if len(values) > 2 else None
    if not _is_count(second) or (third is not None and not _is_count(third)):
        return
    if second < _MANY and (third is None or third < _LONG_STRIDE or third == second):
        return
    if second == third or _without_first(type(op), values, _named(op, arguments), types) is None:
        return
    read = [f"`{info.name}` is {value}" for info, value in zip(slots, values, strict=True)]
    by_name = ", ".join(f"`{info.name} = {value}`" for info, value in zip(slots[needed:], values[needed:], strict=True))
    diagnostics.warn(
        "input-size-first",
        f"the input of `{op.name}` has size {values[0]} already; here {', '.join(read[:-1])} and {read[-1]}",
        span,
        help=f"{_way_out(op.name, arguments)}; if this is meant, write {by_name}",
    )


def _positional(op: Operator, arguments: Sequence[tree.Argument]) -> list[AttributeInfo]:
    """The attributes that a text gives by position."""
    count = sum(argument.name is None for argument in arguments)
    return [info for info in attributes(type(op)) if not info.keyword][:count]


def _named(op: Operator, arguments: Sequence[tree.Argument]) -> dict[str, Any]:
    """The values of the attributes that a text gives by name."""
    own = {info.name for info in attributes(type(op))}
    return {argument.name: getattr(op, argument.name) for argument in arguments if argument.name in own}


def _begins_with_input_size(op: Operator, slots: Sequence[AttributeInfo], types: Sequence[TensorType]) -> bool:
    axis = input_axis(type(op))
    value = getattr(op, slots[0].name)
    return axis is not None and bool(types) and _is_count(value) and bool(value == _size(types[0], axis))


def _size(operand: TensorType, axis: int) -> int | SymbolicDim | None:
    return operand.shape[axis] if -operand.rank <= axis < operand.rank else None


def _without_first(
    operator: type[Operator], positional: Sequence[Any], named: Mapping[str, Any], types: Sequence[TensorType]
) -> Operator | None:
    """The operator of the other arguments, if it fits the operands, else None."""
    try:
        op = operator.from_arguments(positional[1:], named)
    except AttributeProblem:
        return None
    try:
        op.infer(types)
    except OperatorError as problem:
        return op if problem.code == "operand-count" else None  # another error, which is reported next
    return op


def _way_out(name: str, arguments: Sequence[tree.Argument]) -> str:
    first = next(argument for argument in arguments if argument.name is None)
    others = ", ".join(" ".join(argument.span.text.split()) for argument in arguments if argument is not first)
    call = f"{name}({others})"
    return f"leave the input size out: `{call if len(call) <= _LONGEST_CALL else f'{name}(...)'}`"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
