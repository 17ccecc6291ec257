"""Removal of dead layers, on which no output depends, with a warning."""

from __future__ import annotations

from collections.abc import Collection

from archc.diagnostics import Diagnostics, Span, listed
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter

MOST_NAMED = 4
"""Limit on the layers that one warning names: a block with a hundred instances may leave a hundred dead layers."""


def remove_dead_layers(graph: Graph, diagnostics: Diagnostics, told: Collection[Span] = ()) -> None:
    """Remove dead nodes, and warn of the layers with weights among them.

    Args:
        told: statements with an `unused-value` warning; a layer in one of them has no second warning.
    """
    rewriter = Rewriter(graph)
    stored = {path: frozenset(weight.tensors) for path, weight in graph.weights.items()}
    dead: dict[tuple[str, int, int], tuple[Span, list[str]]] = {}
    for node in rewriter.remove_unused_nodes():
        if node.path is None or node.span is None or not node.weights:
            continue
        _, paths = dead.setdefault((node.span.source.name, node.span.start, node.span.end), (node.span, []))
        paths.append(node.path)
    removed = rewriter.remove_unused_weights()
    graph.dead_weights = frozenset(tensor for path in removed for tensor in stored[path])
    live = set(graph.layers())
    for _, (span, paths) in sorted(dead.items()):
        if any(one.source == span.source and one.start <= span.start and span.end <= one.end for one in told):
            continue
        if names := [path for path in dict.fromkeys(paths) if path not in live]:
            shown = listed(sorted(names), MOST_NAMED)
            diagnostics.warn(
                "dead-layer",
                f"the layer{'s' if len(names) > 1 else ''} {shown} feed{'' if len(names) > 1 else 's'} no output",
                span,
                help="use its result, or remove it; the emitted files have neither the layer nor its weights",
            )
