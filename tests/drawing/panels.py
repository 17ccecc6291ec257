"""Random panels: acyclic graphs with boxes of all kinds, panels in frames, and edges that lead back."""

from __future__ import annotations

from hypothesis import strategies as st

from archc.drawing.scene import BoxRow, Edge, Kind, Panel, Scene, SceneNode

KINDS: list[Kind] = ["layer", "layer", "layer", "symbol", "bar", "frame"]
TEXTS = st.text(max_size=30)


@st.composite
def rows(draw: st.DrawFn) -> BoxRow:
    return BoxRow(draw(TEXTS), draw(TEXTS), draw(st.sampled_from(["conv", "norm", ""])), draw(st.booleans()))


@st.composite
def panels(draw: st.DrawFn, depth: int = 1, banded: bool = False, framed: bool = False) -> Panel:
    """A panel with inputs, nodes that read from earlier nodes, and outputs."""
    panel = Panel(draw(TEXTS), banded=banded)
    for number in range(draw(st.integers(1, 3))):
        panel.nodes.append(SceneNode(f"i{number}", "input", (draw(rows()),)))
    for number in range(draw(st.integers(0, 9))):
        kind = draw(st.sampled_from(KINDS[: len(KINDS) if depth else -1]))
        node = SceneNode(f"n{number}", kind, tuple(draw(st.lists(rows(), min_size=1, max_size=3))), draw(TEXTS))
        if kind == "frame":
            node.inner = draw(panels(depth=depth - 1, framed=True))
            node.entries = tuple(inner.key for inner in node.inner.nodes if inner.kind == "input")
            node.exits = tuple(inner.key for inner in node.inner.nodes if inner.kind == "output")
            node.rows = node.rows[:1]
        node.outlets = len(node.exits) if node.inner is not None else draw(st.integers(1, 3))
        node.repeat = draw(st.sampled_from(["", "12", "6…24"]))
        _connect(draw, panel, node)
        panel.nodes.append(node)
    for number in range(draw(st.integers(1, 3))):
        node = SceneNode(f"o{number}", "output", (draw(rows()),))
        _connect(draw, panel, node, most=1)
        panel.nodes.append(node)
    if framed and draw(st.booleans()):
        panel.edges.append(Edge("o0", "i0", back=True))
    if banded:
        for number, node in enumerate(panel.nodes):
            node.stage = (number // 3, number // 3)
    panel.edges = list(dict.fromkeys(panel.edges))
    return panel


def _connect(draw: st.DrawFn, panel: Panel, node: SceneNode, most: int = 4) -> None:
    """Add edges from existing nodes to a node; a frame gets one edge for each entry."""
    count = len(node.entries) if node.inner is not None else draw(st.integers(1, most))
    for entry in range(count):
        source = draw(st.sampled_from([one for one in panel.nodes if one.kind != "output"]))
        outlet = draw(st.integers(0, source.outlets - 1))
        panel.edges.append(Edge(source.key, node.key, outlet, entry if node.inner is not None else 0))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A scene of a model and up to two blocks, with or without stages."""
    banded = draw(st.booleans())
    found = [draw(panels(banded=banded)), *draw(st.lists(panels(), max_size=2))]
    for number, panel in enumerate(found):
        panel.title = f"{panel.title}{number}"
    return Scene(draw(TEXTS), draw(TEXTS), found, (None, "cuda:1") if banded else ())
