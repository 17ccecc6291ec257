"""Scenes of small models, with descriptions of their nodes and edges."""

from __future__ import annotations

import archc
from archc.drawing.compose import compose
from archc.drawing.scene import Panel, Scene, SceneNode


def scene_of(text: str, depth: int = 0, opened: tuple[str, ...] = (), passes: str = "") -> Scene:
    """The scene of a model."""
    graph = archc.compile(text, passes=passes).graph if passes else archc.parse(text)
    return compose(graph, depth, opened)


def words(panel: Panel) -> list[str]:
    """A description of each node: its kind, title, number of repetitions and shape."""
    return [word(node) for node in panel.nodes]


def word(node: SceneNode) -> str:
    repeat = f" × {node.repeat}" if node.repeat else ""
    shape = f" [{node.shape}]" if node.shape else ""
    return f"{node.kind} {node.title}{repeat}{shape}"


def wires(panel: Panel) -> set[tuple[str, str]]:
    """Edges as pairs of node names (first label or text), without edges that lead back."""
    names = {node.key: node.rows[0].label or node.rows[0].text for node in panel.nodes}
    return {(names[edge.source], names[edge.target]) for edge in panel.edges if not edge.back}
