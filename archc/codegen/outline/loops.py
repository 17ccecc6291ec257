"""Repeated statements become a loop over the list of their layers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from archc.codegen.outline.program import Apply, Definition, Local, Loop, Statement, Use
from archc.codegen.outline.repetition import Row, Run, find_runs

Step = Apply | Use
Lengths = Mapping[str, int]
"""The number of elements of lists that have not the same number in all instances."""


def find_loops(
    definition: Definition, body: Sequence[Step], kinds: Sequence[Hashable], lengths: Sequence[Lengths]
) -> None:
    """Give a definition its body, with what repeats in it as loops.

    Args:
        body: the statements; kinds: what must be equal for two of them to be alike, besides names and wiring.
        lengths: those of each instance, where they differ.
    """
    rows = [_row(step, kind) for step, kind in zip(body, kinds, strict=True)]
    _lay_out(definition, body, find_runs(rows, definition.outputs, definition.ties), lengths)


def _row(step: Step, kind: Hashable) -> Row:
    end = step.nodes[0].op.scan_end if isinstance(step, Apply) else ""
    return Row(step.member.name if step.member is not None else None, kind, step.operands, step.results, end)


def _lay_out(definition: Definition, body: Sequence[Step], runs: Sequence[Run], lengths: Sequence[Lengths]) -> None:
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


def _reading(step: Step, renamed: dict[Local, Local]) -> Step:
    step.operands = tuple(renamed.get(local, local) for local in step.operands)
    return step


def _loop(run: Run, body: Sequence[Step], renamed: dict[Local, Local], lengths: Sequence[Lengths]) -> Loop:
    """The loop that stands for a run; what it leaves behind is entered into `renamed`."""
    iterations = [body[start : start + run.period] for start in range(run.start, run.end, run.period)]
    yields = [tuple(steps[row].results[result] for row, result, _ in run.carried) for steps in iterations]
    first: tuple[Local, ...] = tuple(renamed.get(local) or local for _, _, local in run.carried)
    parameters: list[tuple[Local, ...]] = []
    for number, steps in enumerate(iterations):
        entering = yields[number - 1] if number else first
        # A tensor that changes from iteration to iteration has one name throughout.
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
