"""Tensors between an operator's parentheses, as in `concat(x, y)`: the chain to write instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.syntax import tree
from archc.operator.base import FORMULAS, Operator
from archc.operator.registry import find_operator
from archc.types.attributes import attributes
from archc.types.signature import Pattern, parse_signature

_SIGNS = ("+", "-", "*", "/", "%", "<", "<=", "==", "!=")
_JOINED = re.compile(r"\s*,?\s*\)\s*(\.|\[|-(?!>)|[+*/%<>]|==|!=)")
_LONGEST = 40  # characters of an operand that a help text repeats


def holds_tensors(value: Any) -> bool:
    """Return whether the value of an argument is a tensor, or a tuple or list with tensors."""
    items = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(item, Value) for item in items)


def as_chain(
    operator: type[Operator],
    arguments: Sequence[tree.Argument],
    tensors: Sequence[tree.Argument],
    operands: Sequence[Value],
    span: Span,
) -> str | None:
    """Help that writes an operator with tensors among its arguments as a chain.

    Args:
        tensors: those of the arguments that are tensors, or tuples or lists with tensors.
        operands: the operands that the operator has already.
        span: the place of the operator's name.
    """
    patterns = _data_patterns(operator)
    if not patterns:
        return f"`{operator.name}` takes no tensor: `{operator.example}`" if operator.example else None
    others = [argument for argument in arguments if argument not in tensors]
    chain = _formula(operator, arguments, operands) or _reduction(operator, patterns, tensors, others, operands)
    if chain is None:
        chain = f"`{_within(_stage(operator, patterns, tensors, others, operands), arguments, span)}`"
    return f"write {chain}"


def _formula(operator: type[Operator], arguments: Sequence[tree.Argument], operands: Sequence[Value]) -> str | None:
    """Formula for an operator that has a symbol: `x + 1` for `add(x, 1)`."""
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
    """Pairwise operator for a reduction of two tensors: `(x, y) -> maximum` for `max(x, y)`."""
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


def _stage(
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
    if is_number:  # in the place of an operand, as in `maximum(x, 0)`
        texts = [f"{infos[0].name} = {texts[0]}"]
    call = f"{operator.name}({', '.join(texts)})" if texts else operator.name
    return f"{_tuple(_flowing(patterns, tensors, operands, _required(patterns) - is_number))} -> {call}"


def _within(chain: str, arguments: Sequence[tree.Argument], span: Span) -> str:
    """A chain in place of a call, in parentheses within an expression: arrows bind loosest of all."""
    text = span.source.text
    before, behind = text[: span.start].rstrip(), text[arguments[-1].span.end :]
    joins = before.endswith(_SIGNS) or _JOINED.match(behind)
    return f"({chain})" if joins else chain


def _data_patterns(operator: type[Operator]) -> list[Pattern]:
    signature = parse_signature(operator.signature)
    return [pattern for pattern in signature.operands if pattern.name not in operator.parameters]


def _flowing(
    patterns: Sequence[Pattern], tensors: Sequence[tree.Argument], operands: Sequence[Value], required: int
) -> list[str]:
    """Operands as texts, in their order: those before the arrow, those by position, and those by name."""
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
    """Add missing operands to texts: the only given operand again, or the names in the signature."""
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
    return span.text if len(span.text) <= _LONGEST and "\n" not in span.text else "..."
