"""Public functions that draw and print a graph, with checks of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

from archc.driver.arguments import check_types
from archc.ir.graph import Graph


def draw(graph: Graph, depth: int = 0, open: Sequence[str] = ()) -> str:
    """Draw a graph as SVG.

    Args:
        depth: number of levels of nested blocks that are drawn with their contents.
        open: names of blocks that are drawn with their contents at every level.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the depth is negative.
        ArchcError: a block of `open` is not used.
    """
    from archc.drawing.compose import compose
    from archc.drawing.svg import draw_svg

    check_types(graph=graph, depth=depth, open=open)
    return draw_svg(compose(graph, depth, open))


def print_graph(graph: Graph) -> str:
    """The `.arch` text of a graph; `archc.parse` gives an equal graph for this text.

    Raises:
        TypeError: `graph` is not a `Graph`.
    """
    from archc.language.printing import printer

    check_types(graph=graph)
    return printer.print_graph(graph)


Graph.renderer = draw
