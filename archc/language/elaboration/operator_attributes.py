"""The attributes of operators, and where their parameters come from: what stands in the parentheses of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, get_origin

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.elaboration.environment import WeightRef
from archc.language.elaboration.fitting import argument_span
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.input_sizes import help_for_arguments
from archc.language.elaboration.tensor_arguments import as_chain, holds_tensors
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import attribute_help, dtype_help
from archc.operator.base import Operator
from archc.types.attributes import AttributeProblem, attributes
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator


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
    arguments: Sequence[tree.Argument],
    name: str | None,
    span: Span,
    operands: Sequence[Value] = (),
) -> Stated:
    """An operator with the attributes that a stage, or the declaration of a layer, gives it.

    Args:
        name: the layer's, within the definition.
        span: where to report what no single argument is to blame for.
        operands: the operands of the operator, for the help.

    Raises:
        Failed: they make no sense; that was reported.
    """
    weights: dict[str, WeightRef] = {}
    storages: dict[str, Storage] = {}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    tensors: list[tree.Argument] = []
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
        elif holds_tensors(value):
            tensors.append(argument)
        elif argument.name is None:
            positional.append(value)
        else:
            named[argument.name] = value
    if tensors:
        elaborator.report(
            frame,
            "wrong-type",
            "tensors flow along arrows, and are no attributes",
            tensors[0].span,
            help=as_chain(operator, arguments, tensors, operands, span),
        )
    try:
        return Stated(operator.from_arguments(positional, named), weights, storages)
    except AttributeProblem as problem:
        place = argument_span(arguments, problem.argument) or span
        help_ = (
            help_for_arguments(operator, arguments, positional, named, [value.type for value in operands])
            or _help_for_argument(operator, problem, positional, named)
            or problem.help
        )
        elaborator.report(frame, problem.code, problem.message, place, help=help_)


def _help_for_argument(
    operator: type[Operator], problem: AttributeProblem, positional: Sequence[Any], named: Mapping[str, Any]
) -> str | None:
    """Help for the name or the value of an attribute in the spelling of another library."""
    infos = attributes(operator)
    argument = problem.argument
    if problem.code == "unknown-attribute" and isinstance(argument, str):
        return attribute_help(argument, [info.name for info in infos])
    if problem.code != "wrong-type" or argument is None:
        return None
    slots = [info for info in infos if not info.keyword]
    value = positional[argument] if isinstance(argument, int) else named.get(argument)
    asked = slots[argument : argument + 1] if isinstance(argument, int) else [i for i in infos if i.name == argument]
    if isinstance(value, SymbolicDim) and any(int in (info.type, *get_args(info.type)) for info in asked):
        return f"`{value}` is known only when the model runs: give a number or an attribute"
    if type(value) is int and all(info.type is tuple or get_origin(info.type) is tuple for info in asked):
        return f"a tuple has parentheses of its own: `({value}, {value})`"
    wants_dtype = any(DType in (info.type, *get_args(info.type)) for info in asked)
    return dtype_help(value.rpartition(".")[2]) if wants_dtype and isinstance(value, str) else None
