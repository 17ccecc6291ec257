"""Chains in one box: a layer, and below it what is done to its result at once."""

from __future__ import annotations

from dataclasses import replace

from archc.drawing.scene import Edge, Node, Panel, Row

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


def _takes(holder: Node, node: Node) -> bool:
    """Whether a node can be a further row of another one; a block's shape stays that of the block."""
    if holder.rows[0].family == "block" and node.shape:
        return False
    light = node.kind == "layer" and not node.repeat and all(row.light for row in node.rows)
    return light and holder.kind == "layer" and not holder.repeat and holder.stage == node.stage


def _joined(above: tuple[Row, ...], below: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows together; two short operators of one family share a row."""
    last, first = above[-1], below[0]
    text = f"{last.text} → {first.text}"
    alike = last.light and first.light and last.family == first.family and not first.label
    if alike and len(text) <= _JOINED:
        return (*above[:-1], replace(last, text=text), *below[1:])
    return (*above, *below)
