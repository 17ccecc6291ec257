"""What a graph costs: parameters, bytes, multiply-adds and activations, all from the signatures.

The steps of a scan are counted as often as they are done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from archc.ir.graph import Graph, Node
from archc.ir.scans import repetition_counts
from archc.types.dims import evaluate
from archc.types.frozen_dataclass import frozen_dataclass
from archc.types.tensor_type import TensorType


@frozen_dataclass
class Cost:
    """Figures of a graph or of a part of it.

    Attributes:
        nodes: operators.
        parameters: elements of trainable weights, each weight counted once.
        bytes: bytes of everything stored, buffers, scales and masks included.
        multiply_adds: of one run with symbolic sizes as given.
    """

    nodes: int
    parameters: int
    bytes: int
    multiply_adds: int

    def to_json(self) -> dict[str, int]:
        return {
            "nodes": self.nodes,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "multiply_adds": self.multiply_adds,
        }


def cost(graph: Graph, sizes: Mapping[str, int] | None = None) -> Cost:
    """The figures of a whole graph; symbolic sizes are 1 where `sizes` does not give them."""
    costs = NodeCosts(graph, sizes)
    return Cost(
        nodes=len(graph),
        parameters=sum(weight.parameters for weight in graph.weights.values()),
        bytes=sum(weight.nbytes for weight in graph.weights.values()),
        multiply_adds=sum(costs.multiply_adds(node) for node in graph.nodes()),
    )


class NodeCosts:
    """What single nodes of a graph cost in one run; symbolic sizes are 1 where `sizes` does not give them."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int] | None = None):
        self._sizes = sizes
        self._times = {node: evaluate(times, sizes=sizes) for node, times in repetition_counts(graph).items()}

    def times(self, node: Node) -> int:
        """How often a node is run: once, or in each step of a scan."""
        return self._times.get(node, 1)

    def multiply_adds(self, node: Node) -> int:
        """Multiply-adds."""
        return self.times(node) * multiply_adds(node, self._sizes)

    def activations(self, node: Node) -> int:
        """Bytes of all that it makes."""
        return self.times(node) * activation_bytes(node, self._sizes)


def multiply_adds(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply-adds of one node, done once; symbolic sizes are 1 where `sizes` does not give them."""
    return evaluate(node.op.multiply_adds(node.op.infer(node.types), node.types), sizes=sizes)


def activation_bytes(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Bytes of the results of one node, done once; symbolic sizes are 1 where `sizes` does not give them."""
    return sum(tensor_bytes(value.type, sizes) for value in node.results)


def tensor_bytes(type: TensorType, sizes: Mapping[str, int] | None = None) -> int:
    """Bytes of one tensor; symbolic sizes are 1 where `sizes` does not give them."""
    return type.dtype.size * math.prod(evaluate(dim, sizes=sizes) for dim in type.shape)
