"""The attributes of operators, and where their parameters come from: what stands in the parentheses of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Span
from archc.ir.attributes import AttributeProblem, attributes
from archc.ir.graph import Value
from archc.ir.storage import Storage
from archc.language import syntax
from archc.language.environment import WeightRef
from archc.language.fitting import argument_span
from archc.language.frames import Frame
from archc.language.translate import attribute_help
from archc.ops.operator import Operator

if TYPE_CHECKING:
    from archc.language.elaborate import Elaborator


@dataclass(frozen=True)
class Stated:
    """What a text says of an operator.

    Attributes:
        op: the operator with its attributes.
        weights: the parameters that are other layers'; storages: how parameters are stored; both by name.
    """

    op: Operator
    weights: dict[str, WeightRef] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)


def stated_operator(
    elaborator: Elaborator,
    frame: Frame,
    operator: type[Operator],
    arguments: Sequence[syntax.Argument],
    name: str | None,
    span: Span,
) -> Stated:
    """An operator with the attributes that a stage, or the declaration of a layer, gives it.

    Args:
        name: the layer's, within the definition.
        span: where to report what no single argument is to blame for.

    Raises:
        Failed: they make no sense; that was reported.
    """
    weights: dict[str, WeightRef] = {}
    storages: dict[str, Storage] = {}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in arguments:
        value = elaborator.expressions.argument(frame, argument)
        if isinstance(value, type) and issubclass(value, Storage):
            value = value()
        parameter = argument.name if argument.name in operator.parameters else None
        if parameter is not None and isinstance(value, WeightRef):
            if name is not None and value.path == f"{frame.within(name)}.{parameter}":
                elaborator.report(
                    frame,
                    "circular-weight",
                    f"`{name}` owns `{value.path}`, and cannot have it from itself",
                    argument.value.span,
                    help=f"leave out `{parameter} = ...`: every layer has a weight of its own",
                )
            weights[parameter] = value
            if value.storage is not None:
                storages[parameter] = value.storage
        elif parameter is not None and isinstance(value, Storage):
            storages[parameter] = value
        elif isinstance(value, Value):
            call = f"{operator.name}(...)" if len(arguments) > 1 else operator.name
            elaborator.report(
                frame,
                "wrong-type",
                "tensors flow along arrows, and are no attributes",
                argument.span,
                help=f"write `{_short(argument.value.span)} -> {call}`",
            )
        elif argument.name is None:
            positional.append(value)
        else:
            named[argument.name] = value
    try:
        return Stated(operator.from_arguments(positional, named), weights, storages)
    except AttributeProblem as problem:
        place = argument_span(arguments, problem.argument) or span
        help_ = problem.help
        if problem.code == "unknown-attribute" and isinstance(problem.argument, str):
            help_ = attribute_help(problem.argument, [info.name for info in attributes(operator)]) or help_
        elaborator.report(frame, problem.code, problem.message, place, help=help_)


def _short(span: Span) -> str:
    return span.text if len(span.text) <= 40 and "\n" not in span.text else "..."
