"""The content of a picture before layout: panels of nodes and edges.

A panel shows a definition: the model, or a block that is drawn once for all its uses.  A *frame* is a node with an
inner panel: a loop, a scan, or a block that is expanded in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from archc.frozen_dataclass import frozen_dataclass

Kind = Literal["input", "output", "layer", "symbol", "bar", "frame"]
"""Look of a node.

An input or output is a box with rounded ends, a layer is a box with rows, a symbol is a circle with a sign, a bar is a
flat box, and a frame is a box with an inner panel.
"""


@frozen_dataclass
class BoxRow:
    """A line of a box: an operator, or a use of a block.

    Attributes:
        label: the name of the layer, or empty.
        text: the operator with its main attributes, or the block.
        family: the family of the operator, or `block`; it determines the colour.
        light: True for an operator without matrix weights, which is drawn as a low row.
        storage: the storage of the operator's weights, such as `int8`; empty for dense weights.
        block: the title of the block's panel; empty without such a panel.
    """

    text: str
    label: str = ""
    family: str = ""
    light: bool = False
    storage: str = ""
    block: str = ""


@dataclass(eq=False)
class SceneNode:
    """A node of a panel.

    Attributes:
        key: the unique key of the node in the panel.
        rows: the lines of text in the node.
        shape: the text of the shape of the result; empty if the operand has the same shape.
        repeat: the number of repetitions: `12`, or `6…24` if it differs between uses; empty without repetition.
        marks: the numbers of shared weights; nodes with a common number share a weight.
        stage: the first and the last pipeline stage of the node.
        outlets: the number of results with uses.
        inner: the inner panel of a frame; `entries` and `exits` are the keys of its input and output nodes, in the
            order of operands and results.
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
        """The rows as one line of text."""
        return "; ".join(": ".join(part for part in (row.label, row.text) if part) for row in self.rows)


@frozen_dataclass
class Edge:
    """A use of a value.

    Attributes:
        source, target: keys of nodes.
        outlet: the position of the value among the results of the source.
        entry: the position of the input that uses the value, if the target is a frame.
        back: True for the edge from the end of a scan's step to the start of the next step.
    """

    source: str
    target: str
    outlet: int = 0
    entry: int = 0
    back: bool = False


@dataclass(eq=False)
class Panel:
    """The nodes and edges of a definition, or of the inside of a node.

    Attributes:
        title: the unique title of the panel in the scene.
        note: a note after the title: `12 uses`.
        banded: True if the stages are drawn as bands in the background.
    """

    title: str
    note: str = ""
    nodes: list[SceneNode] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    banded: bool = False

    def node(self, key: str) -> SceneNode:
        """The node with a key."""
        return next(node for node in self.nodes if node.key == key)

    def within(self) -> Iterator[Panel]:
        """This panel and all inner panels."""
        yield self
        for node in self.nodes:
            if node.inner is not None:
                yield from node.inner.within()


@dataclass(eq=False)
class Scene:
    """The panels of a picture: the model, and each block that is not expanded in place.

    Attributes:
        devices: for each stage, the name of its device in the source text; empty for a single stage.
    """

    title: str
    note: str
    panels: list[Panel]
    devices: tuple[str | None, ...] = ()


_JOINED = 36
"""The maximum number of characters of a row that two operators of one family share."""


def fold_chains(panel: Panel) -> None:
    """Merge each light operator into the box before it, if the operator is the only consumer of the box."""
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
    """Return whether a node can become a row of the box `holder`.

    The box of a block only takes operators that do not change the shape.
    """
    if holder.rows[0].family == "block" and node.shape:
        return False
    light = node.kind == "layer" and not node.repeat and all(row.light for row in node.rows)
    return light and holder.kind == "layer" and not holder.repeat and holder.stage == node.stage


def _joined(above: tuple[BoxRow, ...], below: tuple[BoxRow, ...]) -> tuple[BoxRow, ...]:
    """The rows of both nodes; two adjacent short operators of one family are merged into one row."""
    last, first = above[-1], below[0]
    text = f"{last.text} → {first.text}"
    alike = last.light and first.light and last.family == first.family and not first.label
    if alike and len(text) <= _JOINED:
        return (*above[:-1], replace(last, text=text), *below[1:])
    return (*above, *below)
