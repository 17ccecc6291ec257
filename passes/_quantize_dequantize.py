"""Insertion of `quantize`/`dequantize` pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archc.compression.quantization.ranges import Range
from archc.declaration.traits import INTEGER_KERNEL
from archc.ir.graph import Graph, Node, Scope, Value
from archc.ir.match import chain_before
from archc.ops.fake_quantize import FakeQuantize
from archc.ops.quantize import Dequantize, Granularity, Quantize
from archc.passmanager import Context
from archc.types.tensor_type import DType

from ._layers import LayerNames
from ._quantized_values import CLIPPING, quantized_operands


@dataclass(frozen=True)
class QdqPlan:
    """Values to quantize under the scheme `static`, besides the operands of layers.

    Attributes:
        operators: the operators without weights that compute on integers.
        results: the results to quantize, each with the node of its kernel.
        ranges: the ranges of all values to quantize.
    """

    operators: list[Node]
    results: dict[Value, Node]
    ranges: dict[Value, Range]


class QdqInserter:
    """Inserter of `quantize`/`dequantize` pairs on edges.

    A pair serves all layers of its scope that use the value.  Layers of another scope get another pair with the same
    scale: an emitted PyTorch layer computes on integers only if the quantizer of its operand is in the same block.  The
    ONNX emitter merges such pairs.

    Args:
        ranges: the ranges of the values with a static scale; other values get a dynamic scale.
        training: True to insert a `fake_quantize` in place of each pair.
    """

    def __init__(self, graph: Graph, context: Context, ranges: Mapping[Value, Range], training: bool = False):
        self._graph = graph
        self._rewriter = context.rewriter
        self._ranges = dict(ranges)
        self._training = training
        self._names = LayerNames(graph)
        self._quantized: dict[tuple[Value, Scope], Value] = {}
        self._produced: dict[Value, Value] = {}
        """The dequantized value of each value whose quantizer is next to its producer."""

    def quantize_operands(self, node: Node, granularity: Granularity = "tensor") -> None:
        """Quantize the operands of a node that its integer kernel takes as integers.

        Args:
            granularity: the granularity of dynamic scales, which is the same for all layers with this operand.
        """
        values = quantized_operands(node)
        quantized = [self._in_scope(value, node) or self._insert(value, node, "in", granularity) for value in values]
        self._rewriter.set_operands(node, (*quantized, *node.operands[len(values) :]))

    def quantize_result(self, value: Value, node: Node) -> None:
        """Replace all uses of a result by its quantized value.

        Args:
            node: the node next to which the pair is inserted: the node of the kernel, or a layer that uses the result.
        """
        users = self._graph.consumers(value)
        quantized = self._insert(value, node, "in" if node in users else "out")
        self._ranges[quantized] = self._ranges[value]
        self._rewriter.replace_uses(value, quantized, users)
        for name, output in self._graph.outputs.items():
            if output is value:
                self._rewriter.output(name, quantized)

    def _in_scope(self, value: Value, node: Node) -> Value | None:
        """The quantized form of an operand, if it has one that the node can use."""
        if node.op.has(INTEGER_KERNEL) and value in self._produced:
            return self._produced[value]
        return self._quantized.get((value, node.scope))

    def _insert(self, value: Value, node: Node, role: str, granularity: Granularity = "tensor") -> Value:
        # For readable text, a result is quantized next to its producer, and an operand next to its consumer.
        near, layer = node, node
        if role == "in" and node.name is None and (producer := self._layer_before(value)) is not None:
            layer, role = producer, "out"
        if role == "out":
            near = value.producer or node
        static_range = self._ranges.get(value)
        name = self._names.free(layer.scope, _name(layer.name or layer.op.name, role))
        kind = FakeQuantize if self._training else Quantize
        quantizer = kind(DType.u8, dynamic=static_range is None, granularity=granularity)
        quantize = self._rewriter.add(quantizer, [value], name=name, scope=layer.scope, near=near)
        if static_range is not None:
            scale, zero_point = static_range.affine()
            self._rewriter.set_weight(quantize.weights["scale"], np.asarray(scale, np.float32))
            self._rewriter.set_weight(quantize.weights["zero_point"], np.asarray(zero_point, np.uint8))
        decoder = Dequantize(granularity=granularity)
        decoded = (
            quantize.result
            if self._training
            else self._rewriter.add(decoder, quantize.results, scope=layer.scope, near=near).result
        )
        for form in (value, decoded):
            self._quantized[form, layer.scope] = decoded
            if role == "out":
                self._produced[form] = decoded
        return decoded

    def _layer_before(self, value: Value) -> Node | None:
        """The layer of which a value is the result, possibly clipped."""
        for clip in chain_before(value, CLIPPING, self._graph):
            value = clip.operands[0]
        return value.producer if value.producer is not None and value.producer.name is not None else None


def _name(layer: str, role: str) -> str:
    """Name of a quantizer: `fc1_in`, `fc1_out`, and `hidden_in.0` for an element of a list."""
    stem, dot, number = layer.rpartition(".")
    return f"{stem}_{role}.{number}" if dot and number.isdigit() else f"{layer}_{role}"
