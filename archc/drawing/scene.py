"""What a picture shows, before anybody knows where: panels of nodes and edges.

A panel is a definition: the model, or a block that is drawn once for all of its uses.  What stands open in its place (a
scan, a block that somebody wanted to see inside) is a node with a panel within it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["input", "output", "layer", "symbol", "bar", "frame"]
"""What a node looks like: a rounded end, a box with rows, a circle with a sign, a bar, or a box with a panel in it."""


@dataclass(frozen=True)
class BoxRow:
    """A line of a box: an operator, or a use of a block.

    Attributes:
        label: the layer's name, where it has one.
        text: the operator with its telling attributes, or the block.
        family: what its colour follows: the family of the operator, or `block`.
        light: drawn thin, as what does little to what flows through.
        storage: how its weights are stored, where not as plain numbers: `int8`.
        block: the title of the panel that shows what is inside.
    """

    text: str
    label: str = ""
    family: str = ""
    light: bool = False
    storage: str = ""
    block: str = ""


@dataclass(eq=False)
class SceneNode:
    """A thing in a panel.

    Attributes:
        key: its name within the panel, unique.
        rows: what is written in it, one below the other.
        shape: of what leaves it; empty where it says nothing new.
        repeat: how often it is done, one after the other: `12`, or `6…24` where uses differ; empty for once.
        marks: numbers of the weights that it shares with other nodes, which have the same number.
        stage: the first and the last stage of a pipeline that it takes part in.
        outlets: how many different values leave it.
        inner: for a frame, what is in it; `entries` and `exits` are the keys of the inner nodes that its operands flow
            into, and that its results come from, in order.
    """

    key: str
    kind: Kind
    rows: tuple[BoxRow, ...] = ()
    shape: str = ""
    repeat: str = ""
    marks: tuple[int, ...] = ()
    stage: tuple[int, int] = (0, 0)
    outlets: int = 1
    inner: Panel | None = None
    entries: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What to call it where there is but one line."""
        return "; ".join(": ".join(part for part in (row.label, row.text) if part) for row in self.rows)


@dataclass(frozen=True)
class Edge:
    """A value on its way.

    Attributes:
        source, target: keys of nodes; outlet: which of the values that leave the source; entry: which of those that
            enter a frame.
        back: it goes from the end of a step to the beginning of the next one.
    """

    source: str
    target: str
    outlet: int = 0
    entry: int = 0
    back: bool = False


@dataclass(eq=False)
class Panel:
    """A definition, or what a node has within it.

    Attributes:
        title: unique among the panels of a scene; the first line of the legend that it is.
        note: what is said beside the title: `12 uses`.
        banded: whether stages are drawn as bands behind its nodes.
    """

    title: str
    note: str = ""
    nodes: list[SceneNode] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    banded: bool = False

    def node(self, key: str) -> SceneNode:
        """The node of a key."""
        return next(node for node in self.nodes if node.key == key)

    def within(self) -> Iterator[Panel]:
        """This panel, and those of its nodes."""
        yield self
        for node in self.nodes:
            if node.inner is not None:
                yield from node.inner.within()


@dataclass(eq=False)
class Scene:
    """A picture: the model, and each block that it shows closed.

    Attributes:
        devices: what the text calls the device of each stage, where there are several stages.
    """

    title: str
    note: str
    panels: list[Panel]
    devices: tuple[str | None, ...] = ()


_JOINED = 36
"""Characters of the longest row that two operators of one family share."""


def fold_chains(panel: Panel) -> None:
    """Put each light operator that alone takes all that a box gives into that box."""
    panel.edges = list(dict.fromkeys(panel.edges))
    nodes = {node.key: node for node in panel.nodes}
    leaving: dict[str, list[Edge]] = {key: [] for key in nodes}
    arriving: dict[str, list[Edge]] = {key: [] for key in nodes}
    for edge in panel.edges:
        leaving[edge.source].append(edge)
        arriving[edge.target].append(edge)
    into: dict[str, str] = {}
    for node in panel.nodes:
        sources = {edge.source for edge in arriving[node.key]}
        if len(sources) != 1:
            continue
        (source,) = sources
        holder = nodes[into.get(source, source)]
        if _takes(holder, node) and {edge.target for edge in leaving[source]} == {node.key}:
            into[node.key] = holder.key
            holder.rows = _joined(holder.rows, node.rows)
            holder.shape = node.shape or holder.shape
            holder.marks = tuple(dict.fromkeys((*holder.marks, *node.marks)))
            holder.outlets = node.outlets
    kept = [replace(edge, source=into.get(edge.source, edge.source)) for edge in panel.edges if edge.target not in into]
    panel.edges = list(dict.fromkeys(kept))
    panel.nodes = [node for node in panel.nodes if node.key not in into]


def _takes(holder: SceneNode, node: SceneNode) -> bool:
    """Whether a node can be a further row of another one; a block's shape stays that of the block."""
    if holder.rows[0].family == "block" and node.shape:
        return False
    light = node.kind == "layer" and not node.repeat and all(row.light for row in node.rows)
    return light and holder.kind == "layer" and not holder.repeat and holder.stage == node.stage


def _joined(above: tuple[BoxRow, ...], below: tuple[BoxRow, ...]) -> tuple[BoxRow, ...]:
    """The rows together; two short operators of one family share a row."""
    last, first = above[-1], below[0]
    text = f"{last.text} → {first.text}"
    alike = last.light and first.light and last.family == first.family and not first.label
    if alike and len(text) <= _JOINED:
        return (*above[:-1], replace(last, text=text), *below[1:])
    return (*above, *below)
