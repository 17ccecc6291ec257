"""Line breaks and blank lines as a person would set them, for texts that nobody has written yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from archc.language.syntax import tree

WIDTH = 120
"""Columns; what is wider is broken."""

COMFORTABLE = 100
"""Columns; a longer chain of several groups is broken although it would fit."""


class Break(Enum):
    """Before which stages a chain is broken."""

    GROUPS = "before each labelled stage but norms: a convolution stays with what follows it"
    LABELS = "before each labelled stage"
    ALL = "before every stage"


@dataclass(frozen=True)
class Style:
    """How a statement is spread over lines.

    Attributes:
        chains: down to which nesting chains are broken, and `where`: before which stages.
        sums: whether the statement's sum is broken.
        branches: whether tuples of chains have one a line.
        calls: the columns beyond which a call has one argument a line; None for never.
    """

    chains: int = 0
    where: Break = Break.GROUPS
    sums: bool = False
    branches: bool = False
    calls: int | None = None


_LAST = Style(9, Break.ALL, sums=True, branches=True, calls=WIDTH)

STYLES = (
    Style(),
    Style(sums=True),
    Style(branches=True),
    *(Style(depth, where, branches=True) for depth in (1, 2) for where in Break),
    Style(9, Break.ALL, branches=True),
    Style(9, Break.ALL, sums=True, branches=True),
    *(Style(1, Break.LABELS, branches=True, calls=columns) for columns in (WIDTH, COMFORTABLE // 2)),
    _LAST,
    Style(9, Break.ALL, sums=True, branches=True, calls=0),
    _LAST,
)
"""The styles for what is too wide: the first that fits is taken, and the last one where none does."""


def breaks(stages: Sequence[tree.ChainStep], wanted: Break) -> set[int]:
    """Before which stages, by position, a chain is broken; where none is of the wanted sort, before more of them."""
    labelled = {position for position, stage in enumerate(stages) if stage.label is not None}
    if wanted is Break.GROUPS:
        groups = {position for position in labelled if not _is_norm(stages[position])}
        return groups or labelled or set(range(len(stages)))
    if wanted is Break.LABELS and labelled:
        return labelled
    return set(range(len(stages)))


def has_groups(statement: tree.SyntaxNode) -> bool:
    """Whether a statement is a chain of at least two groups, those of the branches that it begins with among them."""
    if not isinstance(statement, tree.Assign | tree.Output) or not isinstance(statement.value, tree.Chain):
        return False
    source = statement.value.source
    branches = source.items if isinstance(source, tree.Tuple) else ()
    chains = [statement.value, *(branch for branch in branches if isinstance(branch, tree.Chain))]
    return sum(stage.label is not None and not _is_norm(stage) for chain in chains for stage in chain.stages) > 1


def is_branching(node: tree.SyntaxNode) -> bool:
    """Whether an expression is a tuple with chains among its items: `(x -> a, x -> b) -> concat(1)`."""
    return isinstance(node, tree.Tuple) and any(isinstance(item, tree.Chain) for item in node.items)


def _is_norm(stage: tree.ChainStep) -> bool:
    return isinstance(stage.callee, tree.Name) and stage.callee.name.endswith("_norm")


def blank_lines(body: Sequence[tree.SyntaxNode], heights: Sequence[int]) -> Iterator[int]:
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
            declares = isinstance(body[position - 1], tree.Let | tree.LayerStatement)
            apart = part == 1 and (tall[position] or tall[position - 1]) and not declares
        elif part == 2 and before == 1:
            apart = len(steps) > 1 or tall[position] or tall[position - 1]
        else:
            apart = bool(steps) or any(tall[position:])
        if apart:
            yield position


def _parts(body: Sequence[tree.SyntaxNode]) -> list[int]:
    """For each statement: 0 for what comes in, 1 for what happens, 2 for what goes out."""
    found: list[int] = []
    for statement in body:
        if isinstance(statement, tree.Output):
            found.append(2)
        elif isinstance(statement, tree.Input | tree.LayerStatement | tree.Assert) and not any(found[-1:]):
            found.append(0)
        else:
            found.append(1)
    return found
