"""Loops taken apart again, where a reader is better off with their iterations one after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from archc.codegen.outline.program import Definition, Local, Loop, Recurrence, Statement, count_uses, reads_of


def unroll(definition: Definition, loops: Collection[Loop]) -> None:
    """Put the iterations of some loops, which are as many in all instances, in the places of these."""
    if not loops:
        return
    for local in (*definition.outputs, *(local for statement in definition.body for local in reads_of(statement))):
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
