"""Expressions: literals, names, arithmetic, tuples, conditions and calls of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.elaboration.arithmetic import (
    FUNCTIONS,
    ArithmeticProblem,
    binary,
    call_function,
    check_items,
    check_number,
    describe_kind,
)
from archc.language.elaboration.calls import apply_call, apply_index, apply_symbol, evaluate_chain
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, describe_value, names_in
from archc.language.elaboration.references import declared_layer, evaluate_member, lookup, visible_names
from archc.language.elaboration.step_budget import ITEMS_OF_A_STEP, STEPS_OF_ARITHMETIC, steps_of
from archc.language.elaboration.storages import make_storage
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import name_help
from archc.language.syntax.foreign_syntax import SYMBOLS
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage

SCAN_HELP = "a loop over data is a `scan`: `scan x_t in x { yield y = x_t -> tanh }`"
"""Help for a loop over a tensor or over a symbolic size."""


def _number(elaboration: Elaboration, instance: Instance, node: tree.Number) -> Any:
    if node.unit is not None:
        where = "only `devices` and the options of passes take numbers with units"
        elaboration.report(instance, "unit-misplaced", where, node.span, help="leave out the unit")
    return _checked(elaboration, instance, node.span, lambda: check_number(node.value))


def _name(elaboration: Elaboration, instance: Instance, node: tree.Name) -> Any:
    value = lookup(instance, node.name)
    if value is POISON:
        raise Failed
    if value is None:
        elaboration.report(
            instance,
            "unknown-name",
            f"nothing is called `{node.name}` here",
            node.span,
            help=_name_help(instance, node),
        )
    return value


def _name_help(instance: Instance, node: tree.Name) -> str | None:
    """Help for an unknown name: the text to write instead."""
    text, start = node.span.source.text, node.span.start
    before = text[text.rfind("\n", 0, start) + 1 : start].strip()
    if before == "//":  # a comment in the syntax of C, which is parsed as a division of the previous line
        return SYMBOLS["//"]
    return name_help(node.name, visible_names(instance)) or (SYMBOLS["//"] if before.endswith("//") else None)


def _index(elaboration: Elaboration, instance: Instance, node: tree.IndexExpression) -> Any:
    declared = declared_layer(elaboration, instance, node)
    if declared is not None:
        return declared
    value = elaboration.evaluate(instance, node.value)
    if isinstance(value, Value):
        return apply_index(elaboration, instance, node, value)
    if not isinstance(value, (tuple, list)):
        is_callee = isinstance(value, type | BlockRef)
        way = f"write attributes in parentheses: `x -> {node.value.span.text}(...)`" if is_callee else None
        elaboration.report(instance, "wrong-type", f"{describe_value(value)} cannot be indexed", node.span, help=way)
    if len(node.items) != 1 or isinstance(node.items[0], (tree.SliceExpression, tree.Ellipsis)):
        elaboration.report(instance, "wrong-type", "the index of a tuple is one integer", node.span)
    position = elaboration.evaluate(instance, node.items[0])
    if not isinstance(position, int) or isinstance(position, bool):
        elaboration.report(
            instance, "wrong-type", f"an index expects an integer, got {describe_kind(position)}", node.span
        )
    if not -len(value) <= position < len(value):
        elaboration.report(
            instance,
            "index-out-of-range",
            f"the index {position} is out of range for {len(value)} item{'s' if len(value) != 1 else ''}",
            node.items[0].span,
            help="the first index is 0" if value else None,
        )
    return value[position]


def _items(elaboration: Elaboration, instance: Instance, node: tree.Tuple | tree.List) -> list[Any]:
    values = [elaboration.evaluate(instance, item) for item in node.items]
    _checked(elaboration, instance, node.span, lambda: check_items(values, node.span.end - node.span.start))
    return values


def _conditional(elaboration: Elaboration, instance: Instance, node: tree.Conditional) -> Any:
    """Value of the branch that the condition selects; the other branch is not evaluated."""
    holds = require_bool(elaboration, instance, elaboration.evaluate(instance, node.condition), node.condition.span)
    chosen, other = (node.value, node.otherwise) if holds else (node.otherwise, node.value)
    mark_skipped(elaboration, instance, (other,))
    return elaboration.evaluate(instance, chosen)


def mark_skipped(elaboration: Elaboration, instance: Instance, body: tuple[tree.SyntaxNode, ...]) -> None:
    """Mark the names in skipped statements or expressions as used."""
    for node in body:
        elaboration.budget.count(node.span.end - node.span.start)
    for name in names_in(body):
        instance.environment.get(name)


def _given(elaboration: Elaboration, instance: Instance, node: tree.Call) -> bool:
    """Value of `given(mask)`: true if the optional input is given."""
    names = [argument.value for argument in node.arguments if argument.name is None]
    value = (
        elaboration.evaluate_argument(instance, node.arguments[0]) if len(names) == len(node.arguments) == 1 else None
    )
    if value is not ABSENT and not isinstance(value, Value):
        elaboration.report(
            instance, "wrong-type", "`given` expects the name of an input", node.span, help="write `given(mask)`"
        )
    return value is not ABSENT


def _call(elaboration: Elaboration, instance: Instance, node: tree.Call) -> Any:
    if isinstance(node.callee, tree.Name) and node.callee.name == "given":
        return _given(elaboration, instance, node)
    if isinstance(node.callee, tree.Name) and node.callee.name in FUNCTIONS:
        bound = instance.environment.get(node.callee.name)
        if bound is None and not any(argument.name for argument in node.arguments):
            values = [elaboration.evaluate_argument(instance, argument) for argument in node.arguments]
            if not any(isinstance(value, Value) for value in values):
                elaboration.budget.count(steps_of(*values))
                name = node.callee.name
                return _checked(elaboration, instance, node.span, lambda: call_function(name, values))
    callee = elaboration.evaluate(instance, node.callee)
    if isinstance(callee, type) and issubclass(callee, Storage):
        positional = [elaboration.evaluate_argument(instance, a) for a in node.arguments if a.name is None]
        named = {a.name: elaboration.evaluate_argument(instance, a) for a in node.arguments if a.name is not None}
        return make_storage(elaboration, instance, callee, node.span, positional, named)
    return apply_call(elaboration, instance, node, callee)


def _unary(elaboration: Elaboration, instance: Instance, node: tree.UnaryExpression) -> Any:
    value = elaboration.evaluate(instance, node.operand)
    if isinstance(value, Value):
        return apply_symbol(elaboration, instance, node, node.operator, (value,))
    if node.operator == "not":
        return not require_bool(elaboration, instance, value, node.operand.span)
    if isinstance(value, bool) or not isinstance(value, int | float | SymbolicDim):
        elaboration.report(instance, "wrong-type", f"`-` does not apply to {describe_kind(value)}", node.span)
    return -value


def _binary(elaboration: Elaboration, instance: Instance, node: tree.BinaryExpression) -> Any:
    # A sum of n terms is a left-leaning tree of depth n, which is too deep for recursion if n is large.
    spine = []
    left: tree.Expression = node
    while isinstance(left, tree.BinaryExpression):
        spine.append(left)
        left = left.left
    value = elaboration.evaluate(instance, left)
    for step in reversed(spine):
        value = _step(elaboration, instance, step, value)
    return value


def _step(elaboration: Elaboration, instance: Instance, node: tree.BinaryExpression, left: Any) -> Any:
    if node.operator in ("and", "or") and not isinstance(left, Value):
        decided = require_bool(elaboration, instance, left, node.left.span)
        if decided == (node.operator == "or"):
            return decided
        right = elaboration.evaluate(instance, node.right)
        return require_bool(elaboration, instance, right, node.right.span)
    right = elaboration.evaluate(instance, node.right)
    if isinstance(left, Value) or isinstance(right, Value):
        return apply_symbol(elaboration, instance, node, node.operator, (left, right))
    items = steps_of(left, right)
    elaboration.budget.count(STEPS_OF_ARITHMETIC + (items // ITEMS_OF_A_STEP if node.operator == "+" else items))
    return _checked(elaboration, instance, node.span, lambda: binary(node.operator, left, right))


def _range(elaboration: Elaboration, instance: Instance, node: tree.RangeExpression) -> range:
    bounds = [elaboration.evaluate(instance, bound) for bound in (node.start, node.stop)]
    for bound, part in zip(bounds, (node.start, node.stop)):
        if isinstance(bound, bool) or not isinstance(bound, int):
            is_size = isinstance(bound, SymbolicDim)
            fraction = isinstance(bound, float) and isinstance(part, tree.BinaryExpression) and part.operator == "/"
            elaboration.report(
                instance,
                "wrong-type",
                f"a range expects integers, got {describe_value(bound)}",
                part.span,
                help="use `//` to divide and round down" if fraction else SCAN_HELP if is_size else None,
            )
    return range(bounds[0], bounds[1])


def require_bool(elaboration: Elaboration, instance: Instance, value: Any, span: Span) -> bool:
    """Check that a value is a truth value, and return it; other values are not converted.

    Raises:
        Failed: the value is not a truth value; the reason is reported.
    """
    if not isinstance(value, bool):
        number = isinstance(value, int | float) and len(span.text) <= 40
        elaboration.report(
            instance,
            "wrong-type",
            f"a condition expects `true` or `false`, got {describe_value(value)}",
            span,
            help="conditions are evaluated at compile time; use `(mask, x, y) -> where` to select by data"
            if isinstance(value, Value)
            else f"write a comparison: `{span.text} > 0`"
            if number
            else None,
        )
    return value


def _checked(elaboration: Elaboration, instance: Instance, span: Span, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except ArithmeticProblem as problem:
        elaboration.report(instance, problem.code, problem.message, span, help=problem.help)


EXPRESSIONS: dict[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], Any]] = {
    tree.Number: _number,
    tree.String: lambda elaboration, instance, node: node.value,
    tree.Boolean: lambda elaboration, instance, node: node.value,
    tree.Name: _name,
    tree.MemberExpression: evaluate_member,
    tree.IndexExpression: _index,
    tree.Call: _call,
    tree.UnaryExpression: _unary,
    tree.BinaryExpression: _binary,
    tree.Tuple: lambda elaboration, instance, node: tuple(_items(elaboration, instance, node)),
    tree.List: _items,
    tree.RangeExpression: _range,
    tree.Conditional: _conditional,
    tree.Chain: evaluate_chain,
}
"""Functions that evaluate expressions, by node type."""
