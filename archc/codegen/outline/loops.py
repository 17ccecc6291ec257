"""Find loops and scans among the statements of a definition, and unroll loops."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Loop,
    OperatorStep,
    Recurrence,
    Statement,
    all_reads,
    count_uses,
)
from archc.codegen.outline.repetition import Repetition, StepSummary, find_repetitions
from archc.ir.scans import scan_end

SingleStep = OperatorStep | BlockStep
Lengths = Mapping[str, int]
"""Lengths of the lists of layers in one instance of a block, by the name of the list.

A list without an entry has the same length in all instances.
"""


def find_loops(
    definition: BlockDefinition, body: Sequence[SingleStep], kinds: Sequence[Hashable], lengths: Sequence[Lengths]
) -> None:
    """Set the body of a definition, with repeated statements as loops.

    Args:
        body: the statements.
        kinds: a key for each statement; statements that differ only in names and operands have equal keys.
        lengths: the `Lengths` of each instance.
    """
    rows = [_row(step, kind) for step, kind in zip(body, kinds, strict=True)]
    _lay_out(definition, body, find_repetitions(rows, definition.outputs, definition.ties), lengths)


def _row(step: SingleStep, kind: Hashable) -> StepSummary:
    end = scan_end(step.nodes[0].op) if isinstance(step, OperatorStep) else ""
    return StepSummary(step.member.name if step.member is not None else None, kind, step.operands, step.results, end)


def _lay_out(
    definition: BlockDefinition, body: Sequence[SingleStep], runs: Sequence[Repetition], lengths: Sequence[Lengths]
) -> None:
    statements: list[Statement] = []
    renamed: dict[Local, Local] = {}
    position = 0
    for run in runs:
        statements += [_reading(step, renamed) for step in body[position : run.start]]
        statements.append(_loop(run, body, renamed, lengths))
        position = run.end
    statements += [_reading(step, renamed) for step in body[position:]]
    definition.body = tuple(statements)
    definition.outputs = tuple(renamed.get(local, local) for local in definition.outputs)


def _reading(step: SingleStep, renamed: dict[Local, Local]) -> SingleStep:
    step.operands = tuple(renamed.get(local, local) for local in step.operands)
    return step


def _loop(run: Repetition, body: Sequence[SingleStep], renamed: dict[Local, Local], lengths: Sequence[Lengths]) -> Loop:
    """The loop of a repetition; `renamed` maps the yields of the last iteration to the loop's results."""
    iterations = [body[start : start + run.period] for start in range(run.start, run.end, run.period)]
    yields = [tuple(steps[row].results[result] for row, result, _ in run.carried) for steps in iterations]
    first: tuple[Local, ...] = tuple(renamed.get(local) or local for _, _, local in run.carried)
    parameters: list[tuple[Local, ...]] = []
    for number, steps in enumerate(iterations):
        entering = yields[number - 1] if number else first
        # A carried tensor has one name in all iterations.
        own = tuple(
            Local(local.type, made.name or last.name or start.name)
            for local, made, last, start in zip(entering, yields[0], yields[-1], first)
        )
        parameters.append(own)
        for row, step in enumerate(steps):
            step.operands = tuple(
                own[run.slots[row, slot]] if (row, slot) in run.slots else renamed.get(local, local)
                for slot, local in enumerate(step.operands)
            )
    results = tuple(Local(local.type, local.name or own.name) for local, own in zip(yields[-1], parameters[-1]))
    for local, result in zip(yields[-1], results):
        renamed.setdefault(local, result)
    return Loop(
        run.lists,
        tuple(tuple(steps) for steps in iterations),
        first,
        tuple(parameters),
        tuple(yields),
        results,
        run.first,
        tuple(own.get(run.lists[0], run.first + run.count) - run.first for own in lengths),
    )


def unroll(definition: BlockDefinition, loops: Collection[Loop]) -> None:
    """Replace loops by their iterations; each loop must have the same count in all instances."""
    if not loops:
        return
    for local in (*definition.outputs, *(local for statement in definition.body for local in all_reads(statement))):
        local.uses = 0
    renamed: dict[Local, Local] = {}
    definition.body = _unrolled(definition.body, loops, renamed)
    definition.outputs = _resolved(definition.outputs, renamed)
    count_uses(definition)


def _unrolled(body: Sequence[Statement], loops: Collection[Loop], renamed: dict[Local, Local]) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            statement.carried = _resolved(statement.carried, renamed)
            if statement in loops:
                entering = statement.carried
                for iteration, parameters, yields in zip(statement.iterations, statement.parameters, statement.yields):
                    renamed.update(zip(parameters, entering))
                    found += _unrolled(iteration, loops, renamed)
                    entering = _resolved(yields, renamed)
                for local, result in zip(entering, statement.results):
                    local.name = local.name or result.name
                    renamed[result] = local
                continue
            statement.iterations = tuple(_unrolled(iteration, loops, renamed) for iteration in statement.iterations)
            statement.yields = tuple(_resolved(yields, renamed) for yields in statement.yields)
        elif isinstance(statement, Recurrence):
            statement.enter.operands = _resolved(statement.enter.operands, renamed)
            statement.body = _unrolled(statement.body, loops, renamed)
            statement.exit.operands = _resolved(statement.exit.operands, renamed)
        else:
            statement.operands = _resolved(statement.operands, renamed)
        found.append(statement)
    return tuple(found)


def _resolved(locals_: Sequence[Local], renamed: dict[Local, Local]) -> tuple[Local, ...]:
    return tuple(renamed.get(local, local) for local in locals_)


def find_scans(body: Sequence[Statement], outputs: Collection[Local]) -> tuple[Statement, ...]:
    """Nest the statements of each scan in a `Recurrence`.

    An `enter` operator begins a scan, and an `exit` operator ends it.  A statement between the two need not belong to
    the scan: if its results are used after the scan, the statement moves before the scan.

    Args:
        body: the statements of a definition or of a loop.
        outputs: the values used after the body.
    """
    open_scans: list[list[Statement]] = [[]]
    for position, statement in enumerate(body):
        if isinstance(statement, Loop):
            bodies = zip(statement.iterations, statement.yields, strict=True)
            statement.iterations = tuple(find_scans(iteration, yields) for iteration, yields in bodies)
        if _end(statement) == "enter":
            open_scans.append([statement])
        elif _end(statement) == "exit":
            assert isinstance(statement, OperatorStep), "the ends of scans are operators"
            enter, *inside = open_scans.pop()
            assert isinstance(enter, OperatorStep) and statement.operands[0] is enter.results[0], (
                "scans are properly nested"
            )
            read_later = {*outputs, *(local for later in body[position + 1 :] for local in all_reads(later))}
            before, steps = _parted(inside, read_later)
            open_scans[-1] += [*before, Recurrence(enter, statement, tuple(steps))]
        else:
            open_scans[-1].append(statement)
    (found,) = open_scans
    return tuple(found)


def _end(statement: Statement) -> str:
    return scan_end(statement.nodes[0].op) if isinstance(statement, OperatorStep) else ""


def _parted(inside: Sequence[Statement], wanted: set[Local]) -> tuple[list[Statement], list[Statement]]:
    """Split into the statements that compute `wanted` values or operands for them, and other statements."""
    before: list[Statement] = []
    steps: list[Statement] = []
    for statement in reversed(inside):
        if wanted.intersection(statement.results):
            before.insert(0, statement)
            wanted.update(all_reads(statement))
        else:
            steps.insert(0, statement)
    return before, steps
