"""Operators in a text: binding of attributes, shared weights and storages, and creation of nodes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, NoReturn, get_args, get_origin

from archc.declaration.base import Inference, Operator, OperatorError
from archc.declaration.operator_failure import OperatorFailure
from archc.diagnostics import Span
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Value
from archc.language.elaboration.advice import (
    advise,
    as_chain,
    help_for_arguments,
    help_for_operands,
    holds_tensors,
    origin_notes,
    warn_of_input_size,
)
from archc.language.elaboration.arithmetic import LARGEST_SIZE
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.environment import WeightRef
from archc.language.elaboration.step_budget import STEPS_OF_A_RESULT, STEPS_OF_AN_OPERAND, steps_of
from archc.language.elaboration.storages import as_storage
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import attribute_help, dtype_help
from archc.types.attributes import AttributeProblem, attributes
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import DType, TensorType

LARGEST_WEIGHT = 2**36
"""Limit on the elements of a weight: 256 GiB in f32, more than the largest layers in use."""


@frozen_dataclass
class ConfiguredOperator:
    """An operator with its arguments in the text.

    Attributes:
        op: the operator with its attributes.
        weights: weights of other layers, by parameter.
        storages: storages that the arguments give to weights, by parameter.
    """

    op: Operator
    weights: dict[str, WeightRef] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)


def configure_operator(
    elaboration: Elaboration,
    instance: Instance,
    operator: type[Operator],
    arguments: Sequence[tree.Argument],
    name: str | None,
    span: Span,
    operands: Sequence[Value] = (),
) -> ConfiguredOperator:
    """Bind the arguments of a step or of a layer's declaration to an operator.

    Args:
        name: the path of the layer within the instance.
        span: the place to report a mistake that belongs to no single argument.
        operands: the operands of the operator, for help texts.

    Raises:
        Failed: the arguments do not fit the operator; the reason is reported.
    """
    weights: dict[str, WeightRef] = {}
    storages: dict[str, Storage] = {}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    tensors: list[tree.Argument] = []
    for argument in arguments:
        value = elaboration.evaluate_argument(instance, argument)
        parameter = argument.name if argument.name in operator.parameters else None
        if parameter is not None:
            value = as_storage(elaboration, instance, value, argument.value.span)
        if parameter is not None and isinstance(value, WeightRef):
            if name is not None and value.path == f"{instance.path_in_model(name)}.{parameter}":
                elaboration.report(
                    instance,
                    "circular-weight",
                    f"`{name}` owns `{value.path}`, and cannot share it with itself",
                    argument.value.span,
                    help=f"leave out `{parameter} = ...`: a layer owns its weight by default",
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
        elaboration.report(
            instance,
            "wrong-type",
            "a tensor cannot be an attribute",
            tensors[0].span,
            help=as_chain(operator, arguments, tensors, operands, span),
        )
    try:
        return ConfiguredOperator(operator.from_arguments(positional, named), weights, storages)
    except AttributeProblem as problem:
        place = _argument_span(arguments, problem.argument) or span
        help_ = (
            help_for_arguments(operator, arguments, positional, named, [value.type for value in operands])
            or _help_for_argument(operator, problem, positional, named)
            or problem.help
        )
        elaboration.report(instance, problem.code, problem.message, place, help=help_)
    except OperatorFailure as failure:
        raise failure.at(span) from failure.__cause__


def _help_for_argument(
    operator: type[Operator], problem: AttributeProblem, positional: Sequence[Any], named: Mapping[str, Any]
) -> str | None:
    """Help for an attribute that the operator does not have, or for a value of a wrong type."""
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
        return f"`{value}` is known only when the model runs: give a number, or an attribute of the model or block"
    if type(value) is int and all(info.type is tuple or get_origin(info.type) is tuple for info in asked):
        axes = any(info.axis is not None for info in asked)
        return f"write a tuple: `({value},)`" if axes else f"write a tuple: `({value}, {value})`"
    wants_dtype = any(DType in (info.type, *get_args(info.type)) for info in asked)
    return dtype_help(value.rpartition(".")[2]) if wants_dtype and isinstance(value, str) else None


# Nodes ---------------------------------------------------------------------------------------------------


def add_node(
    elaboration: Elaboration,
    instance: Instance,
    op: Operator,
    operands: Sequence[Value],
    name: str | None,
    span: Span,
    arguments: Sequence[tree.Argument] = (),
    weights: Mapping[str, WeightRef] | None = None,
    storages: Mapping[str, Storage] | None = None,
) -> tuple[Value, ...]:
    """Add a node to the graph, and return its results.

    Args:
        name: the path of the layer within the instance; None for an operator without a name.
        span: the place of the operator.
        arguments: the arguments of the operator, to report a mistake at an argument.
        weights: weights of other layers, by parameter.
        storages: storages that the arguments give to weights, by parameter.

    Raises:
        Failed: the operands, weights or storages do not fit; the reason is reported.
    """
    elaboration.count_part(instance, span)
    rewriter = elaboration.rewriter
    paths = {parameter: weight.path for parameter, weight in (weights or {}).items()}
    transposed = {parameter for parameter, weight in (weights or {}).items() if weight.transposed}
    try:
        _count_operands(elaboration, operands)
        inference = op.infer([value.type for value in operands])
        elaboration.budget.count(STEPS_OF_A_RESULT * len(inference.results))
        if inference.parameters:
            own = instance.path_in_model(name or op.name)
            paths = {parameter: f"{own}.{parameter}" for parameter in inference.parameters} | paths
            _check_weights(elaboration, instance, op, inference, paths, transposed, operands, span)
            _check_storages(elaboration, instance, inference, storages or {}, arguments, span)
        _check_sizes(elaboration, instance, op, inference, operands, span)
        warn_of_input_size(elaboration.diagnostics, op, arguments, [value.type for value in operands], span)
        node = rewriter.add(
            op,
            operands,
            name=name,
            scope=instance.scope,
            span=span,
            weights=paths,
            transposed=transposed,
            storages=storages,
        )
    except OperatorError as problem:
        _report_misfit(elaboration, instance, op, operands, problem, arguments, span)
    except OperatorFailure as failure:
        raise failure.at(span) from failure.__cause__
    return node.results


def _count_operands(elaboration: Elaboration, operands: Sequence[Value]) -> None:
    symbolic = (dim for value in operands for dim in value.type.shape if isinstance(dim, SymbolicDim))
    elaboration.budget.count(STEPS_OF_AN_OPERAND * max(0, len(operands) - 2) + steps_of(*symbolic))


def _check_weights(
    elaboration: Elaboration,
    instance: Instance,
    op: Operator,
    inference: Inference,
    paths: Mapping[str, str],
    transposed: Collection[str],
    operands: Sequence[Value],
    span: Span,
) -> None:
    """Check the size of weights, and the shape and dtype of shared weights.

    Args:
        paths: the path of each parameter's weight.
        transposed: the parameters that use the transpose of a shared weight.
    """

    def refuse(code: str, message: str, help: str | None = None) -> NoReturn:
        # The notes are only computed on failure: for each operand, `origin_notes` searches upstream for a tensor with a
        # name, and may visit all nodes of the model.
        notes = [note for value in operands for note in origin_notes(value)]
        elaboration.report(instance, code, message, span, notes=notes, help=help)

    for parameter, needed in inference.parameters.items():
        path = paths[parameter]
        weight = elaboration.rewriter.graph.weights.get(path)
        if parameter in transposed and len(needed.shape) != 2:
            message = f"only a weight of two axes has a transpose; `{op.name}` expects {needed}"
            refuse("shape-mismatch", message, "leave out `.T`")
        shape = None if weight is None else weight.shape[::-1] if parameter in transposed else weight.shape
        if weight is not None and shape is not None and shape != needed.shape:
            what = f"the transpose of `{path}`" if parameter in transposed else f"`{path}`"
            help = "layers can share a weight only if its shape fits both"
            if len(shape) == 2 and shape[::-1] == needed.shape:
                help = "leave out `.T`" if parameter in transposed else "use `.T` for the transpose"
            refuse(
                "shape-mismatch",
                f"`{op.name}` expects a `{parameter}` of {needed}, got {what} of {TensorType(weight.dtype, shape)}",
                help,
            )
        if weight is not None and weight.dtype is not needed.dtype:
            refuse(
                "dtype-mismatch",
                f"`{op.name}` expects a `{parameter}` of {needed.dtype}, got `{path}` of {weight.dtype}",
                f"convert the operand with `cast({weight.dtype})`, or leave out `{parameter} = ...`",
            )
        if math.prod(dim for dim in needed.shape if isinstance(dim, int)) > LARGEST_WEIGHT:
            refuse(
                "weight-too-large",
                f"the `{parameter}` of `{op.name}` is {needed}; the limit is {LARGEST_WEIGHT:,} elements",
            )


def _check_storages(
    elaboration: Elaboration,
    instance: Instance,
    inference: Inference,
    storages: Mapping[str, Storage],
    arguments: Sequence[tree.Argument],
    span: Span,
) -> None:
    """Check that each storage in the arguments fits the shape and dtype of its parameter."""
    for parameter, storage in storages.items():
        needed = inference.parameters.get(parameter)
        if needed is None:
            continue
        reason = storage.misfit(tuple(dim for dim in needed.shape if isinstance(dim, int)), needed.dtype)
        if reason is not None:
            elaboration.report(
                instance,
                "bad-storage",
                f"a `{parameter}` of {needed} cannot be stored as `{storage}`: {reason}",
                _argument_span(arguments, parameter) or span,
            )


def _check_sizes(
    elaboration: Elaboration,
    instance: Instance,
    op: Operator,
    inference: Inference,
    operands: Sequence[Value],
    span: Span,
) -> None:
    """Check that each axis of the results has a size from 1 to `LARGEST_SIZE`."""
    for result in inference.results:
        for size in result.shape:
            if isinstance(size, SymbolicDim) or 1 <= size <= LARGEST_SIZE:
                continue
            elaboration.report(
                instance,
                "size-too-large" if size > LARGEST_SIZE else "bad-size",
                f"the result of `{op.name}` is {result}; a size is at least 1 and at most {LARGEST_SIZE:,}",
                span,
                notes=[note for value in operands for note in origin_notes(value)],
            )


def _report_misfit(
    elaboration: Elaboration,
    instance: Instance,
    op: Operator,
    operands: Sequence[Value],
    problem: OperatorError,
    arguments: Sequence[tree.Argument],
    span: Span,
) -> NoReturn:
    """Report operands or attributes that do not fit; the place is the wrong argument, or the operator."""
    place = None
    notes = list(problem.notes)
    if problem.code != "shape-mismatch":
        place = _argument_span(arguments, problem.attribute)
        if place is None:
            place = _argument_span(arguments, _position(op, problem.attribute))
    if problem.operand is not None or place is None:
        for value in operands:
            notes += origin_notes(value)
    types = [value.type for value in operands]
    advice = help_for_operands(op, arguments, types) or problem.help or advise(op, operands, problem)
    elaboration.report(instance, problem.code, str(problem), place or span, notes=dict.fromkeys(notes), help=advice)


def _position(op: Operator, attribute: str | None) -> int | None:
    """Position of an attribute among the positional attributes; None for a keyword-only attribute."""
    slots = [info.name for info in attributes(type(op)) if not info.keyword]
    return slots.index(attribute) if attribute in slots else None


def _argument_span(arguments: Sequence[tree.Argument], which: str | int | None) -> Span | None:
    """Place of an argument, by its name or position; None if the text has no such argument."""
    positional = [argument for argument in arguments if argument.name is None]
    if isinstance(which, int):
        return positional[which].span if which < len(positional) else None
    return next((argument.span for argument in arguments if which is not None and argument.name == which), None)
