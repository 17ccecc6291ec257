"""The steps of scans: what stands between the two ends of one becomes a statement of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from archc.codegen.outline.program import Apply, Local, Loop, Recurrence, Statement, reads_of


def find_scans(body: Sequence[Statement], outputs: Collection[Local]) -> tuple[Statement, ...]:
    """The statements of a definition, or of a loop in it, with those of each scan within one.

    What stands in the text between the ends of a scan without taking part in it, and is read after it, goes before it.

    Args:
        outputs: what is read when all is done.
    """
    open_scans: list[list[Statement]] = [[]]
    for position, statement in enumerate(body):
        if isinstance(statement, Loop):
            bodies = zip(statement.iterations, statement.yields, strict=True)
            statement.iterations = tuple(find_scans(iteration, yields) for iteration, yields in bodies)
        if _end(statement) == "enter":
            open_scans.append([statement])
        elif _end(statement) == "exit":
            assert isinstance(statement, Apply), "the ends of scans are operators"
            enter, *inside = open_scans.pop()
            assert isinstance(enter, Apply) and statement.operands[0] is enter.results[0], "scans stand in one another"
            read_later = {*outputs, *(local for later in body[position + 1 :] for local in reads_of(later))}
            before, steps = _parted(inside, read_later)
            open_scans[-1] += [*before, Recurrence(enter, statement, tuple(steps))]
        else:
            open_scans[-1].append(statement)
    (found,) = open_scans
    return tuple(found)


def _end(statement: Statement) -> str:
    return statement.nodes[0].op.scan_end if isinstance(statement, Apply) else ""


def _parted(inside: Sequence[Statement], wanted: set[Local]) -> tuple[list[Statement], list[Statement]]:
    """The statements of which something is read outside, with all that they need, and the others."""
    before: list[Statement] = []
    steps: list[Statement] = []
    for statement in reversed(inside):
        if wanted.intersection(statement.results):
            before.insert(0, statement)
            wanted.update(reads_of(statement))
        else:
            steps.insert(0, statement)
    return before, steps
