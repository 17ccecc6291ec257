"""Where `quantize` and `dequantize` go, and putting them there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from archc.ir.graph import Graph, Node, Value
from archc.ops.quantize import Dequantize, Quantize
from archc.passmanager import Context
from archc.types.tensor_type import DType

from ._layers import LayerNames
from ._observers import Range


def results_to_quantize(graph: Graph, integer: Iterable[Node]) -> dict[Value, Node]:
    """The values that must become integers because a kernel gives nothing else, and that nobody rounds anyway.

    Each comes with the node whose kernel it is.

    A layer of integers whose result flows, clipped or moved about, into the next one is rounded there.

    Args:
        integer: the nodes that are to compute with integers that a calibration fixed.
    """
    nodes = dict.fromkeys(integer)
    found: dict[Value, Node] = {}
    for node in nodes:
        if not node.op.integer_result:
            continue
        value: Value | None = node.result
        while value is not None and not _is_operand_of_all(graph, value, nodes):
            value = _carried(graph, value)
        if value is None:
            found[_clipped(graph, node.result)] = node
    return found


def integer_producer(node: Node, integer: Collection[Node]) -> Node | None:
    """The layer of integers whose result a node receives, clipped or moved about; rounding it costs nothing more."""
    value = node.operands[0]
    while value.producer is not None and value.producer not in integer:
        op = value.producer.op
        if len(value.producer.operands) != 1 or not (op.clips or op.commutes_with_rounding):
            return None
        value = value.producer.operands[0]
    return value.producer


def linked_by_integers(integer: Collection[Node]) -> set[Node]:
    """The layers that receive integers from another layer of the set, or are the producer for one."""
    pairs = ((node, integer_producer(node, integer)) for node in integer)
    return {node for receiver, source in pairs if source is not None for node in (receiver, source)}


def _is_operand_of_all(graph: Graph, value: Value, nodes: Collection[Node]) -> bool:
    users = graph.consumers(value)
    return bool(users) and not graph.is_output(value) and all(user in nodes for user in users)


def _carried(graph: Graph, value: Value) -> Value | None:
    """The value that a value becomes where it goes to one operator that clips or moves it, and nowhere else."""
    users = graph.consumers(value)
    if len(users) != 1 or graph.is_output(value) or len(users[0].operands) != 1:
        return None
    return users[0].result if users[0].op.clips or users[0].op.commutes_with_rounding else None


def _clipped(graph: Graph, value: Value) -> Value:
    """The value after the operator that clips it, if that is all that becomes of it: kernels do both at once."""
    after = _carried(graph, value)
    return after if after is not None and after.producer is not None and after.producer.op.clips else value


class QdqInserter:
    """Puts a `quantize` and a `dequantize` behind values, once for each value.

    Args:
        ranges: of the values with a fixed scale; the others get one that follows the data.
    """

    def __init__(self, graph: Graph, context: Context, ranges: Mapping[Value, Range]):
        self._graph = graph
        self._rewriter = context.rewriter
        self._ranges = ranges
        self._names = LayerNames(graph)
        self._rounded: dict[Value, Value] = {}

    def operand(self, node: Node) -> None:
        """Let a layer receive its first operand rounded."""
        value = node.operands[0]
        rounded = self._rounded.get(value) or self._insert(value, node, "in")
        self._rewriter.set_operands(node, (rounded, *node.operands[1:]))

    def result(self, value: Value, node: Node) -> None:
        """Let all that use a value receive it rounded; it is what becomes of a layer's result."""
        users = self._graph.consumers(value)
        rounded = self._insert(value, node, "out")
        self._rounded[rounded] = rounded
        for user in users:
            self._rewriter.set_operands(user, tuple(rounded if v is value else v for v in user.operands))
        for name, output in self._graph.outputs.items():
            if output is value:
                self._rewriter.output(name, rounded)

    def _insert(self, value: Value, layer: Node, role: str) -> Value:
        received = self._ranges.get(value)
        # A result is rounded where it is made, an operand where it is used: the text reads best so.
        near = layer if role == "in" else value.producer
        name = self._names.free(layer.scope, _name(layer.name or layer.op.name, role))
        quantize = self._rewriter.add(
            Quantize(DType.u8, dynamic=received is None), [value], name=name, scope=layer.scope, near=near
        )
        if received is not None:
            scale, zero_point = received.affine()
            self._rewriter.set_weight(quantize.weights["scale"], np.asarray(scale, np.float32))
            self._rewriter.set_weight(quantize.weights["zero_point"], np.asarray(zero_point, np.uint8))
        decoded = self._rewriter.add(Dequantize(), quantize.results, scope=layer.scope, near=near)
        self._rounded[value] = decoded.result
        return decoded.result


def _name(layer: str, role: str) -> str:
    """What rounds the operand or the result of a layer: `fc1_in`, and `hidden_in.0` for an element of a list."""
    stem, dot, number = layer.rpartition(".")
    return f"{stem}_{role}.{number}" if dot and number.isdigit() else f"{layer}_{role}"
