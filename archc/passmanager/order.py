"""Whether the passes of a pipeline can run in the order that it has, and in which order they could.

A pass says in which states it must find the graph (`Pass.needs`), and which are over once it ran (`Pass.ends`).  That
is all: no pass knows another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archc.diagnostics import Note, Span, error
from archc.passmanager.base import Pass


@dataclass(frozen=True)
class Misplaced:
    """A pass that comes too late.

    Attributes:
        position: its place in the pipeline.
        ended_by: the place of the pass before it that ended a state which it needs.
        state: that state.
        mended: all passes in an order that will do, or None where there is none.
    """

    position: int
    ended_by: int
    state: str
    mended: tuple[Pass, ...] | None


def check_order(passes: Sequence[Pass], spans: Sequence[Span] = ()) -> None:
    """Refuse a pipeline in which a pass comes too late.

    Args:
        spans: where the text has each pass, if a text has them.

    Raises:
        ArchcError: `pass-order`, with an order that will do, where there is one.
    """
    found = misplaced(passes)
    if found is None:
        return
    late, early = passes[found.position], passes[found.ended_by]
    notes = [Note(f"`{early}` is here", spans[found.ended_by])] if spans else []
    if found.mended is not None:
        way = f"write `{' -> '.join(map(str, found.mended))}`"
    else:
        way = "no order will do: leave one of the two out"
    raise error(
        "pass-order",
        f"`{late.name}` needs {found.state}, and `{early.name}` before it puts an end to that",
        spans[found.position] if spans else None,
        notes,
        way,
    )


def misplaced(passes: Sequence[Pass]) -> Misplaced | None:
    """The first pass of a pipeline that comes too late; None where the order is right."""
    ended: dict[str, int] = {}
    for position, step in enumerate(passes):
        for state in step.needs:
            if state in ended:
                return Misplaced(position, ended[state], state, _mended(passes))
        for state in step.ends:
            ended.setdefault(state, position)
    return None


def _mended(passes: Sequence[Pass]) -> tuple[Pass, ...] | None:
    """The passes, each after those that need what it ends, and otherwise where they were."""
    found: dict[int, None] = {}
    waiting: set[int] = set()

    def place(position: int) -> bool:
        """Put a pass in its place, after those that must come before it; whether that can be done."""
        if position in found:
            return True
        if position in waiting:
            return False
        waiting.add(position)
        ends = set(passes[position].ends)
        before = [k for k, other in enumerate(passes) if k != position and not ends.isdisjoint(other.needs)]
        if not all(map(place, before)):
            return False
        found[position] = None
        return True

    if not all(map(place, range(len(passes)))):
        return None
    return tuple(passes[position] for position in found)
