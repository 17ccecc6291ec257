"""Help for operators that do not fit their operands.

Two mistakes are common in texts translated from PyTorch.  The first is an input size as the first argument:
`conv2d(3, 32, 3)` instead of `conv2d(32, 3)`.  The second is a tensor as an argument: `concat(x, y)` instead of
`(x, y) -> concat`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.declaration.base import FORMULAS, Operator, OperatorError
from archc.declaration.registry import find_operator
from archc.diagnostics import Diagnostics, Span
from archc.ir.graph import Node, Value
from archc.language.syntax import tree
from archc.types.attributes import AttributeInfo, AttributeProblem, attributes
from archc.types.dims import SymbolicDim
from archc.types.signature import Index, Pattern, Spread, parse_signature
from archc.types.tensor_type import TensorType

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


_LONGEST_SEARCH = 200
"""Limit on the nodes that a search for advice visits."""
_MANY = 16
"""A second argument of at least this number is probably a width.

Smaller numbers may be kernel sizes or numbers of layers.
"""
_LONG_STRIDE = 3
"""A third argument of at least this number is probably a kernel size, not a stride."""
_LONGEST_CALL = 60
"""Limit on the characters of a call that a help text repeats."""
_SIGNS = ("+", "-", "*", "/", "%", "<", "<=", "==", "!=")


_JOINED = re.compile(r"\s*,?\s*\)\s*(\.|\[|-(?!>)|[+*/%<>]|==|!=)")


_LONGEST_OPERAND = 40
"""Limit on the characters of an operand that a help text repeats."""


def origin_notes(value: Value) -> list[str]:
    """At most one note: on the nearest upstream tensor that has a name or is the result of a layer."""
    named: Value | None = value
    while named is not None and named.name is None and (named.producer is None or named.producer.path is None):
        named = _upstream(named)
    if named is None:
        return []
    if named.producer is None:
        return [f"the input `{named.name}` is {named.type}"]
    layer: Value | None = named
    while layer is not None and layer.producer is not None and layer.producer.path is None:
        layer = _upstream(layer)
    if layer is None or layer.producer is None:
        return [f"`{named.name}` is {named.type}"]
    node = layer.producer
    line = f" (line {node.span.line})" if node.span is not None else ""
    if named.name is None:
        return [f"`{node.path}`{line} gives {named.type}"]
    return [f"`{named.name}` is {named.type}, from `{node.path}`{line}"]


def _upstream(value: Value) -> Value | None:
    return value.producer.operands[0] if value.producer is not None and value.producer.operands else None


def advise(op: Operator, operands: Sequence[Value], problem: OperatorError) -> str | None:
    """Help for a shape mismatch that padding in the preceding convolutions would fix; None otherwise."""
    if problem.attribute is None or problem.operand is None:
        return None
    return _pad_convolutions(op, operands, problem)


def _pad_convolutions(op: Operator, operands: Sequence[Value], problem: OperatorError) -> str | None:
    """Help for operands that would fit if the preceding convolutions had padding; None otherwise."""
    assert problem.operand is not None
    chain: list[Node] = []
    value: Value | None = operands[problem.operand]
    while value is not None and value.producer is not None and len(chain) < _LONGEST_SEARCH:
        chain.append(value.producer)
        value = _upstream(value)
    padded = {node: found for node in chain if (found := node.op.with_same_padding()) is not None}
    if not padded or any(len(node.operands) != 1 for node in chain) or value is None:
        return None
    flow: TensorType = value.type
    try:
        for node in reversed(chain):
            flow = (padded[node][0] if node in padded else node.op).infer([flow]).results[0]
        op.infer([flow if k == problem.operand else v.type for k, v in enumerate(operands)])
    except OperatorError:
        return None
    spatial = next((n.operands[0].type.shape[2:] for n in chain if n.operands[0].type.rank > 2), ())
    paddings = {padding for _, padding in padded.values()}
    only = paddings.pop() if len(paddings) == 1 else None
    # Padding p keeps the size of an axis if the kernel size is 2 p + 1.
    kernel = f" of kernel {2 * only + 1}" if only is not None else ""
    way = f"`padding = {only}`" if only is not None else "padding"
    count = _NUMBERS[len(padded)] if len(padded) < len(_NUMBERS) else str(len(padded))
    noun, verb = ("convolution", "leaves") if len(padded) == 1 else ("convolutions", "leave")
    size = "×".join(str(dim) for dim in spatial)
    return f"{count} {noun}{kernel} without padding {verb} {size}; add {way}, or remove `{problem.attribute}`"


def help_for_results(value: Any, wanted: int) -> str | None:
    """Help for an assignment of a value to `wanted` names, if the value has another number of tensors."""
    if isinstance(value, tuple):
        return f"write {len(value)} names; a name that begins with `_` can be unused" if len(value) > 1 else None
    node = value.producer if isinstance(value, Value) else None
    if node is None:
        return None
    flags = [info for info in attributes(type(node.op)) if info.type is bool and not info.of(node.op)]
    for info in flags:
        results = replace(node.op, **{info.name: True}).infer(node.types).results
        if len(results) > 1:
            more = "" if len(results) == wanted else f", for {len(results)} results"
            return f"write `{info.name} = true` in the parentheses of `{node.op.name}`{more}"
    return None


# Input sizes ---------------------------------------------------------------------------------------------


def input_axis(operator: type[Operator]) -> int | None:
    """Axis of the first operand that the weights contract: the last axis for `linear`.

    In PyTorch, the first argument of the layer is the size of this axis.  None if the weights contract no axis.
    """
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
    """Help for arguments that fit an operator only without the first argument; None otherwise.

    Args:
        positional: the values of the arguments by position.
        named: the values of the arguments by name.
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
    """Help for an operator that would fit its operands without its first argument; None otherwise."""
    slots = _positional(op, arguments)
    if len(slots) < 2 or not _begins_with_input_size(op, slots, types):
        return None
    values = [info.of(op) for info in slots]
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
    """Warn of an operator with a valid first argument that is probably meant as an input size.

    The warning has three conditions: the first argument equals the input size, there are more positional arguments
    than the operator requires, and the values of the second and third arguments are unusual.
    """
    slots = _positional(op, arguments)
    needed = sum(info.required for info in slots)
    if len(slots) <= needed or not _begins_with_input_size(op, slots, types):
        return
    values = [info.of(op) for info in slots]
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
        f"`{op.name}` takes no input size, but its first argument equals the input size; "
        f"here {', '.join(read[:-1])} and {read[-1]}",
        span,
        help=f"{_way_out(op.name, arguments)}; if the values are intended, write {by_name}",
    )


