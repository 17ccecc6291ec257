"""Storage of weights in fewer bits, by GPTQ on the calibration data or by rounding to nearest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.calibration.layer_statistics import layer_statistics
from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_metric import LARGEST_MODEL, OutputMetric
from archc.compression.calibration.sequential import compress_sequentially
from archc.compression.quantization.quantized_matrix import QuantizedMatrix, quantizer
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Integers, LowRankStorage, Masked, NarrowFloat, Storage

from ._calibration_batches import calibration_batches
from ._calibration_statistics import output_metrics
from ._factor_formats import floats_to_store, has_float_factors, set_format
from ._int8_weights import StoredWeights
from ._layer_effects import EffectMeter
from ._quant_remarks import remark_on_nearest, remark_on_weights

if TYPE_CHECKING:
    import torch

Formats = Mapping[Layer, Mapping[str, Storage]]
"""Storage formats of the weights of layers, by layer and name of the weight."""

CHUNK = 1 << 22
"""Most elements of a weight in temporary arrays."""


def store_weights(graph: Graph, context: Context, formats: Formats, by_data: bool) -> None:
    """Store the weights of layers in their formats, and add a remark on each layer.

    Args:
        by_data: True to use GPTQ on the calibration data where it applies.
    """
    nodes: dict[Node, Layer] = {}
    sharing: dict[Node, list[Node]] = {}
    for layer, of_weights in formats.items() if by_data else ():
        obstacle = data_obstacle(graph, layer, of_weights)
        if obstacle is not None:
            if any(isinstance(storage, Integers | LowRankStorage) for storage in of_weights.values()):
                remark_on_nearest(context, layer, obstacle)
        else:
            first = next((node for node, other in nodes.items() if other.weights == layer.weights), layer.node)
            nodes.setdefault(first, layer)
            sharing.setdefault(first, []).append(layer.node)
    meter = EffectMeter(graph, context, formats)
    outcome: dict[Layer, _Outcome] = {layer: _Outcome() for layer in formats}
    if nodes:
        _quantize_by_data(graph, context, nodes, sharing, formats, outcome, meter)
    for layer, of_weights in formats.items():
        for name, storage in of_weights.items():
            path = layer.weights[name]
            present = graph.weights[path]
            if has_float_factors(layer, present) or present.storage.elementwise:  # else another layer shares the weight
                if isinstance(graph.weights[path].storage, Masked):
                    context.note(layer.path, f"{storage.name or storage} replaces its mask; masked weights stay zero")
                values = graph.weight_values(path)
                set_format(graph, context.rewriter, path, storage)
                outcome[layer].add_error(values, graph.weight_values(path))
    stored = {layer: _stored(graph, layer, formats[layer], outcome[layer]) for layer in formats}
    for layer, weights in meter.with_effects(stored).items():
        remark_on_weights(context, layer, weights)


def formats_in_range(graph: Graph, context: Context, formats: Formats) -> Formats:
    """Leave out narrow floats that cannot hold a weight, which stays in f32, with a remark."""
    found: dict[Layer, dict[str, Storage]] = {}
    for layer, of_weights in formats.items():
        found[layer] = dict(of_weights)
        for name, storage in of_weights.items():
            rounded = storage.format if isinstance(storage, LowRankStorage) else storage
            if isinstance(rounded, NarrowFloat):
                path = layer.weights[name]
                parts = floats_to_store(graph, path)
                most, limit = max(float(np.abs(part).max(initial=0)) for part in parts), rounded.dtype.largest
                if most > limit:
                    reason = f"`{path}` has values up to {most:.3g}, and {rounded.dtype} ends at {limit:.3g}"
                    context.left(layer.path, reason)
                    del found[layer][name]
    return {layer: of_weights for layer, of_weights in found.items() if of_weights}


def data_obstacle(graph: Graph, layer: Layer, of_weights: Mapping[str, Storage]) -> str | None:
    """Reason why the calibration data cannot choose the integers of a layer's weight, or None."""
    others = [storage for storage in of_weights.values() if not isinstance(storage, Integers | LowRankStorage)]
    return f"`{others[0]}` is a format of floats" if others else matrix_obstacle(graph, layer)


