"""The attributes of blocks and models: what a use gives, and the defaults of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Note, Span, did_you_mean
from archc.ir.graph import Value
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef
from archc.language.elaboration.expressions import describe_value
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.modules import Default
from archc.language.elaboration.names import check_name
from archc.language.elaboration.references import meaning
from archc.language.syntax import tree
from archc.operator.base import Operator
from archc.operator.registry import operator_names

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator
    from archc.language.elaboration.modules import Module


def is_callable(value: Any) -> bool:
    """Whether a value is an operator or a block, which an attribute may be as well as a number."""
    return isinstance(value, BlockRef) or (isinstance(value, type) and issubclass(value, Operator))


def holds_callables(value: Any) -> bool:
    """Whether a value is an operator or a block, or has one among its items."""
    return any(map(holds_callables, value)) if isinstance(value, tuple | list) else is_callable(value)


def given_attributes(
    elaborator: Elaborator, frame: Frame, block: BlockRef, arguments: Sequence[tree.Argument]
) -> dict[str, Any]:
    """The attribute values that a use of a block gives, by name.

    Raises:
        Failed: an argument is none of the block's; that was reported.
    """
    names = [attribute.name.name for attribute in block.definition.attributes]
    count = f"{len(names)} attribute{'s' if len(names) != 1 else ''}"
    values: dict[str, Any] = {}
    for position, argument in enumerate(arguments):
        if argument.name is None and position >= len(names):
            is_tensor = isinstance(elaborator.expressions.argument(frame, argument), Value)
            elaborator.report(
                frame,
                "too-many-attributes",
                f"the block `{block.definition.name.name}` takes {count}",
                argument.span,
                help=_as_input(block, argument) if is_tensor else None,
            )
        name = argument.name or names[position]
        if name in values:
            elaborator.report(frame, "duplicate-attribute", f"`{name}` is given twice", argument.span)
        if name not in names:
            elaborator.report(
                frame,
                "unknown-attribute",
                f"the block `{block.definition.name.name}` has no attribute `{name}`",
                argument.span,
                help=_known_attributes(name, names),
            )
        value = elaborator.expressions.argument(frame, argument)
        if _is_no_attribute(value):
            elaborator.report(
                frame,
                "wrong-type",
                f"`{name}` is an attribute, and this is {describe_value(value)}",
                argument.span,
                help=_as_input(block, argument) if isinstance(value, Value) else None,
            )
        values[name] = value
    return values


def _as_input(block: BlockRef, argument: tree.Argument) -> str:
    """Help for a tensor among the attributes of a block."""
    text = argument.value.span.text
    short = text if len(text) <= 40 and "\n" not in text else "..."
    return f"tensors flow along arrows, into the inputs of a block: `{short} -> {block.definition.name.name}`"


def bind_attributes(
    elaborator: Elaborator,
    frame: Frame,
    values: Mapping[str, Any],
    use: Span,
    defaults: Mapping[str, Default] | None = None,
    asked: Module | None = None,
) -> bool:
    """Bind a definition's attributes to the values given, or their defaults; False where one has none.

    Args:
        defaults: those of a derived model.
        asked: the file of a model that is compiled; words that `values` gives for operators and blocks mean its own.
    """
    names = [attribute.name.name for attribute in frame.definition.attributes]
    whole = True
    for name in values:
        if name not in names:
            whole = False
            _unknown_attribute(elaborator, frame, name, names, use)
    for attribute in frame.definition.attributes:
        name = attribute.name.name
        value: Any = POISON
        try:
            elaborator.statements.check_new(frame, attribute.name, "attributes", "attribute")
            check_name(elaborator, frame, attribute.name, "an attribute")
            if name in values:
                value = _given(elaborator, frame, attribute, values[name], use, asked)
            else:
                value = _default(elaborator, frame, attribute, use, (defaults or {}).get(name))
        except Failed:
            whole = False
        frame.environment.bind(name, value, attribute.name.span, "attribute")
    return whole


def _unknown_attribute(elaborator: Elaborator, frame: Frame, name: str, names: list[str], use: Span) -> None:
    definition = frame.definition
    with contextlib.suppress(Failed):  # the others may be wrong too
        elaborator.report(
            frame.parent or frame,
            "unknown-attribute",
            f"the {definition.kind} `{definition.name.name}` has no attribute `{name}`",
            use,
            help=_known_attributes(name, names),
        )


def _given(  # noqa: RET503 - `report` never returns
    elaborator: Elaborator, frame: Frame, attribute: tree.Attribute, value: Any, use: Span, asked: Module | None
) -> Any:
    """The value that a use gives an attribute; where the default is an operator or a block, it must be one too."""
    default, name = attribute.default, attribute.name.name
    if not isinstance(default, tree.Name | tree.MemberExpression) or is_callable(value):
        return value
    if not is_callable(elaborator.expressions.evaluate(frame, default)):
        return value
    if isinstance(value, str) and asked is not None:
        return _meant(elaborator, frame, attribute, value, asked)
    elaborator.report(
        frame.parent or frame,
        "wrong-type",
        f"`{name}` is an operator or a block, and is given {describe_value(value)}",
        use if frame.parent else attribute.name.span,
        notes=[Note("its default is one", default.span)],
    )


def _meant(elaborator: Elaborator, frame: Frame, attribute: tree.Attribute, word: str, asked: Module) -> Any:
    """The operator or block that a word of the command line names."""
    alias, dot, name = word.rpartition(".")
    if dot:
        module = asked.imports.get(alias)
        definition = module.definitions.get(name) if module is not None else None
        found: Any = BlockRef(definition, module) if module is not None and definition is not None else None
    else:
        found = meaning(Frame(frame.definition, asked, frame.scope), word)
    if not is_callable(found):
        imported = [f"{alias}.{block}" for alias, other in asked.imports.items() for block in other.blocks]
        elaborator.report(
            frame,
            "unknown-operator",
            f"`{attribute.name.name}` is an operator or a block, and there is none called `{word}`",
            attribute.name.span,
            help=did_you_mean(word, [*asked.blocks, *imported, *operator_names()]) or "`archc ops` lists the operators",
        )
    return found


def _default(
    elaborator: Elaborator, frame: Frame, attribute: tree.Attribute, use: Span, derived: Default | None
) -> Any:
    """The value of an attribute that is not given; a derived model's own default may use the attributes before it."""
    name, definition = attribute.name.name, frame.definition
    default = attribute.default if derived is None else derived.value
    if default is None:
        takes_tensors = definition.kind == "model" or any(isinstance(part, tree.Input) for part in definition.body)
        way = f"`--set {name}=...`" if definition.kind == "model" else f"`{definition.name.name}({name} = ...)`"
        elaborator.report(
            frame.parent or frame,
            "missing-attribute",
            f"the {definition.kind} `{definition.name.name}` needs a value for `{name}`",
            use if frame.parent else attribute.name.span,
            notes=[Note("it has no default", attribute.name.span)] if frame.parent else (),
            help=f"give one: {way}, or a default"
            + ("" if takes_tensors else f"; what it receives is an `input {name}` in its body"),
        )
    around = frame if derived is None else Frame(definition, derived.module, frame.scope, frame.environment)
    value = elaborator.expressions.evaluate(around, default)
    if _is_no_attribute(value):
        elaborator.report(
            frame, "wrong-type", f"`{name}` is an attribute, and its default is {describe_value(value)}", default.span
        )
    return value


def _is_no_attribute(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_is_no_attribute, value))
    return value is ABSENT or isinstance(value, Value | LayerRef)


def _known_attributes(name: str, names: Sequence[str]) -> str:
    """Help for an attribute that there is not."""
    known = ", ".join(f"`{own}`" for own in names)
    return did_you_mean(name, names) or (f"it has {known}" if names else "it has none")
