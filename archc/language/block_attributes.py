"""The attributes of blocks and models: what a use gives, and the defaults of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Note, Span, did_you_mean
from archc.ir.graph import Value
from archc.language import syntax
from archc.language.environment import POISON, BlockRef
from archc.language.expressions import Failed
from archc.language.frames import Frame
from archc.language.names import check_name
from archc.ops.operator import Operator

if TYPE_CHECKING:
    from archc.language.elaborate import Elaborator


def given_attributes(
    elaborator: Elaborator, frame: Frame, block: BlockRef, arguments: Sequence[syntax.Argument]
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
            elaborator.report(
                frame,
                "too-many-attributes",
                f"the block `{block.definition.name.name}` takes {count}",
                argument.span,
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
        values[name] = elaborator.expressions.argument(frame, argument)
    return values


def bind_attributes(elaborator: Elaborator, frame: Frame, values: Mapping[str, Any], use: Span) -> bool:
    """Bind a definition's attributes to the values given, or their defaults; False where one has none."""
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
            value = _attribute_value(elaborator, frame, attribute, values, use)
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


def _attribute_value(
    elaborator: Elaborator, frame: Frame, attribute: syntax.Attribute, values: Mapping[str, Any], use: Span
) -> Any:
    name, definition = attribute.name.name, frame.definition
    if name in values:
        return values[name]
    if attribute.default is None:
        way = f"`--set {name}=...`" if definition.kind == "model" else f"`{definition.name.name}({name} = ...)`"
        elaborator.report(
            frame.parent or frame,
            "missing-attribute",
            f"the {definition.kind} `{definition.name.name}` needs a value for `{name}`",
            use if frame.parent else attribute.name.span,
            notes=[Note("it has no default", attribute.name.span)] if frame.parent else (),
            help=f"give one: {way}, or a default",
        )
    value = elaborator.expressions.evaluate(frame, attribute.default)
    if isinstance(value, Value | BlockRef) or (isinstance(value, type) and issubclass(value, Operator)):
        elaborator.report(
            frame,
            "wrong-type",
            f"the default of `{name}` must be a number, a truth value, a string, a dtype, a tuple or a list",
            attribute.default.span,
        )
    return value


def _known_attributes(name: str, names: Sequence[str]) -> str:
    """Help for an attribute that there is not."""
    known = ", ".join(f"`{own}`" for own in names)
    return did_you_mean(name, names) or (f"it has {known}" if names else "it has none")
