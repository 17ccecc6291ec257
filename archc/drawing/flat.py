"""A scene for programs that lay pictures out themselves: every node under one name, and edges that enter frames."""

from __future__ import annotations

from collections.abc import Iterator

from archc.drawing.scene import Node, Panel


def node_lines(node: Node) -> list[str]:
    """What is written in a node, line by line."""
    marks = "".join(f" ({mark})" for mark in node.marks)
    lines = []
    for number, row in enumerate(node.rows):
        name = ": ".join(part for part in (row.label, row.text) if part)
        stored = f" [{row.storage}]" if row.storage else ""
        repeat = f" × {node.repeat}" if node.repeat and not number else ""
        lines.append(f"{name}{stored}{repeat}{marks if not number else ''}")
    return [*lines, node.shape] if node.shape else lines


def panel_title(panel: Panel) -> str:
    """The title of a panel with its note."""
    return f"{panel.title} ({panel.note})" if panel.note else panel.title


def edges_of(panel: Panel, prefix: str) -> Iterator[tuple[str, str, bool]]:
    """The edges of a panel, what is in its frames left out: the names of their ends, and whether they lead back."""
    nodes = {node.key: node for node in panel.nodes}
    for edge in panel.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        begin, end = f"{prefix}{edge.source}", f"{prefix}{edge.target}"
        if source.inner is not None:
            begin += f"_{source.exits[edge.outlet]}"
        if target.inner is not None:
            end += f"_{target.entries[edge.entry]}"
        yield begin, end, edge.back
