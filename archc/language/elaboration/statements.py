"""Statements without control flow: inputs, outputs, layers, sizes and tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import help_for_results, origin_notes
from archc.language.elaboration.calls import evaluate_callee
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.declared_types import declare
from archc.language.elaboration.environment import BlockRef, LayerRef, describe_value, names_in
from archc.language.elaboration.user_names import (
    check_free,
    check_layer_name,
    check_name,
    check_new,
    label_path,
    name_value,
    register_layer,
)
from archc.language.syntax import tree
from archc.types.tensor_type import TensorType


def _input(elaboration: Elaboration, instance: Instance, node: tree.Input) -> None:
    check_name(elaboration, instance, node.name, "an input")
    name = node.name.name
    if instance.scans:
        elaboration.report(
            instance,
            "input-misplaced",
            f"the input `{name}` is inside a `scan`",
            node.name.span,
            help="move it before the `scan`",
        )
    if instance.parent is not None:
        elaboration.report(
            instance,
            "input-misplaced",
            f"the input `{name}` of a block is inside a `for` or an `if`",
            node.name.span,
            help=f"move it to the first statements of the block; `input {name}?` makes it optional",
        )
    check_new(elaboration, instance, node.name, "inputs", "input")
    if node.optional:
        elaboration.report(
            instance,
            "input-misplaced",
            f"the input `{name}` of a model cannot be optional",
            node.name.span,
            help=f"make it depend on an attribute: `if with_{name} {{ input {name}: ... }}`",
        )
    if node.type is None:
        elaboration.report(
            instance,
            "missing-type",
            f"the input `{name}` of a model needs a type",
            node.name.span,
            help=f"write `input {name}: f32[N, ...]`; only an input of a block can be without a type",
        )
    type = declare(elaboration, instance, node.type)
    check_new(elaboration, instance, node.name, "inputs", "input")  # the type may bind a size of the same name
    instance.environment.bind(name, elaboration.rewriter.input(name, type), node.name.span, "input")


def _output(elaboration: Elaboration, instance: Instance, node: tree.Output) -> None:
    if node.name is not None:
        check_name(elaboration, instance, node.name, "an output")
    if instance.scans:
        elaboration.report(
            instance,
            "output-misplaced",
            "an output is inside a `scan`",
            node.span,
            help="write `yield y = ...` in the `scan`, and `output y` after it",
        )
    value = elaboration.evaluate(instance, node.value)
    values = value if isinstance(value, tuple) else (value,)
    for item in values:
        _needs_tensor(elaboration, instance, item, node.value.span, "an output")
    if not values:
        elaboration.report(instance, "wrong-type", "an output expects a tensor, got an empty tuple", node.value.span)
    if node.type is not None:
        _check_type(elaboration, instance, node, node.type, values)
    for item in values:
        name = node.name.name if node.name is not None and len(values) == 1 else None
        instance.outputs.append((name, item, node.name.span if node.name is not None else node.value.span))
    if node.name is not None:
        check_free(elaboration, instance, node.name, "output")
        name_value(instance, values[0], node.name.name)
        instance.environment.bind(node.name.name, value, None, "tensor")


def _check_type(
    elaboration: Elaboration,
    instance: Instance,
    node: tree.Output,
    type_node: tree.TypeExpression,
    values: tuple[Value, ...],
) -> None:
    declared = declare(elaboration, instance, type_node)
    actual: TensorType = values[0].type
    if len(values) != 1:
        elaboration.report(
            instance, "result-count", f"{len(values)} outputs are declared with one type", type_node.span
        )
    if declared != actual:
        elaboration.report(
            instance,
            "shape-mismatch" if declared.dtype is actual.dtype else "dtype-mismatch",
            f"the output is declared as {declared}, got {actual}",
            type_node.span,
            notes=origin_notes(values[0]),
            help="correct the type, or leave it out",
        )


def _layer(elaboration: Elaboration, instance: Instance, node: tree.LayerStatement) -> None:
    callee_node = node.value.callee if isinstance(node.value, tree.Call) else node.value
    arguments = node.value.arguments if isinstance(node.value, tree.Call) else ()
    callee = evaluate_callee(elaboration, instance, callee_node, fresh=True)
    if isinstance(callee, LayerRef):
        elaboration.report(
            instance,
            "layer-redefined",
            f"`{callee.name}` is a declared layer, and cannot be declared again",
            callee_node.span,
            notes=[Note("it is declared here", callee.span)],
            help=f"declare a layer from an operator or a block; to share `{callee.name}`, use its name",
        )
    path = label_path(elaboration, instance, node.name)
    check_layer_name(elaboration, instance, node.name)
    register_layer(elaboration, instance, path, callee, node.name.span)
    check_new(elaboration, instance, tree.Name(node.name.span, path), "layers", "layer")
    bindings = instance.environment.bindings
    captured = {name: bindings[name] for name in names_in(tuple(arguments)) if name in bindings}
    reference = LayerRef(path, callee, tuple(arguments), node.span, captured)
    instance.environment.bind(path, reference, node.name.span, "layer")


def _let(elaboration: Elaboration, instance: Instance, node: tree.Let) -> None:
    check_name(elaboration, instance, node.name, "a value")
    value = elaboration.evaluate(instance, node.value)
    if isinstance(value, Value) or (isinstance(value, tuple) and any(isinstance(item, Value) for item in value)):
        elaboration.report(
            instance,
            "wrong-type",
            f"`let` expects a size or an attribute value, got {describe_value(value)}",
            node.value.span,
            help=f"write `{node.name.name} = ...` for a tensor",
        )
    instance.environment.bind(node.name.name, value, node.name.span, "size")


def _assign(elaboration: Elaboration, instance: Instance, node: tree.Assign) -> None:
    for target in node.targets:
        check_name(elaboration, instance, target, "a tensor")
    value = elaboration.evaluate(instance, node.value)
    if len(node.targets) == 1:
        _needs_tensor(elaboration, instance, value, node.value.span, f"`{node.targets[0].name}`", node)
        _bind_tensor(elaboration, instance, node.targets[0], value, node.span)
        return
    if not isinstance(value, tuple) or len(value) != len(node.targets):
        count = len(value) if isinstance(value, tuple) else 1
        elaboration.report(
            instance,
            "result-count",
            f"{len(node.targets)} names are assigned {count} tensor{'s' if count != 1 else ''}",
            node.targets[0].span.to(node.targets[-1].span),
            help=help_for_results(value, len(node.targets)),
        )
    for target, item in zip(node.targets, value):
        _needs_tensor(elaboration, instance, item, node.value.span, f"`{target.name}`", node)
        _bind_tensor(elaboration, instance, target, item, node.span)


def _bind_tensor(elaboration: Elaboration, instance: Instance, target: tree.Name, value: Any, statement: Span) -> None:
    check_free(elaboration, instance, target, "tensor")
    if isinstance(value, Value):
        name_value(instance, value, target.name)
    instance.environment.bind(target.name, value, target.span, "tensor", statement)


def _needs_tensor(
    elaboration: Elaboration, instance: Instance, value: Any, span: Span, what: str, assign: tree.Assign | None = None
) -> None:
    grows = assign is not None  # `keys = ()` is allowed: a loop adds tensors to the empty tuple
    items = value if isinstance(value, tuple) and (value or grows) else (value,)
    if all(isinstance(item, Value) for item in items):
        return
    help_ = None
    if isinstance(value, type | BlockRef | LayerRef):
        help_ = f"apply it to a tensor: `x -> {span.text}`"
    elif isinstance(value, list):
        help_ = "write several tensors as a tuple: `keys = ()`, then `keys = keys + (x,)`"
    elif assign is not None and len(assign.targets) == 1:
        help_ = f"write `let {assign.targets[0].name} = ...` for a size"
    elaboration.report(
        instance, "wrong-type", f"{what} expects a tensor, got {describe_value(value)}", span, help=help_
    )


STATEMENTS: dict[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], None]] = {
    tree.Input: _input,
    tree.Output: _output,
    tree.LayerStatement: _layer,
    tree.Let: _let,
    tree.Assign: _assign,
}
"""Functions that run statements without control flow, by node type."""
