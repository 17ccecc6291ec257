"""What a graph costs: parameters, bytes, multiply-adds and activations, all from the signatures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from archc.ir.dims import evaluate
from archc.ir.graph import Graph, Node
from archc.ir.records import record


@record
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
    return Cost(
        nodes=len(graph),
        parameters=sum(weight.size for weight in graph.weights.values() if weight.trainable),
        bytes=sum(weight.nbytes for weight in graph.weights.values()),
        multiply_adds=sum(multiply_adds(node, sizes) for node in graph.nodes()),
    )


def multiply_adds(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply-adds of one node; symbolic sizes are 1 where `sizes` does not give them."""
    return evaluate(node.op.multiply_adds(node.op.infer(node.types), node.types), sizes=sizes)


def activation_bytes(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Bytes of the results of one node; symbolic sizes are 1 where `sizes` does not give them."""
    return sum(
        value.type.dtype.size * math.prod(evaluate(dim, sizes=sizes) for dim in value.type.shape)
        for value in node.results
    )
