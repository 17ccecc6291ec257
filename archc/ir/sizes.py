"""Values for the symbolic sizes of a model, as people give them: `N=32,T=128`."""

from __future__ import annotations

from collections.abc import Mapping

from archc.diagnostics import did_you_mean, error
from archc.ir.dims import Symbol, evaluate, symbols
from archc.ir.graph import Graph, Node


def read_sizes(text: str) -> dict[str, int]:
    """Sizes by name, from `N=32,T=128`.

    Raises:
        ValueError: a part is none; the message says which.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not size.isascii() or not size.isdigit() or len(size) > 18 or int(size) < 1:
            raise ValueError(f"`{part}` is not a size such as N=32")
        found[name] = int(size)
    return found


def size_names(graph: Graph) -> dict[str, Symbol]:
    """The symbolic sizes of a graph's inputs."""
    return {name: s for value in graph.inputs for dim in value.type.shape for name, s in symbols(dim).items()}


def check_sizes(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Refuse sizes that the model does not have or allow.

    Raises:
        ArchcError: `unknown-size` or `size-above-bound`.
    """
    known = size_names(graph)
    for name, size in sizes.items():
        if name not in known:
            way = did_you_mean(name, known) or (f"it has {', '.join(known)}" if known else "all its sizes are known")
            raise error("unknown-size", f"`{graph.name}` has no size `{name}`", help=way)
        maximum = known[name].maximum
        if maximum is not None and size > maximum:
            raise error("size-above-bound", f"`{name}` is at most {maximum}, and is given as {size}")


def first_empty(graph: Graph, sizes: Mapping[str, int]) -> Node | None:
    """The first node whose result has no elements at these sizes, those that are left out being 1."""
    for node in graph.nodes():
        if any(evaluate(dim, sizes=sizes) < 1 for value in node.results for dim in value.type.shape):
            return node
    return None
