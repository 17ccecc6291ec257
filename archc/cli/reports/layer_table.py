"""The table of costs by layer that `archc show` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.analysis.cost import NodeCosts, cost
from archc.diagnostics import Diagnostics
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.given_sizes import empty_text, first_empty
from archc.ir.graph import Graph
from archc.passmanager.sizes import Sizes, larger_sizes, warn_of_assumed


@frozen_dataclass
class Row:
    """One node: the path of its layer (empty without a name), its operator and its costs.

    A shared weight counts only in the row of its first use.
    """

    layer: str
    operator: str
    outputs: tuple[str, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int

    def to_json(self) -> dict[str, Any]:
        """JSON object for `--json`."""
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
    costs = NodeCosts(graph, sizes)
    found = []
    for node in graph.nodes():
        fresh = [path for path in dict.fromkeys(node.weights.values()) if path not in counted]
        counted.update(fresh)
        found.append(
            Row(
                node.path or "",
                str(node.op),
                tuple(str(value.type) for value in node.results),
                sum(graph.weights[path].parameters for path in fresh),
                costs.multiply_adds(node),
                costs.activations(node),
            )
        )
    return found


def warn_of_sizes(graph: Graph, sizes: Sizes, diagnostics: Diagnostics) -> None:
    """Warn of assumed sizes, and of sizes that make a tensor empty."""
    warn_of_assumed(sizes, diagnostics)
    empty = first_empty(graph, sizes.values)
    if empty is not None:
        diagnostics.warn(
            "size-too-small",
            empty_text(empty, sizes.values),
            empty.span,
            help=larger_sizes(graph, sizes.values),
        )


def to_json(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Any]:
    """JSON object of a model: its figures, and its layers."""
    layers = rows(graph, sizes)
    figures = cost(graph, sizes)
    return {
        "model": graph.name,
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {name: str(value.type) for name, value in graph.outputs.items()},
        "sizes": dict(sizes),
        "operators": figures.nodes,
        "parameters": figures.parameters,
        "bytes": figures.bytes,
        "multiply_adds": figures.multiply_adds,
        "activation_bytes": sum(layer.activation_bytes for layer in layers),
        "layers": [layer.to_json() for layer in layers],
    }
