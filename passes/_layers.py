"""Free names for new layers of a graph, and multiply-adds of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archc.analysis.cost import NodeCosts
from archc.ir.graph import Graph, Node, Scope


class LayerNames:
    """Names of a graph's layers, for the choice of free names."""

    def __init__(self, graph: Graph):
        self._taken = {node.path for node in graph.nodes() if node.path is not None}

    def free(self, scope: Scope, wanted: str) -> str:
        """Free name for a new layer of a scope: the wanted name, with a number if another layer has it.

        `fc_in` becomes `fc_in2`.  `h_in.0`, an element of a list, becomes `h_in2.0`.
        """
        prefix = f"{scope.path}." if scope.path else ""
        stem, dot, element = wanted.rpartition(".") if wanted.rpartition(".")[2].isdigit() else (wanted, "", "")
        name, number = wanted, 1
        while prefix + name in self._taken:
            number += 1
            name = f"{stem}{number}{dot}{element}"
        self._taken.add(prefix + name)
        return name


Work = Callable[[Node], int]
"""Function that returns the multiply-adds of a node."""


def work_at(graph: Graph, sizes: Mapping[str, int]) -> Work:
    """Function that returns the multiply-adds of a node in one run at these sizes."""
    return NodeCosts(graph, sizes).multiply_adds