class _Outcome:
    """Error of the weights of a layer; if GPTQ was used, its rows of data."""

    def __init__(self) -> None:
        self.error = self.norm = 0.0
        self.rows: int | None = None

    def add_error(self, values: np.ndarray, stored: np.ndarray) -> None:
        for own, other in zip(_chunks(values), _chunks(stored), strict=True):
            self.error += float(np.square(other - own, dtype=np.float64).sum())
            self.norm += float(np.square(own, dtype=np.float64).sum())

    @property
    def relative(self) -> float:
        """Relative error of all weights together, in the Frobenius norm."""
        return math.sqrt(self.error / self.norm) if self.norm else 0.0


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield parts of an array, so that temporary arrays are small."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK]


def _quantize_by_data(
    graph: Graph,
    context: Context,
    nodes: Mapping[Node, Layer],
    sharing: Mapping[Node, Sequence[Node]],
    formats: Formats,
    outcome: Mapping[Layer, _Outcome],
    meter: EffectMeter,
) -> None:
    """Quantize each weight at its first node.

    Args:
        sharing: all nodes that use the weight, for each first node.
    """
    batches = calibration_batches(graph, context, "GPTQ")
    context.progress("measure the effect of each layer on the outputs")
    small = sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL
    used = [node for users in sharing.values() for node in users]
    metrics = output_metrics(graph, context, used, batches) if small else {}
    for node, users in sharing.items():
        if len(users) > 1 and node.op.has(SELECTS_ROWS):
            metrics |= _tied_metric(graph, users, batches, metrics)
    done = 0

    def store(node: Node, found: QuantizedMatrix) -> None:
        nonlocal done
        done += 1
        context.progress(f"quantize {node.path} ({done} of {len(nodes)})")
        layer, path = nodes[node], node.weights["weight"]
        values = graph.weight_values(path)
        context.rewriter.set_storage(path, formats[layer]["weight"], found.result)
        outcome[layer].add_error(values, graph.weight_values(path))
        outcome[layer].rows = found.rows
        meter.note(node, found)
        if found.bias is not None:
            context.rewriter.set_weight(node.weights["bias"], found.bias)

    of_nodes = {
        node: quantizer(storage)
        for node, layer in nodes.items()
        if isinstance(storage := formats[layer]["weight"], Integers)
    }
    compress_sequentially(graph, Lockstep(graph, batches), of_nodes, metrics, store)


def _tied_metric(
    graph: Graph,
    users: Sequence[Node],
    batches: Sequence[Mapping[str, torch.Tensor]],
    metrics: Mapping[Node, OutputMetric],
) -> dict[Node, OutputMetric]:
    """Metric of the rows of a table that is also the weight of a product, such as a tied embedding.

    The mean over the rows of both uses: an error e of a row costs eᵀ G e where it is selected, and g eᵀ H e in the
    product, for the second moments H of the product's operand and the metric g of the channel.
    """
    first, *others = users
    if first not in metrics or any(other not in metrics for other in others):
        return {}
    statistics = layer_statistics(graph, batches, {other: metrics[other] for other in others})
    rows = graph.weights[first.weights["weight"]].shape[0]
    total = metrics[first].matrix
    for other, found in statistics.items():
        gain = metrics[other].matrix
        trace = gain.trace() if gain.dim() == 2 else gain.sum()
        total = total + sum(trace / len(found.moments) * each.hessian for each in found.moments)
    return {first: OutputMetric(total / rows, metrics[first].relevant)}


def _stored(graph: Graph, layer: Layer, of_weights: Mapping[str, Storage], found: _Outcome) -> StoredWeights:
    return StoredWeights(
        formats=", ".join(dict.fromkeys(str(storage) for storage in of_weights.values())),
        count=len(of_weights),
        before=sum(
            storage.parameters(graph.weights[layer.weights[name]].shape) * 4 for name, storage in of_weights.items()
        ),
        after=sum(graph.weights[layer.weights[name]].nbytes for name in of_weights),
        error=found.relative,
        method="rtn" if found.rows is None else "gptq",
    )
