"""Control flow"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import describe
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
    """Run the body once for each value; what it binds stays."""
    check_name(elaboration, instance, node.variable, "a loop variable")
    values = elaboration.evaluate(instance, node.iterable)
    if not isinstance(values, range | list | tuple):
        elaboration.report(
            instance,
            "wrong-type",
            f"`for` goes over a range or a list, and this is {describe_value(values)}",
            node.iterable.span,
            help=SCAN_HELP
            if isinstance(values, Value | SymbolicDim)
            else f"write `for {node.variable.name} in 0..{node.iterable.span.text} {{ ... }}`"
            if isinstance(values, int)
            else "write `for i in 0..n { ... }`",
        )
    # A range of 10^20 has no `len`.
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
    """Run the body that the condition chooses."""
    value = elaboration.evaluate(instance, node.condition)
    holds = require_bool(elaboration, instance, value, node.condition.span)
    chosen, other = (node.body, node.otherwise) if holds else (node.otherwise, node.body)
    mark_skipped(elaboration, instance, other)
    whole = elaboration.run(instance, chosen)
    _leave_out(instance, other)
    if not whole:
        raise Failed


def _leave_out(instance: Instance, body: tuple[tree.Statement, ...]) -> None:
    """Make the inputs of a branch that is not taken known as absent."""
    for statement in body:
        if isinstance(statement, tree.If):
            _leave_out(instance, (*statement.body, *statement.otherwise))
        elif isinstance(statement, tree.Input) and statement.name.name not in instance.environment.bindings:
            instance.environment.bind(statement.name.name, ABSENT, None, "input")


def _run_assert(elaboration: Elaboration, instance: Instance, node: tree.Assert) -> None:
    """Hold the assertion, and tell what its names are where it fails."""
    value = elaboration.evaluate(instance, node.condition)
    message = elaboration.evaluate(instance, node.message) if node.message is not None else ""
    if not isinstance(message, str):
        assert node.message is not None
        elaboration.report(
            instance,
            "wrong-type",
            f"an assertion's message is a string, and this is {describe_value(message)}",
            node.message.span,
        )
    if require_bool(elaboration, instance, value, node.condition.span):
        return
    bound = []
    for name in dict.fromkeys(names_in((node.condition,))):
        binding = instance.environment.bindings.get(name)
        # A size that is known by its own name alone says nothing.
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
    """Run a scan: its scan once, between the two operators that are its ends."""
    starts: list[tree.ScanSequence | tree.ScanState] = [*node.sequences, *node.states]
    for part in starts:
        check_name(elaboration, instance, part.name, "a tensor of a step" if part in node.sequences else "a state")
        check_free(elaboration, instance, part.name, "tensor")
    _check_distinct(elaboration, instance, [part.name for part in starts])
    values = [_tensor(elaboration, instance, part) for part in starts]
    _check_sequences(elaboration, instance, node, values[: len(node.sequences)])
    head = node.parts[0].span.to(node.parts[-1].span)
    mark, *given = add_node(elaboration, instance, ScanEnter(len(node.sequences)), values, None, head)
    around = dict(instance.environment.bindings)
    for part, value in zip(starts, given):
        instance.environment.bind(part.name.name, value, part.name.span, "tensor")
        name_value(instance, value, part.name.name)
    scan = OpenScan({part.name.name: part.name.span for part in node.states})
    instance.scans.append(scan)
    try:
        whole = elaboration.run(instance, node.body)
    finally:
        instance.scans.pop()
    ends = [_next(elaboration, instance, part, state) for part, state in zip(node.states, given[len(node.sequences) :])]
    _leave(instance, around)
    if not whole:
        raise Failed
    if not ends and not scan.yields:
        elaboration.report(
            instance,
            "scan-without-result",
            "nothing is left of this scan when it is over",
            head,
            help="`yield y = ...` in it keeps what each step makes, as a sequence; a state stays as it is at last",
        )
    length = values[0].type.shape[1]
    between = [value for pair in zip(given[len(node.sequences) :], ends) for value in pair]
    kept = [value for value, _ in scan.yields.values()]
    results = add_node(elaboration, instance, ScanExit(len(ends), length), [mark, *between, *kept], None, node.span)
    spans = {**scan.states, **{name: span for name, (_, span) in scan.yields.items()}}
    for (name, span), value in zip(spans.items(), results, strict=True):
        name_value(instance, value, name)
        instance.environment.bind(name, value, None if name in around else span, "tensor")


def _run_yield(elaboration: Elaboration, instance: Instance, node: tree.Yield) -> None:
    """Run a `yield`: the sequence of what it is in all scan has the name when the scan is over."""
    check_name(elaboration, instance, node.name, "a tensor")
    if not instance.scans:
        elaboration.report(
            instance,
            "yield-misplaced",
            "`yield` is outside of a `scan`",
            node.span,
            help="write `output` for what a block or model gives",
        )
    check_free(elaboration, instance, node.name, "sequence")
    scan = instance.scans[-1]
    name = node.name.name
    if name in scan.yields or name in scan.states:
        yielded = name in scan.yields
        elaboration.report(
            instance,
            "duplicate-name",
            f"`{name}` is yielded twice" if yielded else f"`{name}` is a state, and is what that is at last",
            node.name.span,
            notes=[Note("this is the first", scan.yields[name][1] if yielded else scan.states[name])],
            help=None if yielded else "give the sequence another name",
        )
    value = elaboration.evaluate(instance, node.value)
    if not isinstance(value, Value):
        elaboration.report(
            instance, "wrong-type", f"a step yields a tensor, and this is {describe_value(value)}", node.value.span
        )
    if value.type.rank < 1:
        elaboration.report(
            instance,
            "rank-mismatch",
            f"what a step yields has a batch as its first axis, and this is {value.type}",
            node.value.span,
            notes=describe(value),
        )
    scan.yields[name] = (value, node.name.span)


def _check_sequences(
    elaboration: Elaboration, instance: Instance, node: tree.ScanStatement, values: Sequence[Value]
) -> None:
    """Refuse a scan without a sequence, and sequences that are none or are not equally long."""
    if not values:
        elaboration.report(
            instance,
            "scan-without-sequence",
            "this scan goes through no sequence",
            node.parts[0].span.to(node.parts[-1].span),
            help="`scan x_t in x, ...` does a step for each element of the second axis of `x`",
        )
    for part, value in zip(node.sequences, values):
        if value.type.rank < 2:
            elaboration.report(
                instance,
                "rank-mismatch",
                f"`scan` goes through the second axis, got {value.type}",
                part.value.span,
                notes=describe(value),
                help="a sequence is of shape [batch, time, ...]; `rearrange` brings its axes into that order",
            )
        length, first = value.type.shape[1], values[0].type.shape[1]
        if length != first:
            elaboration.report(
                instance,
                "shape-mismatch",
                f"`scan` goes through sequences side by side; this one has {length} elements, the first {first}",
                part.value.span,
                notes=[*describe(values[0]), *describe(value)],
                help="their second axes must be of one size",
            )


def _check_distinct(elaboration: Elaboration, instance: Instance, names: list[tree.Name]) -> None:
    seen: dict[str, Span] = {}
    for name in names:
        if name.name in seen:
            elaboration.report(
                instance,
                "duplicate-name",
                f"`{name.name}` is given twice",
                name.span,
                notes=[Note("this is the first", seen[name.name])],
            )
        seen[name.name] = name.span


def _tensor(elaboration: Elaboration, instance: Instance, part: tree.ScanSequence | tree.ScanState) -> Value:
    value = elaboration.evaluate(instance, part.value)
    if not isinstance(value, Value):
        what = "`scan` goes through a tensor" if isinstance(part, tree.ScanSequence) else "a state is a tensor"
        elaboration.report(
            instance,
            "wrong-type",
            f"{what}, and this is {describe_value(value)}",
            part.value.span,
            help="`for i in 0..n { ... }` repeats layers"
            if isinstance(part, tree.ScanSequence)
            else "begin with zeros, for instance: `zeros((N, 8))`",
        )
    return value


def _next(elaboration: Elaboration, instance: Instance, part: tree.ScanState, state: Value) -> Value:
    """What a step makes of a state."""
    value = instance.environment.get(part.name.name)
    if value is POISON or not isinstance(value, Value):
        return state
    if value.type != state.type:
        elaboration.report(
            instance,
            "state-mismatch",
            f"the state `{part.name.name}` begins as {state.type}, and a step makes it {value.type}",
            part.name.span,
            notes=describe(value),
            help="a state has one type throughout",
        )
    return value


def _leave(instance: Instance, around: dict[str, Binding]) -> None:
    """Take back the names of tensors that the scan gave."""
    bindings = instance.environment.bindings
    for name, binding in list(bindings.items()):
        if binding is not around.get(name) and binding.kind == "tensor":
            del bindings[name]
            if name in around:
                bindings[name] = around[name]


CONTROL_FLOW: dict[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], None]] = {
    tree.For: _run_for,
    tree.If: _run_if,
    tree.Assert: _run_assert,
    tree.ScanStatement: _run_scan,
    tree.Yield: _run_yield,
}
"""Functions that run each kind of control flow."""
