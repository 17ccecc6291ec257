"""A graph as a picture or as text, for Python: the arguments are checked first."""

from __future__ import annotations

from collections.abc import Sequence

from archc.driver.arguments import check_types
from archc.ir.graph import Graph


def draw(graph: Graph, depth: int = 0, open: Sequence[str] = ()) -> str:
    """The picture of a model as SVG.

    Args:
        depth: how many levels of blocks to open in their places.
        open: blocks to open wherever they are used.

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
    """The text of a graph: elaborating it gives an equal graph, which prints the same.

    Raises:
        TypeError: it is no graph.
    """
    from archc.language import printer

    check_types(graph=graph)
    return printer.print_graph(graph)
