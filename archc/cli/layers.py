"""The figures of a graph, layer by layer, as `archc show` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archc.diagnostics import Diagnostics, did_you_mean, error
from archc.ir.cost import activation_bytes, cost, multiply_adds
from archc.ir.dims import Symbol, evaluate, symbols
from archc.ir.graph import Graph, Node


@dataclass(frozen=True)
class Row:
    """One node: its layer's path (empty for one that nobody named), what it is, and what it costs.

    A weight counts where it is used first.
    """

    layer: str
    operator: str
    outputs: tuple[str, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer or None,
            "operator": self.operator,
            "outputs": list(self.outputs),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
        }


def rows(graph: Graph, sizes: Mapping[str, int]) -> list[Row]:
    """A row for each node, in the order of the text."""
    counted: set[str] = set()
    found = []
    for node in graph.nodes():
        fresh = [path for path in dict.fromkeys(node.weights.values()) if path not in counted]
        counted.update(fresh)
        found.append(
            Row(
                node.path or "",
                str(node.op),
                tuple(str(value.type) for value in node.results),
                sum(graph.weights[path].size for path in fresh if graph.weights[path].trainable),
                multiply_adds(node, sizes),
                activation_bytes(node, sizes),
            )
        )
    return found


def size_names(graph: Graph) -> dict[str, Symbol]:
    """The symbolic sizes of a graph's inputs."""
    return {name: s for value in graph.inputs for dim in value.type.shape for name, s in symbols(dim).items()}


def check_sizes(graph: Graph, sizes: Mapping[str, int], diagnostics: Diagnostics) -> None:
    """Raise for sizes that the model does not have or allow; warn where they leave a tensor without elements.

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
    empty = _first_empty(graph, sizes)
    if empty is not None:
        used = ", ".join(f"{name} = {sizes.get(name, 1)}" for name in known)
        diagnostics.warn(
            "size-too-small",
            f"with {used} the result {empty.results[0].type} of {empty.title} has no elements",
            empty.span,
            help="give larger ones: --sizes " + ",".join(f"{name}=64" for name in known),
        )


def _first_empty(graph: Graph, sizes: Mapping[str, int]) -> Node | None:
    for node in graph.nodes():
        if any(evaluate(dim, sizes=sizes) < 1 for value in node.results for dim in value.type.shape):
            return node
    return None


def to_json(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The object of `archc show --json`, but for what passes add to it."""
    layers = rows(graph, sizes)
    figures = cost(graph, sizes)
    return {
        "model": graph.name,
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {name: str(value.type) for name, value in graph.outputs.items()},
        "sizes": {name: sizes.get(name, 1) for name in size_names(graph)},
        "operators": figures.nodes,
        "parameters": figures.parameters,
        "bytes": figures.bytes,
        "multiply_adds": figures.multiply_adds,
        "activation_bytes": sum(layer.activation_bytes for layer in layers),
        "layers": [layer.to_json() for layer in layers],
    }
