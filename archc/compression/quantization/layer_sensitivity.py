"""Sensitivity of each layer: errors at the layer and at the outputs for each storage format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.calibration.layer_statistics import LayerStatistics, layer_statistics
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_error import OutputError
from archc.compression.calibration.output_metric import OutputMetric, output_metric
from archc.compression.quantization.layer_error import measured
from archc.compression.quantization.rounding_loss import RoundingLoss, torch_from
from archc.compression.quantization.weight_formats import Format, storage_of
from archc.declaration.traits import SELECTS_ROWS
from archc.diagnostics import silent
from archc.ir.graph import Graph, Node
from archc.types.storage import Int8, Storage
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import numpy as np
    import torch

Formats = Mapping[Format, Mapping[str, Storage]]
"""Storage of each weight of a layer by path, for each format."""


@dataclass
class FormatEffect:
    """Effect of one storage format of a layer's weights.

    Attributes:
        bytes: bytes of the weights.
        loss: predicted squared error of the outputs, relative to their mean squares; None if there is no prediction.
        signal_to_noise: predicted signal-to-noise ratio of the layer's result, in dB; None likewise.
        measured: measured squared error of the outputs; None if it was not measured.
    """

    bytes: int
    loss: float | None = None
    signal_to_noise: float | None = None
    measured: float | None = None

    @property
    def known_loss(self) -> float | None:
        """The predicted loss, or else the measured one."""
        return self.measured if self.loss is None else self.loss


@dataclass
class LayerSensitivity:
    """Effects of storage formats of a layer's weights; all other layers are unchanged.

    Attributes:
        bytes: bytes of the weights as they are stored in the model; 0 if an earlier layer has them, too.
        reason: reason why there is no prediction, or None.
        formats: the effects by name of the format, without formats that do not fit the weights.
    """

    layer: str
    operator: str
    bytes: int
    reason: str | None = None
    formats: dict[Format, FormatEffect] = field(default_factory=dict)


def layer_sensitivities(
    graph: Graph,
    batches: Sequence[Mapping[str, torch.Tensor]],
    formats: Sequence[Format],
    group: int | None = None,
    order_by: Format | None = None,
    measure: int = 0,
    progress: Callable[[str], None] = silent,
) -> list[LayerSensitivity]:
    """The sensitivities of all layers with weight matrices, in the order of the graph.

    The predictions are those of `RoundingLoss` for `quant` with one format and calibration data.  For the measurement,
    one layer at a time is stored in a format: as predicted, or rounded to nearest without a prediction.

    Args:
        group: number of elements with a common scale, for packed integers.
        order_by: format in which layers are compared to find the worst; by default the first one.
        measure: number of the worst layers that are measured; if it is not 0, layers without a prediction are, too.
    """
    layers = [layer for layer in layers_with_weights(graph) if layer.weights]
    found, possible = _unmeasured(graph, layers, formats, group)
    nodes = {layer.node: layer for layer in layers if found[layer].reason is None}
    progress("measure the effect of each layer on the outputs")
    metrics = output_metric(graph, nodes, batches)
    progress("measure the operands of each layer")
    statistics = layer_statistics(graph, batches, metrics)
    for node, layer in nodes.items():
        found[layer].reason = _missing(node, metrics, statistics)
        if found[layer].reason is not None:
            continue
        progress(f"predict the formats of {layer.path}")
        loss = _loss(graph, node, metrics, statistics)
        for name, storages in possible[layer].items():
            effect = loss.effect(storages[node.weights["weight"]])
            found[layer].formats[name].loss = effect.loss
            found[layer].formats[name].signal_to_noise = effect.signal_to_noise
    if measure:
        error = OutputError(graph, list(measured(lambda: batches)))
        predicted = worst_first([each for each in found.values() if each.reason is None], order_by or formats[0])
        worst = {each.layer for each in predicted[:measure]}
        for layer, each in found.items():
            if each.reason is None and each.layer not in worst:
                continue
            own = None if each.reason is not None else _loss(graph, layer.node, metrics, statistics)
            for name, storages in possible[layer].items():
                progress(f"measure {layer.path} in {name}")
                values = _nearest(graph, storages) if own is None else _compensated(graph, layer.node, storages, own)
                each.formats[name].measured = error.of(values)
    return list(found.values())


def worst_first(layers: Sequence[LayerSensitivity], name: Format) -> list[LayerSensitivity]:
    """Layers in the order of decreasing loss in a format; layers without a loss are last."""

    def key(layer: LayerSensitivity) -> float:
        effect = layer.formats.get(name)
        loss = None if effect is None else effect.known_loss
        return float("inf") if loss is None else -loss

    return sorted(layers, key=key)


def _unmeasured(
    graph: Graph, layers: Sequence[Layer], formats: Sequence[Format], group: int | None
) -> tuple[dict[Layer, LayerSensitivity], dict[Layer, Formats]]:
    """Layers with the bytes of their formats, and the storages of their weights."""
    owners: dict[str, str] = {}
    found: dict[Layer, LayerSensitivity] = {}
    possible: dict[Layer, Formats] = {}
    for layer in layers:
        own = [path for path in dict.fromkeys(layer.weights.values()) if path not in owners]
        reason = matrix_obstacle(graph, layer)
        if not own:
            reason = f"its weight is counted for `{owners[next(iter(layer.weights.values()))]}`"
        elif layer.tied_to is not None:
            reason = f"it shares its weight with `{layer.tied_to}`"
        owners.update(dict.fromkeys(own, layer.path))
        bytes_now = sum(graph.weights[path].nbytes for path in own)
        possible[layer] = _storages(graph, layer, own, formats, group) if own else {}
        if reason is None and not possible[layer]:
            reason = f"no format fits its weight of type {graph.weights[own[0]].dtype}"
        effects = {
            name: FormatEffect(
                sum(replace(graph.weights[path], storage=each).nbytes for path, each in storages.items())
            )
            for name, storages in possible[layer].items()
        }
        found[layer] = LayerSensitivity(layer.path, layer.op.name, bytes_now, reason, effects)
    return found, possible


def _storages(
    graph: Graph, layer: Layer, paths: Sequence[str], formats: Sequence[Format], group: int | None
) -> Formats:
    """The formats that fit all weights of a layer, which are floats and not compressed yet."""
    weights = [graph.weights[path] for path in paths]
    if any(weight.dtype is not DType.f32 or not weight.storage.elementwise for weight in weights):
        return {}
    axis = layer.quantizable.channel_axis
    values = {path: graph.weight_values(path) for path in paths}
    found = {name: {path: storage_of(name, values[path], axis, group) for path in paths} for name in formats}
    return {
        name: storages
        for name, storages in found.items()
        if all(storages[weight.path].misfit(weight.shape, weight.dtype) is None for weight in weights)
    }


def _missing(
    node: Node, metrics: Mapping[Node, OutputMetric], statistics: Mapping[Node, LayerStatistics]
) -> str | None:
    """Reason why a layer has no prediction, although it is a product with its weight; None if it has one."""
    if node not in metrics:
        return "its result has no effect on a floating-point output"
    if node not in statistics:
        return "its operand has no rows in the data"
    return None if bool(metrics[node].matrix.isfinite().all()) else "its effect on the outputs is not finite"


def _loss(
    graph: Graph, node: Node, metrics: Mapping[Node, OutputMetric], statistics: Mapping[Node, LayerStatistics]
) -> RoundingLoss:
    weight = torch_from(graph.weight_values(node.weights["weight"]))
    return RoundingLoss(weight, statistics[node], metrics[node].matrix, (Int8,) if node.op.has(SELECTS_ROWS) else ())


def _compensated(
    graph: Graph, node: Node, storages: Mapping[str, Storage], loss: RoundingLoss
) -> dict[str, np.ndarray]:
    """Values of the weight and the bias of a layer after `RoundingLoss.rounded`."""
    path = node.weights["weight"]
    rounded = loss.rounded(storages[path])
    values = {path: rounded.values}
    if rounded.shift is not None:
        values[node.weights["bias"]] = graph.weight_values(node.weights["bias"]) + rounded.shift
    return values


def _nearest(graph: Graph, storages: Mapping[str, Storage]) -> dict[str, np.ndarray]:
    """Values of weights, each rounded to nearest in its format."""
    found = {}
    for path, storage in storages.items():
        weight, values = graph.weights[path], graph.weight_values(path)
        found[path] = storage.decode(path, storage.encode(path, values), weight.shape, weight.dtype)
    return found
