"""Instantiation of blocks: for each use, bind attributes and inputs, and elaborate the statements.

`bind_attributes` also binds the attributes of models.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from archc.declaration.base import Operator
from archc.declaration.registry import find_operator, operator_names
from archc.diagnostics import Note, Span, did_you_mean
from archc.ir.graph import Scope, Value
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.declared_types import axis_names, unify
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef, describe_value
from archc.language.elaboration.modules import Default, Module
from archc.language.elaboration.references import lookup_global
from archc.language.elaboration.user_names import check_instance_name, check_name, check_new
from archc.language.syntax import tree

DEEPEST_NESTING = 64
"""Limit on the depth of blocks within blocks."""


def instantiate_block(
    elaboration: Elaboration,
    instance: Instance,
    block: BlockRef,
    values: Mapping[str, Any],
    operands: tuple[Value, ...],
    path: str,
    use: Span,
) -> tuple[Value, ...]:
    """Elaborate one use of a block, and return its outputs.

    Args:
        instance: the instance that uses the block.
        values: the attribute values in the use, by name.
        path: the path of the block as a layer of `instance`.
        use: the place of the use.

    Raises:
        Failed: the use is not valid or a statement of the block failed; the reason is reported.
    """
    definition = block.definition
    _check_use(elaboration, instance, definition, use)
    arguments: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    scope = Scope(instance.path_in_model(path), definition.name.name, instance.scope, arguments, sizes, definition.doc)
    inner = Instance(definition, block.module, scope, use=use, parent=instance)
    errors = len(elaboration.diagnostics.errors)
    check_instance_name(elaboration, inner)
    if not bind_attributes(elaboration, inner, values, use):
        raise Failed
    given = {a.name.name: inner.environment.bindings[a.name.name].value for a in definition.attributes}
    arguments.update({name: value for name, value in given.items() if not holds_callables(value)})
    scope.defaults.update({name: value for name, value in arguments.items() if name not in values})
    sizes.update(_bind_inputs(elaboration, instance, inner, operands, use))
    elaboration.run(inner, [part for part in definition.body if not isinstance(part, tree.Input)])
    instance.layers[path].inner.update(inner.layers)
    elaboration.unused.gather(inner.environment)
    if len(elaboration.diagnostics.errors) > errors or _failed_silently(inner):
        raise Failed
    if not inner.outputs:
        report_no_output(elaboration, inner)
    return tuple(value for _, value, _ in inner.outputs)


def _check_use(elaboration: Elaboration, instance: Instance, definition: tree.Definition, use: Span) -> None:
    name = definition.name.name
    if definition.kind == "model":
        elaboration.report(
            instance,
            "not-a-block",
            f"`{name}` is a model, and cannot be used in another definition",
            use,
            notes=[Note("it is defined here", definition.name.span)],
            help=f"define it as `block {name}`",
        )
    if any(around.definition is definition for around in instance.enclosing()):
        elaboration.report(
            instance,
            "recursive-block",
            f"the block `{name}` uses itself",
            use,
            help=f"it hides the operator `{name}`: rename the block, for instance to `{name}_block`"
            if find_operator(name)
            else "write `for i in 0..n { ... }` to repeat a block",
        )
    if instance.depth >= DEEPEST_NESTING:
        elaboration.report(instance, "nesting-too-deep", f"blocks are nested more than {DEEPEST_NESTING} deep", use)


def _bind_inputs(
    elaboration: Elaboration, instance: Instance, inner: Instance, operands: tuple[Value, ...], use: Span
) -> dict[str, Any]:
    """Bind the inputs of a block to its operands, and return the sizes that the types of the inputs bind.

    Args:
        instance: the instance that uses the block.
        inner: the instance of the block.
    """
    definition = inner.definition
    inputs = [statement for statement in definition.body if isinstance(statement, tree.Input)]
    _check_optional(elaboration, inner, inputs)
    needed = sum(not statement.optional for statement in inputs)
    if not needed <= len(operands) <= len(inputs):
        names = ", ".join(f"{statement.name.name}{'?' * statement.optional}" for statement in inputs)
        elaboration.report(
            instance,
            "operand-count",
            f"the block `{definition.name.name}` has {len(inputs)} input{'s' if len(inputs) != 1 else ''}"
            f" ({names or 'none'}), got {len(operands)}",
            use,
            notes=[Note(f"`{definition.name.name}` is defined here", definition.name.span)],
            help=_help_for_inputs(definition.name.name, [one.name.name for one in inputs], len(operands)),
        )
    sizes: dict[str, Any] = {}
    for statement, value in zip(inputs, operands):
        check_name(elaboration, inner, statement.name, "an input")
        check_new(elaboration, inner, statement.name, "inputs", "input")
        if statement.type is not None:
            sizes.update(unify(elaboration, inner, statement, value))
        inner.scope.inputs.append(value)
        inner.scope.axes.append(axis_names(statement.type, sizes) if statement.type is not None else None)
        inner.scope.names.setdefault(value, statement.name.name)
        inner.environment.bind(statement.name.name, value, statement.name.span, "input")
    for statement in inputs[len(operands) :]:
        check_name(elaboration, inner, statement.name, "an input")
        check_new(elaboration, inner, statement.name, "inputs", "input")
        inner.environment.bind(statement.name.name, ABSENT, statement.name.span, "input")
    return sizes


def _check_optional(elaboration: Elaboration, inner: Instance, inputs: Sequence[tree.Input]) -> None:
    """Refuse a required input after an optional one."""
    for before, statement in pairwise(inputs):
        if before.optional and not statement.optional:
            elaboration.report(
                inner,
                "input-misplaced",
                f"the required input `{statement.name.name}` is after an optional input",
                statement.name.span,
                notes=[Note(f"`{before.name.name}` is optional", before.name.span)],
                help="move the optional inputs to the end",
            )


def _failed_silently(instance: Instance) -> bool:
    """Return whether outputs are missing due to a mistake that is reported for another use of the block."""
    expected = any(isinstance(statement, tree.Output) for statement in instance.definition.body)
    return expected and not instance.outputs


def report_no_output(elaboration: Elaboration, instance: Instance) -> NoReturn:
    """Report a definition without outputs.

    Raises:
        Failed: always.
    """
    definition = instance.definition
    elaboration.report(
        instance,
        "no-output",
        f"the {definition.kind} `{definition.name.name}` has no output",
        definition.name.span,
        help="add `output ...` as its last statement",
    )


def _help_for_inputs(block: str, names: Sequence[str], received: int) -> str | None:
    """Help for a use of a block with too few or too many operands."""
    if not names:
        return "declare an input in the body of the block: `input x`"
    if received >= len(names):
        return None
    return (
        f"write several inputs as a tuple: `({', '.join(names)}) -> {block}`"
        if len(names) > 1
        else f"write `{names[0]} -> {block}`"
    )


# Attributes ----------------------------------------------------------------------------------------------


def is_callable(value: Any) -> bool:
    """Return whether a value is an operator or a block."""
    return isinstance(value, BlockRef) or (isinstance(value, type) and issubclass(value, Operator))


def holds_callables(value: Any) -> bool:
    """Return whether a value is an operator or a block, or a tuple or list that contains one."""
    return any(map(holds_callables, value)) if isinstance(value, tuple | list) else is_callable(value)


def block_arguments(
    elaboration: Elaboration, instance: Instance, block: BlockRef, arguments: Sequence[tree.Argument]
) -> dict[str, Any]:
    """Evaluate the arguments of a use of a block, and return the attribute values by name.

    Raises:
        Failed: an argument is not an attribute of the block; the reason is reported.
    """
    names = [attribute.name.name for attribute in block.definition.attributes]
    count = f"{len(names)} attribute{'s' if len(names) != 1 else ''}"
    values: dict[str, Any] = {}
    for position, argument in enumerate(arguments):
        if argument.name is None and position >= len(names):
            is_tensor = isinstance(elaboration.evaluate_argument(instance, argument), Value)
            elaboration.report(
                instance,
                "too-many-attributes",
                f"the block `{block.definition.name.name}` takes {count}",
                argument.span,
                help=_as_input(block, argument) if is_tensor else None,
            )
        name = argument.name or names[position]
        if name in values:
            elaboration.report(instance, "duplicate-attribute", f"`{name}` is given twice", argument.span)
        if name not in names:
            elaboration.report(
                instance,
                "unknown-attribute",
                f"the block `{block.definition.name.name}` has no attribute `{name}`",
                argument.span,
                help=_known_attributes(name, names),
            )
        value = elaboration.evaluate_argument(instance, argument)
        if _is_no_attribute(value):
            elaboration.report(
                instance,
                "wrong-type",
                f"the attribute `{name}` cannot be {describe_value(value)}",
                argument.span,
                help=_as_input(block, argument) if isinstance(value, Value) else None,
            )
        values[name] = value
    return values


def _as_input(block: BlockRef, argument: tree.Argument) -> str:
    """Help for a tensor among the arguments of a block."""
    text = argument.value.span.text
    short = text if len(text) <= 40 and "\n" not in text else "..."
    return f"pass a tensor to an input of the block: `{short} -> {block.definition.name.name}`"


def bind_attributes(
    elaboration: Elaboration,
    instance: Instance,
    values: Mapping[str, Any],
    use: Span,
    defaults: Mapping[str, Default] | None = None,
    compiled: Module | None = None,
) -> bool:
    """Bind the attributes of a definition, and return whether all of them have a value.

    Args:
        values: the given values, by name.
        use: the place of the use, or of the model's name.
        defaults: the defaults of a derived model, which replace the defaults in the definition.
        compiled: the file of the compiled model.  If an attribute from the command line names an operator or a block,
            the name is looked up in this file.
    """
    names = [attribute.name.name for attribute in instance.definition.attributes]
    complete = True
    for name in values:
        if name not in names:
            complete = False
            _unknown_attribute(elaboration, instance, name, names, use)
    for attribute in instance.definition.attributes:
        name = attribute.name.name
        value: Any = POISON
        try:
            check_new(elaboration, instance, attribute.name, "attributes", "attribute")
            check_name(elaboration, instance, attribute.name, "an attribute")
            if name in values:
                value = _given_value(elaboration, instance, attribute, values[name], use, compiled)
            else:
                value = _default_value(elaboration, instance, attribute, use, (defaults or {}).get(name))
        except Failed:
            complete = False
        instance.environment.bind(name, value, attribute.name.span, "attribute")
    return complete


def _unknown_attribute(elaboration: Elaboration, instance: Instance, name: str, names: list[str], use: Span) -> None:
    definition = instance.definition
    with contextlib.suppress(Failed):  # to check the other attributes, too
        elaboration.report(
            instance.parent or instance,
            "unknown-attribute",
            f"the {definition.kind} `{definition.name.name}` has no attribute `{name}`",
            use,
            help=_known_attributes(name, names),
        )


def _given_value(  # noqa: RET503 - `report` never returns
    elaboration: Elaboration,
    instance: Instance,
    attribute: tree.Attribute,
    value: Any,
    use: Span,
    compiled: Module | None,
) -> Any:
    """Value of an attribute in a use.

    If the default is an operator or a block, the value must be an operator or a block.
    """
    default, name = attribute.default, attribute.name.name
    if not isinstance(default, tree.Name | tree.MemberExpression) or is_callable(value):
        return value
    if not is_callable(elaboration.evaluate(instance, default)):
        return value
    if isinstance(value, str) and compiled is not None:
        return _named_callable(elaboration, instance, attribute, value, compiled)
    elaboration.report(
        instance.parent or instance,
        "wrong-type",
        f"`{name}` expects an operator or a block, got {describe_value(value)}",
        use if instance.parent else attribute.name.span,
        notes=[Note("the default is here", default.span)],
    )


def _named_callable(
    elaboration: Elaboration, instance: Instance, attribute: tree.Attribute, word: str, compiled: Module
) -> Any:
    """Operator or block with the name `word`, which is the value of an attribute on the command line."""
    alias, dot, name = word.rpartition(".")
    if dot:
        module = compiled.imports.get(alias)
        definition = module.definitions.get(name) if module is not None else None
        found: Any = BlockRef(definition, module) if module is not None and definition is not None else None
    else:
        found = lookup_global(Instance(instance.definition, compiled, instance.scope), word)
    if not is_callable(found):
        imported = [f"{alias}.{block}" for alias, other in compiled.imports.items() for block in other.blocks]
        elaboration.report(
            instance,
            "unknown-operator",
            f"`{attribute.name.name}` expects an operator or a block, and `{word}` is neither",
            attribute.name.span,
            help=did_you_mean(word, [*compiled.blocks, *imported, *operator_names()])
            or "`archc ops` lists the operators",
        )
    return found


def _default_value(
    elaboration: Elaboration, instance: Instance, attribute: tree.Attribute, use: Span, derived: Default | None
) -> Any:
    """Default value of an attribute.

    The names in a default of a derived model are looked up in the file of the derivation.  A default can use the
    preceding attributes.
    """
    name, definition = attribute.name.name, instance.definition
    default = attribute.default if derived is None else derived.value
    if default is None:
        takes_tensors = definition.kind == "model" or any(isinstance(part, tree.Input) for part in definition.body)
        way = f"`--set {name}=...`" if definition.kind == "model" else f"`{definition.name.name}({name} = ...)`"
        elaboration.report(
            instance.parent or instance,
            "missing-attribute",
            f"the {definition.kind} `{definition.name.name}` needs a value for `{name}`",
            use if instance.parent else attribute.name.span,
            notes=[Note("the attribute has no default", attribute.name.span)] if instance.parent else (),
            help=f"give {way}, or a default"
            + ("" if takes_tensors else f"; if it is a tensor, declare `input {name}` in the body"),
        )
    around = instance if derived is None else Instance(definition, derived.module, instance.scope, instance.environment)
    value = elaboration.evaluate(around, default)
    if _is_no_attribute(value):
        elaboration.report(
            instance,
            "wrong-type",
            f"the default of the attribute `{name}` cannot be {describe_value(value)}",
            default.span,
        )
    return value


def _is_no_attribute(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_is_no_attribute, value))
    return value is ABSENT or isinstance(value, Value | LayerRef)


def _known_attributes(name: str, names: Sequence[str]) -> str:
    """Help for an unknown attribute."""
    known = ", ".join(f"`{own}`" for own in names)
    return did_you_mean(name, names) or (f"its attributes are {known}" if names else "it has no attributes")
