"""Control flow: `for`, `if` and `assert`, which run at compile time, and `scan`, which adds operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import origin_notes
from archc.language.elaboration.context import Elaboration, Instance, OpenScan
from archc.language.elaboration.environment import ABSENT, POISON, Binding, Failed, describe_value, names_in
from archc.language.elaboration.expressions import SCAN_HELP, mark_skipped, require_bool
from archc.language.elaboration.operators import add_node
from archc.language.elaboration.user_names import check_free, check_name, name_value
from archc.language.syntax import tree
from archc.ops.scan import ScanEnter, ScanExit
from archc.types.attributes import value_text
from archc.types.dims import SymbolicDim


def _run_for(elaboration: Elaboration, instance: Instance, node: tree.For) -> None:
    """Run the body of a loop once for each value; names that the body binds stay bound after the loop."""
    check_name(elaboration, instance, node.variable, "a loop variable")
    values = elaboration.evaluate(instance, node.iterable)
    if not isinstance(values, range | list | tuple):
        elaboration.report(
            instance,
            "wrong-type",
            f"`for` expects a range or a list, got {describe_value(values)}",
            node.iterable.span,
            help=SCAN_HELP
            if isinstance(values, Value | SymbolicDim)
            else f"write `for {node.variable.name} in 0..{node.iterable.span.text} {{ ... }}`"
            if isinstance(values, int)
            else "write `for i in 0..n { ... }`",
        )
    # `len` fails for a range of 10^20 values.
    count = max(0, values.stop - values.start) if isinstance(values, range) else len(values)
    elaboration.count_iterations(instance, count, node.iterable.span)
    if not count:
        mark_skipped(elaboration, instance, node.body)
    shadowed = instance.environment.bindings.get(node.variable.name)
    try:
        for value in values:
            instance.environment.bind(node.variable.name, value, None, "size")
            if not elaboration.run(instance, node.body):
                raise Failed
    finally:
        instance.environment.bindings.pop(node.variable.name, None)
        if shadowed is not None:
            instance.environment.bindings[node.variable.name] = shadowed


def _run_if(elaboration: Elaboration, instance: Instance, node: tree.If) -> None:
    """Run the branch that the condition selects."""
    value = elaboration.evaluate(instance, node.condition)
    holds = require_bool(elaboration, instance, value, node.condition.span)
    chosen, other = (node.body, node.otherwise) if holds else (node.otherwise, node.body)
    mark_skipped(elaboration, instance, other)
    succeeded = elaboration.run(instance, chosen)
    _bind_absent_inputs(instance, other)
    if not succeeded:
        raise Failed


def _bind_absent_inputs(instance: Instance, body: tuple[tree.Statement, ...]) -> None:
    """Bind each input that is declared in a skipped branch to `ABSENT`."""
    for statement in body:
        if isinstance(statement, tree.If):
            _bind_absent_inputs(instance, (*statement.body, *statement.otherwise))
        elif isinstance(statement, tree.Input) and statement.name.name not in instance.environment.bindings:
            instance.environment.bind(statement.name.name, ABSENT, None, "input")


def _run_assert(elaboration: Elaboration, instance: Instance, node: tree.Assert) -> None:
    """Check an assertion; the report of a failure has the values of the names in the condition."""
    value = elaboration.evaluate(instance, node.condition)
    message = elaboration.evaluate(instance, node.message) if node.message is not None else ""
    if not isinstance(message, str):
        assert node.message is not None
        elaboration.report(
            instance,
            "wrong-type",
            f"`assert` expects a string as its message, got {describe_value(message)}",
            node.message.span,
        )
    if require_bool(elaboration, instance, value, node.condition.span):
        return
    bound = []
    for name in dict.fromkeys(names_in((node.condition,))):
        binding = instance.environment.bindings.get(name)
        # A symbolic size that is its own value (`N` is N) adds no information.
        if binding is not None and not isinstance(binding.value, Value) and str(binding.value) != name:
            bound.append(f"`{name}` is {value_text(binding.value)}")
    elaboration.report(
        instance,
        "assertion-failed",
        message or "the assertion does not hold",
        node.condition.span,
        notes=[", ".join(bound)] if bound else (),
    )


# Scans ---------------------------------------------------------------------------------------------------


def _run_scan(elaboration: Elaboration, instance: Instance, node: tree.ScanStatement) -> None:
    """Elaborate a scan: add a `ScanEnter` node, run the statements once, and add a `ScanExit` node."""
    starts: list[tree.ScanSequence | tree.ScanState] = [*node.sequences, *node.states]
    for part in starts:
        check_name(elaboration, instance, part.name, "a tensor of a step" if part in node.sequences else "a state")
        check_free(elaboration, instance, part.name, "tensor")
    _check_distinct(elaboration, instance, [part.name for part in starts])
    values = [_tensor(elaboration, instance, part) for part in starts]
    _check_sequences(elaboration, instance, node, values[: len(node.sequences)])
    head = node.parts[0].span.to(node.parts[-1].span)
    mark, *entered = add_node(elaboration, instance, ScanEnter(len(node.sequences)), values, None, head)
    outer = dict(instance.environment.bindings)
    for part, value in zip(starts, entered):
        instance.environment.bind(part.name.name, value, part.name.span, "tensor")
        name_value(instance, value, part.name.name)
    scan = OpenScan({part.name.name: part.name.span for part in node.states})
    instance.scans.append(scan)
    try:
        succeeded = elaboration.run(instance, node.body)
    finally:
        instance.scans.pop()
    ends = [
        _next_state(elaboration, instance, part, state)
        for part, state in zip(node.states, entered[len(node.sequences) :])
    ]
    _leave(instance, outer)
    if not succeeded:
        raise Failed
    if not ends and not scan.yields:
        elaboration.report(
            instance,
            "scan-without-result",
            "the scan has no result",
            head,
            help="add `yield y = ...` to get y of all steps, or a state `h = h0` to get h after the last step",
        )
    length = values[0].type.shape[1]
    states = [value for pair in zip(entered[len(node.sequences) :], ends) for value in pair]
    yields = [value for value, _ in scan.yields.values()]
    results = add_node(elaboration, instance, ScanExit(len(ends), length), [mark, *states, *yields], None, node.span)
    spans = {**scan.states, **{name: span for name, (_, span) in scan.yields.items()}}
    for (name, span), value in zip(spans.items(), results, strict=True):
        name_value(instance, value, name)
        instance.environment.bind(name, value, None if name in outer else span, "tensor")


def _run_yield(elaboration: Elaboration, instance: Instance, node: tree.Yield) -> None:
    """Run a `yield`: after the scan, the yielded name refers to the sequence of the tensors of all steps."""
    check_name(elaboration, instance, node.name, "a tensor")
    if not instance.scans:
        elaboration.report(
            instance,
            "yield-misplaced",
            "`yield` is outside a `scan`",
            node.span,
            help="write `output` for a result of a block or model",
        )
    check_free(elaboration, instance, node.name, "sequence")
    scan = instance.scans[-1]
    name = node.name.name
    if name in scan.yields or name in scan.states:
        yielded = name in scan.yields
        elaboration.report(
            instance,
            "duplicate-name",
            f"`{name}` is yielded twice" if yielded else f"`{name}` is a state, and cannot be yielded",
            node.name.span,
            notes=[
                Note("this is the first `yield`", scan.yields[name][1])
                if yielded
                else Note("the state is given here", scan.states[name])
            ],
            help=None if yielded else "give the sequence another name",
        )
    value = elaboration.evaluate(instance, node.value)
    if not isinstance(value, Value):
        elaboration.report(
            instance, "wrong-type", f"`yield` expects a tensor, got {describe_value(value)}", node.value.span
        )
    if value.type.rank < 1:
        elaboration.report(
            instance,
            "rank-mismatch",
            f"`yield` expects a tensor with a batch axis, got {value.type}",
            node.value.span,
            notes=origin_notes(value),
        )
    scan.yields[name] = (value, node.name.span)


def _check_sequences(
    elaboration: Elaboration, instance: Instance, node: tree.ScanStatement, values: Sequence[Value]
) -> None:
    """Check that a scan has a sequence, and that the time axes of all sequences have the same length."""
    if not values:
        elaboration.report(
            instance,
            "scan-without-sequence",
            "the scan has no sequence",
            node.parts[0].span.to(node.parts[-1].span),
            help="write `scan x_t in x, ...` for one step per element of the second axis of `x`",
        )
    for part, value in zip(node.sequences, values):
        if value.type.rank < 2:
            elaboration.report(
                instance,
                "rank-mismatch",
                f"`scan` expects a sequence of at least two axes, got {value.type}",
                part.value.span,
                notes=origin_notes(value),
                help="a sequence has the shape [batch, time, ...]; use `rearrange` to order its axes",
            )
        length, first = value.type.shape[1], values[0].type.shape[1]
        if length != first:
            elaboration.report(
                instance,
                "shape-mismatch",
                f"`scan` expects sequences of equal length, got {length} after {first}",
                part.value.span,
                notes=[*origin_notes(values[0]), *origin_notes(value)],
                help="make the second axes of the sequences equal, for instance with `x[:, 0:n]`",
            )


def _check_distinct(elaboration: Elaboration, instance: Instance, names: list[tree.Name]) -> None:
    seen: dict[str, Span] = {}
    for name in names:
        if name.name in seen:
            elaboration.report(
                instance,
                "duplicate-name",
                f"the `scan` binds `{name.name}` twice",
                name.span,
                notes=[Note("this is the first", seen[name.name])],
            )
        seen[name.name] = name.span


def _tensor(elaboration: Elaboration, instance: Instance, part: tree.ScanSequence | tree.ScanState) -> Value:
    value = elaboration.evaluate(instance, part.value)
    if not isinstance(value, Value):
        what = "`scan`" if isinstance(part, tree.ScanSequence) else "a state"
        elaboration.report(
            instance,
            "wrong-type",
            f"{what} expects a tensor, got {describe_value(value)}",
            part.value.span,
            help="write `for i in 0..n { ... }` to repeat layers"
            if isinstance(part, tree.ScanSequence)
            else "start with zeros, for instance: `zeros((N, 8))`",
        )
    return value


def _next_state(elaboration: Elaboration, instance: Instance, part: tree.ScanState, state: Value) -> Value:
    """Value of a state at the end of a step."""
    value = instance.environment.get(part.name.name)
    if value is POISON or not isinstance(value, Value):
        return state
    if value.type != state.type:
        elaboration.report(
            instance,
            "state-mismatch",
            f"the state `{part.name.name}` is {state.type} before a step and {value.type} after it",
            part.name.span,
            notes=origin_notes(value),
            help="give the state the same type in all steps",
        )
    return value


def _leave(instance: Instance, outer: dict[str, Binding]) -> None:
    """Restore the tensor names of an instance to their bindings before a scan.

    Args:
        outer: the bindings before the scan.
    """
    bindings = instance.environment.bindings
    for name, binding in list(bindings.items()):
        if binding is not outer.get(name) and binding.kind == "tensor":
            del bindings[name]
            if name in outer:
                bindings[name] = outer[name]


CONTROL_FLOW: dict[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], None]] = {
    tree.For: _run_for,
    tree.If: _run_if,
    tree.Assert: _run_assert,
    tree.ScanStatement: _run_scan,
    tree.Yield: _run_yield,
}
"""Functions that run statements with control flow, by node type."""
