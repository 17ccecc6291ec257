"""Last layers of a network that stay in floats, since integers would gain no speed and lose accuracy."""

from __future__ import annotations

import math
from collections.abc import Collection

from archc.analysis.layers import Layer
from archc.ir.graph import Graph, Node, Value

from ._layers import Work
from ._quantized_values import integer_producer, returns_integers

SMALL_SHARE = 0.02
"""Share of the multiply-adds of all integer layers below which a last layer stays in floats.

Measured by `benchmarks.resnet_static`, at batch 1.  The last layer of ResNet-18 has 0.03 % of the multiply-adds and,
counted as below, a share of 0.6 %: in floats, it takes 1 % longer, and the error of the logits falls from 0.0072 to
0.0063.  The last layer of MobileNetV2 has a share of 8 %: in floats, it takes 5 % longer, with equal errors.
"""
MULTIPLY_ADDS_PER_ELEMENT = 20
"""Multiply-adds of an int8 convolution in the time in which one float of a weight is read from memory.

A linear layer on a single vector uses each element once, so the time for reading the weight is all of its time.
"""


def float_head(graph: Graph, static: Collection[Layer], work: Work) -> list[Layer]:
    """Last layers that have few multiply-adds, and whose operand is in floats otherwise.

    The linear layer after a global average pool is such a layer.  The quantization of its operand is an additional
    operation, unlike after another integer layer, whose kernel also quantizes.

    Args:
        static: the layers with the scheme `static`.
    """
    nodes = {node for layer in static for node in layer.nodes}
    limit = SMALL_SHARE * sum(work(node) for node in nodes)
    feeding = _values_before(graph, nodes)
    return [
        layer
        for layer in static
        if all(
            max(work(node), MULTIPLY_ADDS_PER_ELEMENT * _elements(graph, node)) < limit
            and not returns_integers(node)
            and feeding.isdisjoint(node.results)
            and integer_producer(graph, node, nodes) is None
            for node in layer.nodes
        )
    ]


def _elements(graph: Graph, node: Node) -> int:
    """Number of elements of the weights of a node."""
    return sum(math.prod(graph.weights[path].shape) for path in node.weights.values())


def _values_before(graph: Graph, nodes: Collection[Node]) -> set[Value]:
    """The values that an operand of one of the nodes depends on."""
    found: set[Value] = set()
    for node in reversed(list(graph.nodes())):
        if node in nodes or not found.isdisjoint(node.results):
            found.update(node.operands)
    return found
