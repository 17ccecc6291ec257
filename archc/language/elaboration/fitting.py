"""Does a new node fit?  The operator says whether its operands do; here stands what else there is to say."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import advise, describe
from archc.language.elaboration.arithmetic import LARGEST_SIZE
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.input_sizes import help_for_operands
from archc.language.syntax import tree
from archc.operator.base import Inference, Operator, OperatorError
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator

LARGEST_WEIGHT = 2**36  # elements: 256 GiB in f32, more than the largest layer that anybody trains


def check_weights(
    elaborator: Elaborator,
    frame: Frame,
    op: Operator,
    inference: Inference,
    paths: Mapping[str, str],
    turned: Collection[str],
    operands: Sequence[Value],
    span: Span,
) -> None:
    """Check a node's weights: no larger than anybody can hold, and where one exists already, of its shape and dtype.

    Args:
        paths: where each parameter is, or will be.
        turned: the parameters that are the transpose of what lies there.
    """

    def refuse(code: str, message: str, help: str | None = None) -> NoReturn:
        # What the operands are is found here and not before: the way up to a named one may be as long as the model.
        notes = [note for value in operands for note in describe(value)]
        elaborator.report(frame, code, message, span, notes=notes, help=help)

    for parameter, needed in inference.parameters.items():
        path = paths[parameter]
        weight = elaborator.rewriter.graph.weights.get(path)
        if parameter in turned and len(needed.shape) != 2:
            message = f"only a weight of two axes has a transpose, and `{op.name}` needs {needed} here"
            refuse("shape-mismatch", message, "leave out `.T`")
        shape = None if weight is None else weight.shape[::-1] if parameter in turned else weight.shape
        if weight is not None and shape is not None and shape != needed.shape:
            what = f"the transpose of the weight `{path}`" if parameter in turned else f"the weight `{path}`"
            help = "layers share a weight only where its shape fits both"
            if len(shape) == 2 and shape[::-1] == needed.shape:
                help = "leave out `.T`" if parameter in turned else "hang `.T` on it to take it the other way round"
            refuse(
                "shape-mismatch",
                f"{what} is {TensorType(weight.dtype, shape)}, and `{op.name}` needs {needed} here",
                help,
            )
        if weight is not None and weight.dtype is not needed.dtype:
            refuse(
                "dtype-mismatch",
                f"the weight `{path}` is {weight.dtype}, and `{op.name}` needs {needed.dtype} here",
                f"convert the operand with `cast({weight.dtype})`, or give the layer a weight of its own",
            )
        if math.prod(dim for dim in needed.shape if isinstance(dim, int)) > LARGEST_WEIGHT:
            refuse(
                "weight-too-large",
                f"`{op.name}` would own a `{parameter}` of {needed}; the limit is {LARGEST_WEIGHT:,} elements",
            )


def check_storages(
    elaborator: Elaborator,
    frame: Frame,
    inference: Inference,
    storages: Mapping[str, Storage],
    arguments: Sequence[tree.Argument],
    span: Span,
) -> None:
    """Check that each parameter can be stored as the text asks."""
    for parameter, storage in storages.items():
        needed = inference.parameters.get(parameter)
        if needed is None:
            continue
        reason = storage.misfit(tuple(dim for dim in needed.shape if isinstance(dim, int)), needed.dtype)
        if reason is not None:
            elaborator.report(
                frame,
                "bad-storage",
                f"a `{parameter}` of {needed} cannot be stored as `{storage}`: {reason}",
                argument_span(arguments, parameter) or span,
            )


def check_sizes(
    elaborator: Elaborator, frame: Frame, op: Operator, inference: Inference, operands: Sequence[Value], span: Span
) -> None:
    """Check that no axis of a result is empty, or longer than what the kernels can count."""
    for result in inference.results:
        for size in result.shape:
            if isinstance(size, SymbolicDim) or 1 <= size <= LARGEST_SIZE:
                continue
            elaborator.report(
                frame,
                "size-too-large" if size > LARGEST_SIZE else "bad-size",
                f"`{op.name}` would make {result}; a size is at least 1 and at most {LARGEST_SIZE:,}",
                span,
                notes=[note for value in operands for note in describe(value)],
            )


def report_misfit(
    elaborator: Elaborator,
    frame: Frame,
    op: Operator,
    operands: Sequence[Value],
    problem: OperatorError,
    arguments: Sequence[tree.Argument],
    span: Span,
) -> NoReturn:
    """Report operands or attributes that do not fit, at the place that is at fault."""
    place = None
    notes = list(problem.notes)
    if problem.code != "shape-mismatch":
        place = argument_span(arguments, problem.attribute)
        if place is None:
            place = argument_span(arguments, _position(op, problem.attribute))
    if problem.operand is not None or place is None:
        for value in operands:
            notes += describe(value)
    types = [value.type for value in operands]
    advice = help_for_operands(op, arguments, types) or problem.help or advise(op, operands, problem)
    elaborator.report(frame, problem.code, str(problem), place or span, notes=dict.fromkeys(notes), help=advice)


def _position(op: Operator, attribute: str | None) -> int | None:
    """The position of an attribute among those that may be given by position."""
    slots = [info.name for info in attributes(type(op)) if not info.keyword]
    return slots.index(attribute) if attribute in slots else None


def argument_span(arguments: Sequence[tree.Argument], which: str | int | None) -> Span | None:
    """The place of an argument, by its name or position."""
    positional = [argument for argument in arguments if argument.name is None]
    if isinstance(which, int):
        return positional[which].span if which < len(positional) else None
    return next((argument.span for argument in arguments if which is not None and argument.name == which), None)
