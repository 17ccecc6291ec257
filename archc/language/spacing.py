"""Line breaks and blank lines as a person would set them, for texts that nobody has written yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from archc.language import syntax

COMFORTABLE = 100
"""Columns; a longer chain of several groups is broken although it would fit."""


class Break(Enum):
    """Before which stages a chain is broken."""

    GROUPS = "before each labelled stage but norms: a convolution stays with what follows it"
    LABELS = "before each labelled stage"
    ALL = "before every stage"


def breaks(stages: Sequence[syntax.Stage], wanted: Break) -> set[int]:
    """Before which stages, by position, a chain is broken; where none is of the wanted sort, before more of them."""
    labelled = {position for position, stage in enumerate(stages) if stage.label is not None}
    if wanted is Break.GROUPS:
        groups = {position for position in labelled if not _is_norm(stages[position])}
        return groups or labelled or set(range(len(stages)))
    if wanted is Break.LABELS and labelled:
        return labelled
    return set(range(len(stages)))


def has_groups(statement: syntax.Node) -> bool:
    """Whether a statement is a chain of at least two groups."""
    if not isinstance(statement, syntax.Assign | syntax.Output) or not isinstance(statement.value, syntax.Chain):
        return False
    return sum(stage.label is not None and not _is_norm(stage) for stage in statement.value.stages) > 1


def _is_norm(stage: syntax.Stage) -> bool:
    return isinstance(stage.callee, syntax.Name) and stage.callee.name.endswith("_norm")


def blank_lines(body: Sequence[syntax.Node], heights: Sequence[int]) -> Iterator[int]:
    """Above which statements of a definition, by position, a blank line stands.

    What comes in, what happens and what goes out are set apart, unless there is little of it; so is what takes
    several lines.

    Args:
        heights: how many lines each statement takes.
    """
    parts = _parts(body)
    steps = [position for position, part in enumerate(parts) if part == 1]
    tall = [heights[position] > 1 for position in range(len(body))]
    for position in range(1, len(body)):
        before, part = parts[position - 1], parts[position]
        if part == before:
            declares = isinstance(body[position - 1], syntax.Let | syntax.Layer)
            apart = part == 1 and (tall[position] or tall[position - 1]) and not declares
        elif part == 2 and before == 1:
            apart = len(steps) > 1 or tall[position] or tall[position - 1]
        else:
            apart = bool(steps) or any(tall[position:])
        if apart:
            yield position


def _parts(body: Sequence[syntax.Node]) -> list[int]:
    """For each statement: 0 for what comes in, 1 for what happens, 2 for what goes out."""
    found: list[int] = []
    for statement in body:
        if isinstance(statement, syntax.Output):
            found.append(2)
        elif isinstance(statement, syntax.Input | syntax.Layer | syntax.Assert) and not any(found[-1:]):
            found.append(0)
        else:
            found.append(1)
    return found
