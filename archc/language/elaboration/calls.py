"""Calls of operators, blocks and layers: chain steps, calls without operands, symbols and indices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from archc.declaration.base import FORMULAS, Operator
from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import holds_tensors
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef, describe_value
from archc.language.elaboration.instantiation import block_arguments, instantiate_block
from archc.language.elaboration.operators import add_node, configure_operator
from archc.language.elaboration.references import lookup, lookup_global
from archc.language.elaboration.user_names import label_path, name_layer
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import axis_text, operator_help
from archc.language.syntax.foreign_operators import OPERATORS
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import DType

LONGEST_CHAIN = 60
"""Limit on the characters of a chain that a help text repeats."""
Callee = type[Operator] | BlockRef | LayerRef
_HELP = {"//": OPERATORS["floor_divide"], "%": OPERATORS["remainder"]}


def evaluate_chain(elaboration: Elaboration, instance: Instance, node: tree.Chain) -> Any:
    """Value of `source -> step -> step`: a tensor, or a tuple of tensors.

    Raises:
        Failed: the source or a step has no value; the mistake is already reported.
    """
    done = 0
    try:
        value = elaboration.evaluate(instance, node.source)
        for step in node.steps:
            source = node.source if done == 0 else node.steps[done - 1]
            operands = _operands(elaboration, instance, value, source, step)
            done += 1
            fresh = step.called or step.label is not None
            callee = evaluate_callee(elaboration, instance, step.callee, fresh, step.arguments)
            results = _apply(elaboration, instance, callee, operands, step.arguments, step.label, step)
            value = results[0] if len(results) == 1 else results
    except Failed:
        # The steps after the failed one have no operands, but unknown names in these steps are reported, too.
        for step in node.steps[done:]:
            _report_unknown_names(elaboration, instance, step)
        for step in node.steps[max(done - 1, 0) :]:
            if step.label is not None:
                with contextlib.suppress(Failed):
                    instance.failed_layers.add(label_path(elaboration, instance, step.label))
        raise
    return value


def _report_unknown_names(elaboration: Elaboration, instance: Instance, step: tree.ChainStep) -> None:
    """Report the unknown names in a step that has no operands because an earlier step failed."""
    with contextlib.suppress(Failed):
        evaluate_callee(elaboration, instance, step.callee, step.called or step.label is not None, step.arguments)
    for argument in step.arguments:
        with contextlib.suppress(Failed):
            elaboration.evaluate_argument(instance, argument)


def apply_call(elaboration: Elaboration, instance: Instance, node: tree.Call, callee: Any) -> Any:
    """Value of `arange(T)`: the result of an operator or block without operands.

    Raises:
        Failed: the call has no value; the mistake is already reported.
    """
    if isinstance(node.callee, tree.Name):
        callee = _called(instance, node.callee.name, callee, bool(node.arguments))
    callee = _callable(elaboration, instance, callee, node.callee.span)
    results = _apply(elaboration, instance, callee, (), node.arguments, None, node)
    return results[0] if len(results) == 1 else results


def _operands(
    elaboration: Elaboration,
    instance: Instance,
    value: Any,
    source: tree.Expression | tree.ChainStep,
    step: tree.ChainStep,
) -> tuple[Value, ...]:
    items = value if isinstance(value, tuple) else (value,)
    while len(items) > 1 and items[-1] is ABSENT:  # optional operands are last: leave them out if absent
        items = items[:-1]
    parts = source.items if isinstance(source, tree.Tuple) and len(source.items) >= len(items) else None
    for number, item in enumerate(items):
        if isinstance(item, Value):
            continue
        elaboration.report(
            instance,
            "wrong-type",
            f"`->` expects a tensor, got {describe_value(item)}",
            parts[number].span if parts is not None else source.span,
            help=_help_for_operand(item, source, step),
        )
    return items


def evaluate_callee(
    elaboration: Elaboration,
    instance: Instance,
    node: tree.Expression,
    fresh: bool = False,
    arguments: Sequence[tree.Argument] = (),
) -> Callee:
    """Operator, block or layer that a step calls.

    Args:
        fresh: whether the step has attributes or a label; a declared layer takes neither.
        arguments: the arguments of the step, for the help about an unknown operator.

    Raises:
        Failed: the expression is not an operator, block or layer; the mistake is already reported.
    """
    if isinstance(node, tree.Name):
        value = lookup(instance, node.name)
        is_storage = isinstance(value, type) and issubclass(value, Storage)
        if value is None or is_storage:  # `dense` is a layer in Keras, but a storage in archc
            elaboration.report(
                instance,
                "unknown-operator",
                f"there is no operator, block or layer `{node.name}`",
                node.span,
                help=operator_help(node.name, [*instance.module.blocks, *_layer_names(instance)], axis_text(arguments))
                or "`archc ops` lists the operators",
            )
        return _callable(elaboration, instance, _called(instance, node.name, value, fresh), node.span)
    return _callable(elaboration, instance, elaboration.evaluate(instance, node), node.span)


def _called(instance: Instance, name: str, value: Any, fresh: bool) -> Any:
    """Callee of a step: `value` if the step can call it, otherwise the operator or block named `name`.

    In `dropout(dropout)`, the callee is the operator, although an attribute has the same name.  `linear(3)` is a new
    layer, although a declared layer `linear` may exist.
    """
    if value is POISON or isinstance(value, BlockRef | type) or (isinstance(value, LayerRef) and not fresh):
        return value
    other = lookup_global(instance, name)
    is_callable = isinstance(other, BlockRef) or (isinstance(other, type) and issubclass(other, Operator))
    return other if is_callable else value


def _layer_names(instance: Instance) -> list[str]:
    return [name for name, binding in instance.environment.bindings.items() if isinstance(binding.value, LayerRef)]


def _callable(elaboration: Elaboration, instance: Instance, value: Any, span: Span) -> Callee:  # noqa: RET503 - `report` never returns
    if value is POISON:
        raise Failed
    if isinstance(value, BlockRef | LayerRef) or (isinstance(value, type) and issubclass(value, Operator)):
        return value
    elaboration.report(
        instance,
        "not-callable",
        f"a chain expects an operator, a block or a layer, got {describe_value(value)}",
        span,
    )


def _apply(
    elaboration: Elaboration,
    instance: Instance,
    callee: Callee,
    operands: tuple[Value, ...],
    arguments: Sequence[tree.Argument],
    label: tree.Label | None,
    node: tree.ChainStep | tree.Call,
) -> tuple[Value, ...]:
    callee_span = node.callee.span
    span = callee_span if label is None else label.span.to(callee_span)
    if isinstance(callee, LayerRef):
        if label is not None or arguments:
            elaboration.report(
                instance,
                "layer-redefined",
                f"`{callee.name}` is a declared layer, and takes neither a label nor attributes",
                node.span,
                notes=[Note("it is declared here", callee.span)],
                help=f"write `x -> {callee.name}`",
            )
        with instance.environment.rebound(callee.captured):
            return _use(elaboration, instance, callee.callee, operands, callee.arguments, callee.name, span)
    path = name_layer(elaboration, instance, callee, label, span)
    return _use(elaboration, instance, callee, operands, arguments, path, span)


def _use(
    elaboration: Elaboration,
    instance: Instance,
    target: type[Operator] | BlockRef,
    operands: tuple[Value, ...],
    arguments: Sequence[tree.Argument],
    path: str | None,
    span: Span,
) -> tuple[Value, ...]:
    if isinstance(target, BlockRef):
        assert path is not None
        return _use_block(elaboration, instance, target, operands, arguments, path, span)
    return _use_operator(elaboration, instance, target, operands, arguments, path, span)


def _use_block(
    elaboration: Elaboration,
    instance: Instance,
    block: BlockRef,
    operands: tuple[Value, ...],
    arguments: Sequence[tree.Argument],
    path: str,
    span: Span,
) -> tuple[Value, ...]:
    elaboration.count_part(instance, span)
    values = block_arguments(elaboration, instance, block, arguments)
    return instantiate_block(elaboration, instance, block, values, operands, path, span)


def _use_operator(
    elaboration: Elaboration,
    instance: Instance,
    operator: type[Operator],
    operands: tuple[Value, ...],
    arguments: Sequence[tree.Argument],
    name: str | None,
    span: Span,
) -> tuple[Value, ...]:
    configured = configure_operator(elaboration, instance, operator, arguments, name, span, operands)
    if configured.weights and name is not None:
        instance.layers[name] = replace(instance.layers[name], ties=configured.weights)
    return add_node(
        elaboration, instance, configured.op, operands, name, span, arguments, configured.weights, configured.storages
    )


def _help_for_operand(item: Any, source: tree.Expression | tree.ChainStep, step: tree.ChainStep) -> str:
    """Help for an operand that is not a tensor."""
    if isinstance(item, list) and holds_tensors(item):
        chain = f"({source.span.text[1:-1].strip()}) -> {step.span.text}"
        is_short = isinstance(source, tree.List) and len(chain) <= LONGEST_CHAIN and "\n" not in chain
        return f"write several tensors as a tuple: `{chain if is_short else '(x, y) -> concat(1)'}`"
    if item is ABSENT:
        return "put the optional input last in the tuple, or put the chain inside `if given(...)`"
    if isinstance(item, type | BlockRef):
        return "call an operator that makes a tensor of numbers: `arange(n) -> ...`"
    if isinstance(item, list):
        return "for a tensor of numbers write `constant((3,))`, stored with the weights, or `full((3,), 0.5)`"
    return "write attributes in parentheses after an operator: `x -> linear(8)`"


# Symbols and indices -------------------------------------------------------------------------------------


def apply_symbol(
    elaboration: Elaboration, instance: Instance, node: tree.SyntaxNode, symbol: str, operands: Sequence[Any]
) -> Value:
    """Value of `a + b`, `x * 0.5` or `-x`, where at least one operand is a tensor.

    Raises:
        Failed: an operand does not fit; the mistake is already reported.
    """
    if len(operands) == 1:
        return add_node(elaboration, instance, FORMULAS["unary"][symbol].from_sides(None), operands, None, node.span)[0]
    if symbol not in FORMULAS["binary"]:
        elaboration.report(
            instance,
            "wrong-type",
            f"`{symbol}` does not apply to tensors",
            node.span,
            help=f"write `(a, b) -> logical_{symbol}`" if symbol in ("and", "or") else _HELP.get(symbol),
        )
    for operand in operands:
        if isinstance(operand, bool) or not isinstance(operand, Value | int | float | SymbolicDim):
            elaboration.report(
                instance,
                "wrong-type",
                f"`{symbol}` with a tensor expects a tensor or a number, got {describe_value(operand)}",
                node.span,
                help="add a tuple to a tuple: `keys = keys + (x,)`"
                if symbol == "+" and isinstance(operand, tuple)
                else None,
            )
    tensors = [operand for operand in operands if isinstance(operand, Value)]
    sides = [None if isinstance(operand, Value) else operand for operand in operands]
    return add_node(elaboration, instance, FORMULAS["binary"][symbol].from_sides(*sides), tensors, None, node.span)[0]


def apply_index(elaboration: Elaboration, instance: Instance, node: tree.IndexExpression, value: Value) -> Value:
    """Value of `x[:, 0]`, where `x` is a tensor.

    Raises:
        Failed: the index does not fit; the mistake is already reported.
    """
    items: list[Any] = []
    for item in node.items:
        if isinstance(item, tree.Name) and item.name == "None" and instance.environment.get("None") is None:
            _report_new_axis(elaboration, instance, node, item)
        if isinstance(item, tree.SliceExpression):
            parts = (item.start, item.stop, item.step)
            bounds = [None if part is None else _bound(elaboration, instance, part) for part in parts]
            if isinstance(bounds[2], int) and bounds[2] < 0:
                _report_descending(elaboration, instance, node, item, value, bounds)
            items.append(tuple(bounds))
        elif isinstance(item, tree.Ellipsis):
            items.append(Ellipsis)
        else:
            items.append(_bound(elaboration, instance, item))
    op = FORMULAS["index"]["[]"].from_arguments(items, {})
    return add_node(elaboration, instance, op, (value,), None, node.span)[0]


def _report_descending(
    elaboration: Elaboration,
    instance: Instance,
    node: tree.IndexExpression,
    item: tree.SliceExpression,
    value: Value,
    bounds: Sequence[int | SymbolicDim | None],
) -> NoReturn:
    """Report a negative step, as in `x[:, ::-1]`."""
    place = _axis(node, item)
    help_ = OPERATORS["flip"]
    if bounds == [None, None, -1] and -value.type.rank <= place < value.type.rank:
        size = value.type.shape[place]
        help_ = f"write `({_tensor_text(node)}, {size} - 1 - arange({size})) -> index_select({place})`"
    elaboration.report(instance, "bad-attribute", "the step of a slice must be at least 1", item.span, help=help_)


def _axis(node: tree.IndexExpression, item: tree.Expression | tree.SliceExpression) -> int:
    """Axis to which an item of an index applies; negative for an item after `...`."""
    place = next(number for number, other in enumerate(node.items) if other is item)
    after_ellipsis = any(isinstance(other, tree.Ellipsis) for other in node.items[:place])
    return place - len(node.items) if after_ellipsis else place


def _tensor_text(node: tree.IndexExpression) -> str:
    text = node.value.span.text
    return text if len(text) <= 40 else "x"


def _report_new_axis(
    elaboration: Elaboration, instance: Instance, node: tree.IndexExpression, item: tree.Name
) -> NoReturn:
    """Report `None` in an index, as in `x[:, None]`."""
    help_ = f"write `{_tensor_text(node)} -> unsqueeze({_axis(node, item)})`"
    elaboration.report(instance, "wrong-type", "an index cannot insert an axis", item.span, help=help_)


def _bound(elaboration: Elaboration, instance: Instance, node: tree.Expression) -> int | SymbolicDim:
    value = elaboration.evaluate(instance, node)
    if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
        is_mask = isinstance(value, Value) and value.type.dtype is DType.bool
        elaboration.report(
            instance,
            "wrong-type",
            f"an index expects an integer, got {describe_value(value)}",
            node.span,
            help="write `(mask, x) -> where(other = 0.0)` to keep the shape and set the other elements to 0"
            if is_mask
            else "write `(x, index) -> index_select(1)` with a vector of indices"
            if isinstance(value, Value | list | tuple)
            else None,
        )
    return value
