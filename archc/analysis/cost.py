"""Cost of a graph: parameters, bytes of weights, multiply-adds and bytes of activations.

Multiply-adds and activations follow from the operators' signatures.  A node in a scan counts once for each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from archc.declaration.base import Operator
from archc.declaration.operator_failure import OperatorFailure
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.ir.scans import repetition_counts
from archc.types.dims import evaluate
from archc.types.tensor_type import TensorType


@frozen_dataclass
class Cost:
    """Cost of a graph.

    Attributes:
        nodes: number of operators.
        parameters: number of elements of trainable weights; shared weights count once.
        bytes: bytes of all stored tensors, including buffers, scales and masks.
        multiply_adds: multiply-adds of one run with the given symbolic sizes.
    """

    nodes: int
    parameters: int
    bytes: int
    multiply_adds: int

    def to_json(self) -> dict[str, int]:
        """Return the fields as an object of `report.json`."""
        return {
            "nodes": self.nodes,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "multiply_adds": self.multiply_adds,
        }


def cost(graph: Graph, sizes: Mapping[str, int] | None = None) -> Cost:
    """Return the cost of a graph; symbolic sizes that are not in `sizes` are 1."""
    costs = NodeCosts(graph, sizes)
    return Cost(
        nodes=len(graph),
        parameters=parameters(graph),
        bytes=sum(weight.nbytes for weight in graph.weights.values()),
        multiply_adds=sum(costs.multiply_adds(node) for node in graph.nodes()),
    )


def parameters(graph: Graph) -> int:
    """Return the number of elements of a graph's trainable weights; shared weights count once."""
    return sum(weight.parameters for weight in graph.weights.values())


class NodeCosts:
    """Costs of single nodes in one run of a graph; symbolic sizes that are not in `sizes` are 1."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int] | None = None):
        self._sizes = sizes
        self._times = {node: evaluate(times, sizes=sizes) for node, times in repetition_counts(graph).items()}

    def times(self, node: Node) -> int:
        """Return the number of executions of a node: 1, or the number of steps of its scan."""
        return self._times.get(node, 1)

    def multiply_adds(self, node: Node) -> int:
        """Return the multiply-adds of all executions of a node."""
        return self.times(node) * multiply_adds(node, self._sizes)

    def multiply_adds_of(self, node: Node, chain: Sequence[Operator]) -> int:
        """Return the multiply-adds of operators in sequence that would replace a node."""
        return sum(multiply_adds for multiply_adds, _ in self.steps_of(node, chain))

    def steps_of(self, node: Node, chain: Sequence[Operator]) -> list[tuple[int, int]]:
        """Return the multiply-adds and the elements of the result of each operator of `multiply_adds_of`."""
        types, steps = node.types, []
        for op in chain:
            inference = op.infer(types)
            work = evaluate(op.multiply_adds(inference, types), sizes=self._sizes)
            types = inference.results
            elements = math.prod(evaluate(dim, sizes=self._sizes) for dim in types[0].shape)
            steps.append((self.times(node) * work, self.times(node) * elements))
        return steps

    def activations(self, node: Node) -> int:
        """Return the bytes of the results of all executions of a node."""
        return self.times(node) * activation_bytes(node, self._sizes)


def multiply_adds(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Return the multiply-adds of one execution of a node; symbolic sizes that are not in `sizes` are 1."""
    try:
        return evaluate(node.op.multiply_adds(node.op.infer(node.types), node.types), sizes=sizes)
    except OperatorFailure as failure:
        raise failure.at(node.span) from failure.__cause__


def activation_bytes(node: Node, sizes: Mapping[str, int] | None = None) -> int:
    """Return the bytes of a node's results in one execution; symbolic sizes that are not in `sizes` are 1."""
    return sum(tensor_bytes(value.type, sizes) for value in node.results)


def tensor_bytes(type: TensorType, sizes: Mapping[str, int] | None = None) -> int:
    """Return the bytes of a tensor; symbolic sizes that are not in `sizes` are 1."""
    return type.dtype.size * math.prod(evaluate(dim, sizes=sizes) for dim in type.shape)
