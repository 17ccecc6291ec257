"""Int8 weights of layers, chosen by the calibration data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from archc.analysis.layers import Layer
from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.sequential import compress_sequentially
from archc.compression.quantization.quantized_matrix import QuantizedMatrix, quantizer
from archc.compression.quantization.weight_formats import Array
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Int8, Masked

from ._calibration_batches import calibration_batches
from ._int8_weights import StoredWeights, channel_axes, stored_weights
from ._layer_effects import EffectMeter
from ._narrow_weights import data_obstacle

LARGEST_BOUND = 0.2
"""Largest lower bound on the scale of a weight that is chosen by data, as a share of the scale.

The range is clipped, at most to 40 %, and the bias changes.
"""


def store_by_data(
    graph: Graph,
    context: Context,
    layers: Iterable[Layer],
    least: Mapping[str, Array],
    rounding: Collection[Node],
    meter: EffectMeter,
) -> dict[Layer, StoredWeights]:
    """Store weights as int8 by GPTQ, and refit the biases, of the layers for which this is possible.

    The targets are the results of the model before quantization.  So the bias also absorbs the mean of the error that
    results from quantized operands.  Only if operands stay in floats, the weights are refitted before: with quantized
    operands, this increased the error of MiniLM on other data, because the weights then fit to rounding errors.

    Args:
        least: lower bounds on the scales of some weights, by path; see `minimum_scales`.
        rounding: the nodes that quantize and dequantize values.
        meter: gets the quantized weights.
    """
    given = list(layers)
    nodes = {layer.node: layer for layer in given if int8_data_obstacle(graph, layer, least) is None}
    stored: dict[Layer, StoredWeights] = {}

    def store(node: Node, found: QuantizedMatrix) -> None:
        context.progress(f"quantize {node.path} ({len(stored) + 1} of {len(nodes)})")
        path = node.weights["weight"]
        values = {path: graph.weight_values(path)}
        context.rewriter.set_storage(path, _format(nodes[node]), found.result)
        if found.bias is not None:
            context.rewriter.set_weight(node.weights["bias"], found.bias)
        stored[nodes[node]] = stored_weights(graph, values, "gptq")
        meter.note(node, found)

    if nodes:
        steps = Lockstep(graph, calibration_batches(graph, context, "GPTQ"), rounding)
        of_nodes = {node: quantizer(_format(layer)) for node, layer in nodes.items()}
        compress_sequentially(graph, steps, of_nodes, {}, store, refit=not rounding)
    return stored


def int8_data_obstacle(graph: Graph, layer: Layer, least: Mapping[str, Array]) -> str | None:
    """Reason why the calibration data cannot choose the int8 weight of a layer, or None.

    Args:
        least: see `store_by_data`.
    """
    if layer.tied_to is not None:
        return f"its weight is also that of `{layer.tied_to}`"
    if layer.op.has(SELECTS_ROWS):
        return "in int8, the rows of a table always are"
    storage = _format(layer)
    obstacle = data_obstacle(graph, layer, dict.fromkeys(layer.weights, storage))
    if obstacle is not None:
        return obstacle
    path = layer.weights["weight"]
    if storage.axis is None:
        return f"`{layer.op.name}` has no axis of channels"
    if layer.node.transposed:
        return "its weight is transposed"
    if isinstance(graph.weights[path].storage, Masked):
        return "its masked elements must stay zero"
    scale = storage.encode(path, graph.weight_values(path))[f"{path}_scale"]
    if (least.get(path, 0.0) > LARGEST_BOUND * scale).any():
        return "its bias is so large that it determines the scales"
    return None


def _format(layer: Layer) -> Int8:
    return Int8(channel_axes([layer]).get(layer.weights.get("weight", "")))
