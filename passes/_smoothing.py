"""Rewriting of a graph by SmoothQuant: divided operands, and weights that are multiplied."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.quantization.ranges import DynamicRange
from archc.compression.quantization.smoothing import STRENGTHS, Smoothing, best_smoothings
from archc.ir.graph import Graph, Node, Value
from archc.ops.arithmetic import Mul
from archc.ops.create import Constant
from archc.passmanager import Context
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import to_torch

from ._layers import LayerNames
from ._quant_remarks import error_change
from ._quantized_values import integer_producer

LARGEST_SHARE = 0.7
"""Largest ratio of the squared error with smoothing to that without, for which an operand is smoothed.

The multiplication of the operand takes time: in MiniLM, 24 of them take 2 % of the latency of the int8 model.
"""


def smooth(
    graph: Graph,
    context: Context,
    layers: Mapping[Layer, DynamicRange | None],
    strength: float | None,
    per_channel: bool,
) -> None:
    """Smooth the operands of layers, and add a note on each layer.

    An operand of several layers gets one vector of scales.  The new text multiplies the operand by a `constant`.

    Args:
        layers: the layers with quantized operands, each with the quantization of its operand if that is dynamic.
        strength: α; None to choose it by the error, for each operand, and to smooth only where this reduces the error.
        per_channel: True if each output channel of a weight has its own scale.
    """
    groups = _groups(graph, layers)
    weights = {
        value: [to_torch(graph.weight_values(node.weights["weight"])) for node in nodes]
        for value, nodes in groups.items()
    }
    strengths = STRENGTHS if strength is None else (strength,)
    dynamic = {
        layer.node.operands[0]: quantization for layer, quantization in layers.items() if quantization is not None
    }
    batches = context.calibration.batches
    found = best_smoothings(graph, weights, batches, strengths, per_channel, dynamic) if groups else {}
    names = LayerNames(graph)
    for value, smoothing in found.items():
        if smoothing.error < (LARGEST_SHARE if strength is None else math.inf) * smoothing.error_before:
            _multiply(graph, context, names, value, groups[value], smoothing)
            _remark(context, groups[value], smoothing)


def _groups(graph: Graph, layers: Mapping[Layer, DynamicRange | None]) -> dict[Value, list[Node]]:
    """Operands that can be smoothed, each with the nodes that use it."""
    integer = {node for layer, quantization in layers.items() if quantization is None for node in layer.nodes}
    groups: dict[Value, list[Node]] = {}
    for layer in layers:
        if _takes_rows(graph, layer, integer):
            groups.setdefault(layer.node.operands[0], []).append(layer.node)
    return groups


def _takes_rows(graph: Graph, layer: Layer, integer: Collection[Node]) -> bool:
    """Return True if a layer multiplies the last axis of its operand by a matrix of its own.

    An operand that an integer layer produces is excluded: the kernel of that layer quantizes its own result, and a
    multiplication between the two layers would need floats.
    """
    node = layer.node
    if len(layer.nodes) > 1 or layer.sharing or node.transposed or set(layer.weights) != {"weight"}:
        return False
    if not graph.weights[layer.weights["weight"]].storage.elementwise or node.types[0].dtype is not DType.f32:
        return False
    signature = node.op.infer(node.types).solution.signature
    operand, weight = signature.operands[0], signature.operand("weight")
    summed = operand.axes[-1].index if operand.axes else None
    rows = len(weight.axes) == 2 and summed is not None and weight.axes[1].index == summed
    return (
        rows
        and summed not in {axis.index for axis in signature.results[0].axes}
        and (integer_producer(graph, node, integer) is None)
    )


def _multiply(
    graph: Graph, context: Context, names: LayerNames, value: Value, nodes: list[Node], smoothing: Smoothing
) -> None:
    """Divide an operand by the scales, and multiply the columns of the weights."""
    first, scales = nodes[0], smoothing.scales.numpy()
    name = names.free(first.scope, f"{first.name}_smooth")
    held = context.rewriter.add(Constant((len(scales),)), [], name=name, scope=first.scope, near=first)
    context.rewriter.set_weight(held.weights["value"], (1 / scales).astype(np.float32))
    product = context.rewriter.add(Mul(), [value, held.result], scope=first.scope, near=first)
    for node in nodes:
        path = node.weights["weight"]
        context.rewriter.set_weight(path, (graph.weight_values(path) * scales).astype(np.float32))
        context.rewriter.set_operands(node, (product.result, *node.operands[1:]))


def _remark(context: Context, nodes: list[Node], smoothing: Smoothing) -> None:
    share = smoothing.error / smoothing.error_before
    for node in nodes:
        message = f"operand smoothed with α = {smoothing.strength:g}: {error_change(share)}"
        context.note(node, message, strength=smoothing.strength, squared_error_share=round(share, 6))
