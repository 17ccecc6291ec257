"""Positions of `quantize` and `dequantize` pairs, and their insertion."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from archc.compression.ranges import Range
from archc.declaration.traits import CLIPS, COMMUTES_WITH_ROUNDING, Quantizable
from archc.ir.graph import Graph, Node, Value
from archc.ir.match import NoMatch, chain_after, match_value, one_of, pattern, result_of
from archc.ops.quantize import Dequantize, Granularity, Quantize
from archc.passmanager import Context
from archc.types.tensor_type import DType

from ._layers import LayerNames

_CLIPPING = pattern(where=lambda node: node.op.has(CLIPS) and len(node.operands) == 1)
_PASSING_ON = one_of(
    _CLIPPING, pattern(where=lambda node: node.op.has(COMMUTES_WITH_ROUNDING) and len(node.operands) == 1)
)
"""Operators that may be between two integer layers: they clip or move elements."""


def results_to_quantize(graph: Graph, integer: Iterable[Node]) -> dict[Value, Node]:
    """Results that must be quantized because their kernels return integers, each with its kernel's node.

    A result is excluded if it reaches the next integer layer through clipping or data movement alone.  In this case the
    operand of the next layer is quantized instead.  Otherwise the clipped result is quantized, since kernels clip while
    they requantize.

    Args:
        integer: the nodes that compute with statically quantized operands.
    """
    nodes = dict.fromkeys(integer)
    found: dict[Value, Node] = {}
    for node in nodes:
        if not (node.op.trait(Quantizable) or Quantizable()).integer_result:
            continue
        passed_on = [node.result, *(after.result for after in chain_after(node.result, _PASSING_ON, graph))]
        if not any(_is_operand_of_all(graph, value, nodes) for value in passed_on):
            clipping = next(chain_after(node.result, _CLIPPING, graph), node)
            found[clipping.result] = node
    return found


def integer_producer(graph: Graph, node: Node, integer: Collection[Node]) -> Node | None:
    """Integer layer whose result reaches a node through clipping or data movement alone, or None.

    If such a layer exists, quantizing the operand of the node has no extra cost: the kernel of the integer layer
    quantizes its own result.
    """
    layer = pattern(where=lambda before: before in integer, bind="layer")
    found = match_value(result_of(layer, through=_PASSING_ON), node.operands[0], graph)
    return None if isinstance(found, NoMatch) else found["layer"]


def _is_operand_of_all(graph: Graph, value: Value, nodes: Collection[Node]) -> bool:
    users = graph.consumers(value)
    return bool(users) and not graph.is_output(value) and all(user in nodes for user in users)


class QdqInserter:
    """Inserter of `quantize`/`dequantize` pairs on edges, once for each value.

    Args:
        ranges: the ranges of the values with a static scale; other values get a dynamic scale.
        granularity: the granularity of dynamic scales.
    """

    def __init__(
        self, graph: Graph, context: Context, ranges: Mapping[Value, Range], granularity: Granularity = "tensor"
    ):
        self._graph = graph
        self._rewriter = context.rewriter
        self._ranges = ranges
        self._granularity: Granularity = granularity
        self._names = LayerNames(graph)
        self._quantized: dict[Value, Value] = {}

    def quantize_operand(self, node: Node) -> None:
        """Quantize the first operand of a layer."""
        value = node.operands[0]
        quantized = self._quantized.get(value) or self._insert(value, node, "in")
        self._rewriter.set_operands(node, (quantized, *node.operands[1:]))

    def quantize_result(self, value: Value, node: Node) -> None:
        """Replace all uses of a layer's result by its quantized value."""
        users = self._graph.consumers(value)
        quantized = self._insert(value, node, "out")
        self._quantized[quantized] = quantized
        for user in users:
            self._rewriter.set_operands(user, tuple(quantized if v is value else v for v in user.operands))
        for name, output in self._graph.outputs.items():
            if output is value:
                self._rewriter.output(name, quantized)

    def _insert(self, value: Value, layer: Node, role: str) -> Value:
        static_range = self._ranges.get(value)
        # For readable text, a result is quantized next to its producer, and an operand next to its consumer.
        near = layer if role == "in" else value.producer
        name = self._names.free(layer.scope, _name(layer.name or layer.op.name, role))
        granularity: Granularity = self._granularity if static_range is None else "tensor"
        quantizer = Quantize(DType.u8, dynamic=static_range is None, granularity=granularity)
        quantize = self._rewriter.add(quantizer, [value], name=name, scope=layer.scope, near=near)
        if static_range is not None:
            scale, zero_point = static_range.affine()
            self._rewriter.set_weight(quantize.weights["scale"], np.asarray(scale, np.float32))
            self._rewriter.set_weight(quantize.weights["zero_point"], np.asarray(zero_point, np.uint8))
        decoded = self._rewriter.add(
            Dequantize(granularity=granularity), quantize.results, scope=layer.scope, near=near
        )
        self._quantized[value] = decoded.result
        return decoded.result


def _name(layer: str, role: str) -> str:
    """Name of a quantizer: `fc1_in`, `fc1_out`, and `hidden_in.0` for an element of a list."""
    stem, dot, number = layer.rpartition(".")
    return f"{stem}_{role}.{number}" if dot and number.isdigit() else f"{layer}_{role}"
