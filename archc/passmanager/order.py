"""The order of passes in a pipeline: detection of a wrong order, and a correct one.

A pass declares the states of the graph that it needs (`Pass.needs`) and the states that it ends (`Pass.ends`).  So no
pass refers to another pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.diagnostics import Note, Span, error
from archc.frozen_dataclass import frozen_dataclass
from archc.passmanager.base import Pass


@frozen_dataclass
class Misplaced:
    """A pass that comes too late in a pipeline.

    Attributes:
        position: position of the pass in the pipeline.
        ended_by: position of the earlier pass that ended a state which the misplaced pass needs.
        state: the ended state.
        reordered: all passes in a correct order, or None if no order is correct.
    """

    position: int
    ended_by: int
    state: str
    reordered: tuple[Pass, ...] | None


def check_order(passes: Sequence[Pass], spans: Sequence[Span] = ()) -> None:
    """Refuse a pipeline in which a pass comes too late.

    Args:
        spans: the place of each pass in the text; empty if there is no text.

    Raises:
        ArchcError: the order is wrong (`pass-order`); the help has a correct order, if there is one.
    """
    found = misplaced(passes)
    if found is None:
        return
    late, early = passes[found.position], passes[found.ended_by]
    notes = [Note(f"`{early}` is here", spans[found.ended_by])] if spans else []
    if found.reordered is not None:
        way = f"write `{' -> '.join(map(str, found.reordered))}`"
    else:
        way = "no order works: remove one of the two"
    raise error(
        "pass-order",
        f"`{late.name}` needs {found.state}, but the earlier pass `{early.name}` ends that state",
        spans[found.position] if spans else None,
        notes,
        way,
    )


def misplaced(passes: Sequence[Pass]) -> Misplaced | None:
    """The first pass that comes too late; None if the order is correct."""
    ended: dict[str, int] = {}
    for position, step in enumerate(passes):
        for state in step.needs:
            if state in ended:
                return Misplaced(position, ended[state], state, _reordered(passes))
        for state in step.ends:
            ended.setdefault(state, position)
    return None


def _reordered(passes: Sequence[Pass]) -> tuple[Pass, ...] | None:
    """The passes in a correct order: a pass that ends a state comes after all passes that need the state."""
    found: dict[int, None] = {}
    waiting: set[int] = set()

    def place(position: int) -> bool:
        """Append a pass, after the passes that must precede it; return False if there is a cycle."""
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