def _positional(op: Operator, arguments: Sequence[tree.Argument]) -> list[AttributeInfo]:
    """Attributes of an operator that its arguments give by position."""
    count = sum(argument.name is None for argument in arguments)
    return [info for info in attributes(type(op)) if not info.keyword][:count]


def _named(op: Operator, arguments: Sequence[tree.Argument]) -> dict[str, Any]:
    """Values of the attributes of an operator that its arguments give by name."""
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
    """Operator without its first argument; None if that operator does not fit the operands."""
    try:
        op = operator.from_arguments(positional[1:], named)
    except AttributeProblem:
        return None
    try:
        op.infer(types)
    except OperatorError as problem:
        # A wrong number of operands is a separate mistake.
        return op if problem.code == "operand-count" else None
    return op


def _way_out(name: str, arguments: Sequence[tree.Argument]) -> str:
    first = next(argument for argument in arguments if argument.name is None)
    others = ", ".join(" ".join(argument.span.text.split()) for argument in arguments if argument is not first)
    call = f"{name}({others})"
    return f"leave the input size out: `{call if len(call) <= _LONGEST_CALL else f'{name}(...)'}`"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Tensors among arguments ---------------------------------------------------------------------------------


def holds_tensors(value: Any) -> bool:
    """Return whether a value is a tensor, or a tuple or list with a tensor."""
    items = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(item, Value) for item in items)


def as_chain(
    operator: type[Operator],
    arguments: Sequence[tree.Argument],
    tensors: Sequence[tree.Argument],
    operands: Sequence[Value],
    span: Span,
) -> str | None:
    """Help for a call with tensors as arguments: the chain to write instead.

    The help is None if the operator takes no tensor and has no example.

    Args:
        tensors: the arguments that are tensors, or tuples or lists with tensors.
        operands: the operands before the arrow.
        span: the place of the operator's name.
    """
    patterns = _data_patterns(operator)
    if not patterns:
        return f"`{operator.name}` takes no tensor: `{operator.example}`" if operator.example else None
    others = [argument for argument in arguments if argument not in tensors]
    chain = _formula(operator, arguments, operands) or _reduction(operator, patterns, tensors, others, operands)
    if chain is None:
        chain = f"`{_parenthesized(_chain(operator, patterns, tensors, others, operands), arguments, span)}`"
    return f"write {chain}"


