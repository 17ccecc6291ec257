"""The same number on all boxes that share weights: a layer that is used twice, a weight that is another layer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.codegen.outline.program import Apply, Nest, Statement, Use

if TYPE_CHECKING:
    from archc.drawing.drafting import Draft


def mark_shared(draft: Draft) -> None:
    """Mark the nodes of a panel, before chains are folded."""
    together = [list(dict.fromkeys(keys)) for keys in draft.repeated.values()]
    for tie in draft.definition.ties:
        holders = [_holder(draft.members, path) for path in (tie.source, tie.weight)]
        together.append([holder for holder in holders if holder is not None])
    groups: dict[str, set[str]] = {}  # of each node, those that share with it, and with one another
    for keys in together:
        joined = set(keys).union(*(groups.get(key, ()) for key in keys))
        groups.update((key, joined) for key in joined)
    done: set[str] = set()
    for node in draft.panel.nodes:
        group = groups.get(node.key, set())
        if len(group) > 1 and node.key not in done:
            number = next(draft.book.marks)
            for key in sorted(group):
                draft.panel.node(key).marks = (number,)
            done |= group


def _holder(members: dict[str, str], path: str) -> str | None:
    """The node that shows the layer of a weight: of the longest name that the path begins with."""
    while path:
        if path in members:
            return members[path]
        path = path.rpartition(".")[0]
    return None


def names_in(statement: Statement) -> list[str]:
    """The names of the layers at work in a statement."""
    if isinstance(statement, Nest):
        return [name for body in statement.bodies for inner in body for name in names_in(inner)]
    assert isinstance(statement, (Apply, Use))
    return [] if statement.member is None else [statement.member.name]
