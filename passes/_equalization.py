"""Rewriting of weights by cross-layer equalization."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from archc.analysis.channels import Channels, keeps_axis
from archc.analysis.layers import Layer
from archc.compression.quantization.equalization import STRENGTHS, Equalization, Pair, best_equalizations
from archc.compression.quantization.ranges import DynamicRange
from archc.declaration.traits import AFFINE_IN_WEIGHT, Homogeneous
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.tensor_type import DType

from ._quant_remarks import error_change
from ._weight_obstacles import owners_of_weights, weights_obstacle

LARGEST_SHARE = 0.9
"""Largest ratio of the squared error with equalization to that without, for equalized layers.

Equalization takes no time in a run, but a small gain on the calibration data may be a loss on other data.
"""
MOST_ELEMENTS = 1 << 22
"""Most elements of the weights of the layers that are equalized together.

Each candidate rounds these weights.  The layers of networks with depthwise convolutions, which gain most, are far
smaller.
"""


def equalize(
    graph: Graph,
    context: Context,
    selected: Collection[Layer],
    quantized: Mapping[Layer, DynamicRange | None],
    strength: float | None,
    per_channel: bool,
) -> None:
    """Equalize the channels between layers, and add a note on each second layer.

    Args:
        selected: the layers whose weights may change.
        quantized: the layers with quantized operands, each with the quantization of its operand if that is dynamic.
        strength: α; None to choose it by the error, for each pair, and to equalize only where this reduces the error.
        per_channel: True if each output channel of a weight has its own scale.
    """
    pairs = _pairs(graph, selected, quantized)
    if not pairs:
        return
    dynamic = {layer.node.operands[0]: each for layer, each in quantized.items() if each is not None}
    strengths = STRENGTHS if strength is None else (strength,)
    found = best_equalizations(graph, pairs, context.calibration.batches, strengths, per_channel, dynamic)
    left = 0
    for pair, best in found.items():
        if best.error < (LARGEST_SHARE if strength is None else math.inf) * best.error_before:
            for path, values in pair.scaled_weights(graph, best.scales.double().numpy()).items():
                context.rewriter.set_weight(path, values)
            if pair.first.path is not None:
                context.new_results[pair.first.path] = None  # divided by the scales
            _remark(context, pair, best)
        else:
            left += 1
    if left:
        text = "1 layer is" if left == 1 else f"{left} layers are"
        reason = f"the squared error of the result would fall by less than {1 - LARGEST_SHARE:.0%}"
        context.note(graph.name, f"{text} not equalized with the layer before: {reason}")


def _pairs(graph: Graph, selected: Collection[Layer], quantized: Collection[Layer]) -> list[Pair]:
    """The pairs of layers that can be equalized, in order."""
    owners = owners_of_weights(graph.nodes())

    def can_change(node: Node) -> bool:
        floats = all(type.dtype is DType.f32 for type in node.types)
        return floats and node.op.has(AFFINE_IN_WEIGHT) and weights_obstacle(graph, node, owners) is None

    with_operand = {layer.node for layer in quantized if can_change(layer.node)}
    pairs = (_pair(graph, layer.node, with_operand) for layer in selected if can_change(layer.node))
    return [pair for pair in pairs if pair is not None and _elements(graph, pair) <= MOST_ELEMENTS]


def _elements(graph: Graph, pair: Pair) -> int:
    """Number of elements of the weights of a pair."""
    nodes = (pair.first, *pair.second)
    return sum(math.prod(graph.weights[node.weights["weight"]].shape) for node in nodes)


def _pair(graph: Graph, first: Node, quantized: Collection[Node]) -> Pair | None:
    """The pair that begins with a layer.

    None if its result has other uses than quantized layers, or other operators than homogeneous ones are between.
    """
    axis = _weighted_axis(first, Channels.of_result)
    if axis is None:
        return None
    between: list[Node] = []
    second: list[Node] = []
    values = [first.result]
    for value in values:  # grows by the results of homogeneous operators
        if graph.is_output(value):
            return None
        for node in graph.consumers(value):
            if node in quantized and _weighted_axis(node, Channels.of_operand) == axis:
                second.append(node)
            elif node.op.trait(Homogeneous) is not None and len(node.operands) == 1 and keeps_axis(node, axis):
                between.append(node)
                values.append(node.result)
            else:
                return None
    return Pair(first, tuple(between), tuple(second), axis) if second else None


def _weighted_axis(node: Node, channels: Callable[[Node, int], Channels]) -> int | None:
    """The axis of an operand or result whose elements have weights of their own, or None."""
    return next((axis for axis in range(node.types[0].rank) if channels(node, axis).weighted), None)


def _remark(context: Context, pair: Pair, best: Equalization) -> None:
    share = best.error / (best.error_before or 1.0)
    how = "by the ranges of both weights" if best.strength is None else f"with α = {best.strength:g}"
    for node in pair.second:
        message = f"channels equalized with `{pair.first.title}` {how}: {error_change(share)}"
        context.note(node, message, squared_error_share=round(share, 6))
