"""Values that users give to the symbolic sizes of a model: `--sizes "N=32,T=128"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import index
from typing import SupportsIndex

from archc.diagnostics import did_you_mean, error
from archc.ir.graph import Graph, Node
from archc.types.dims import Symbol, evaluate, symbols

SIZES_HELP = (
    "values of symbolic sizes, at which multiply-adds are counted and passes compare costs; sizes that are not given "
    "are taken from the calibration data, or assumed with a warning; the default of the batch size is 1"
)
"""Help text of the option `--sizes` of all commands."""


def read_sizes(text: str) -> dict[str, int]:
    """Parse sizes such as `N=32,T=128`.

    Raises:
        ValueError: an item between commas is not of the form `N=32`; the message contains the item.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not re.fullmatch("[+-]?[0-9]+", size):
            between = re.fullmatch(r"(\w+\s*=\s*[0-9]+)[\s;]+(\w+\s*=.*)", part.strip())
            way = f": separate sizes by commas, `{between[1]},{between[2]}`" if between else ""
            raise ValueError(f"`{part.strip()}` is not a size such as N=32{way}")
        if len(size) > 18 or int(size) < 1:
            raise ValueError(f"`{name}` must be at least 1 and below 10^18, got {size}")
        if name in found:
            raise ValueError(f"`{name}` is given twice")
        found[name] = int(size)
    return found


def sizes_from(given: str | Mapping[str, int]) -> dict[str, int]:
    """Read the argument `sizes` of the Python API: a text such as `N=32,T=128`, or a mapping.

    Raises:
        TypeError: the argument is neither a text nor a mapping, or a size is not an integer.
        ArchcError: a size is less than 1, or the text is wrong (`bad-size`).
    """
    if isinstance(given, str):
        try:
            return read_sizes(given) if given.strip() else {}
        except ValueError as problem:
            raise error("bad-size", f"`sizes`: {problem}", help='for example, sizes="H=224,W=224"') from None
    if not isinstance(given, Mapping):
        raise TypeError(f"`sizes` expects a text or a mapping such as {{'H': 224}}, got {type(given).__name__}")
    for name, size in given.items():
        if not isinstance(name, str) or isinstance(size, bool) or not isinstance(size, SupportsIndex):
            raise TypeError(f"`sizes` expects integers by name such as {{'H': 224}}, got {name!r}: {size!r}")
        if not 1 <= index(size) < 10**18:
            way = f"for example, sizes={{{name!r}: 64}}"
            raise error("bad-size", f"`sizes`: `{name}` must be at least 1 and below 10^18, got {size}", help=way)
    return {name: index(size) for name, size in given.items()}


def sizes_option(sizes: Mapping[str, int], option: str = "--sizes") -> str:
    """Return the option that gives these sizes, as text to type: `--sizes "N=32,T=128"`."""
    text = ",".join(f"{name}={size}" for name, size in sizes.items())
    return f'{option}{" " if option.startswith("-") else " = "}"{text}"'


def settings_text(values: Mapping[str, object]) -> str:
    """Return values by name as text: `N = 32, T = 128`."""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def size_names(graph: Graph) -> dict[str, Symbol]:
    """Return the symbols in the shapes of a graph's inputs, by name."""
    return {name: s for value in graph.inputs for dim in value.type.shape for name, s in symbols(dim).items()}


def check_sizes(graph: Graph, sizes: Mapping[str, int], option: str = "--sizes") -> None:
    """Check that a model has sizes of these names, and that the values are within the declared bounds.

    Args:
        option: name of the option that gives the sizes, for the help.

    Raises:
        ArchcError: `unknown-size` or `size-above-bound`.
    """
    known = size_names(graph)
    for name, size in sizes.items():
        if name not in known:
            way = did_you_mean(name, known) or (f"it has {', '.join(known)}" if known else "all its sizes are numbers")
            raise error("unknown-size", f"`{graph.name}` has no size `{name}`", help=way)
        maximum = known[name].maximum
        if maximum is not None and size > maximum:
            raise error(
                "size-above-bound",
                f"`{name}` must be at most {maximum}, got {size}",
                help=f"use a smaller size: `{sizes_option({name: maximum}, option)}`",
            )


def first_empty(graph: Graph, sizes: Mapping[str, int]) -> Node | None:
    """Return the first node with an empty result tensor at these sizes, or None; missing sizes are 1."""
    for node in graph.nodes():
        if any(evaluate(dim, sizes=sizes) < 1 for value in node.results for dim in value.type.shape):
            return node
    return None


def empty_text(node: Node, sizes: Mapping[str, int]) -> str:
    """Return the message for a node with an empty result; see `first_empty`."""
    return f"with {settings_text(sizes)} the result {node.results[0].type} of {node.title} has no elements"