def _formula(operator: type[Operator], arguments: Sequence[tree.Argument], operands: Sequence[Value]) -> str | None:
    """Formula for an operator with a symbol: `x + 1` for `add(x, 1)`; None if it has no symbol."""
    if operator.formula != "binary" or FORMULAS["binary"].get(operator.symbol) is not operator:
        return None
    sides = [value.name or "x" for value in operands] + [_side(argument.value) for argument in arguments]
    if len(sides) != 2 or any(argument.name is not None for argument in arguments):
        return None
    return f"`{sides[0]} {operator.symbol} {sides[1]}`"


def _side(node: tree.Expression | tree.SliceExpression) -> str:
    plain = isinstance(node, tree.Name | tree.Number | tree.MemberExpression | tree.IndexExpression)
    return _short(node.span) if plain else f"({_short(node.span)})"


def _reduction(
    operator: type[Operator],
    patterns: Sequence[Pattern],
    tensors: Sequence[tree.Argument],
    others: Sequence[tree.Argument],
    operands: Sequence[Value],
) -> str | None:
    """Chain with a pairwise operator for a reduction of two tensors: `(x, y) -> maximum` for `max(x, y)`."""
    pairwise = find_operator(f"{operator.name}imum")
    if pairwise is None or len(patterns) != 1:
        return None
    flowing = _flowing(patterns, tensors, operands, 0)
    if len(flowing) > 1:
        return f"`{_tuple(flowing)} -> {pairwise.name}`"
    if len(others) != 1 or others[0].name is not None:
        return None
    number = _short(others[0].span)
    reduced = f"`{flowing[0]} -> {operator.name}({number})` for an axis"
    return f"{reduced}, or `{flowing[0]} -> {pairwise.name}(scalar = {number})` for a number"


def _chain(
    operator: type[Operator],
    patterns: Sequence[Pattern],
    tensors: Sequence[tree.Argument],
    others: Sequence[tree.Argument],
    operands: Sequence[Value],
) -> str:
    """Chain for a call with tensors: `(x, y) -> concat(1)` for `concat(x, y, 1)`."""
    infos = attributes(operator)
    texts = [_short(argument.span) for argument in others]
    is_number = len(others) == 1 and others[0].name is None and bool(infos) and all(info.keyword for info in infos)
    if is_number:  # the number is in place of an operand, as in `maximum(x, 0)`
        texts = [f"{infos[0].name} = {texts[0]}"]
    call = f"{operator.name}({', '.join(texts)})" if texts else operator.name
    return f"{_tuple(_flowing(patterns, tensors, operands, _required(patterns) - is_number))} -> {call}"


def _parenthesized(chain: str, arguments: Sequence[tree.Argument], span: Span) -> str:
    """Chain that replaces a call, in parentheses if the call is part of an expression.

    Arrows have the lowest precedence.
    """
    text = span.source.text
    before, after = text[: span.start].rstrip(), text[arguments[-1].span.end :]
    joins = before.endswith(_SIGNS) or _JOINED.match(after)
    return f"({chain})" if joins else chain


def _data_patterns(operator: type[Operator]) -> list[Pattern]:
    signature = parse_signature(operator.signature)
    return [pattern for pattern in signature.operands if pattern.name not in operator.parameters]


def _flowing(
    patterns: Sequence[Pattern], tensors: Sequence[tree.Argument], operands: Sequence[Value], required: int
) -> list[str]:
    """Texts of the operands: those before the arrow, then positional arguments, then named arguments."""
    names = [pattern.name for pattern in patterns]
    texts = [value.name or name for value, name in zip(operands, names)]
    texts += [value.name or "x" for value in operands[len(names) :]]
    places = {argument: names.index(argument.name) for argument in tensors if argument.name in names}
    for argument in sorted(tensors, key=lambda one: (one.name is not None, places.get(one, len(names)))):
        if argument.name is not None:
            _fill(texts, names[: places.get(argument, required)])
        texts += _parts(argument.value)
    _fill(texts, names[:required])
    return texts


def _fill(texts: list[str], names: Sequence[str]) -> None:
    """Add texts for missing operands: repeat the only given operand, or use the names in the signature."""
    only = texts[0] if len(texts) == 1 and len(names) > 2 else None
    texts += [only or name for name in names[len(texts) :]]


def _required(patterns: Sequence[Pattern]) -> int:
    return sum(not pattern.optional for pattern in patterns)


def _parts(node: tree.Expression | tree.SliceExpression) -> list[str]:
    items = node.items if isinstance(node, tree.Tuple | tree.List) else (node,)
    return [_short(item.span) for item in items]


def _tuple(operands: Sequence[str]) -> str:
    return operands[0] if len(operands) == 1 else f"({', '.join(operands)})"


def _short(span: Span) -> str:
    return span.text if len(span.text) <= _LONGEST_OPERAND and "\n" not in span.text else "..."
