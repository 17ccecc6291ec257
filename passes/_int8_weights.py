"""Storage of layers' weights as int8."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.quantization.weight_formats import Array, Encoded
from archc.ir.graph import Graph, Node
from archc.ir.match import NoMatch, any_value, match, pattern, result_of
from archc.passmanager import Context
from archc.types.storage import FakeQuantized, Int8, LowRankStorage, Masked, Storage
from archc.types.tensor_type import DType

from ._factor_formats import format_for, has_float_factors, set_format

LARGEST_BIAS = 2.0**30
"""Largest bias as a multiple of the operand's scale times the weight's scale.

Half of the range of int32 remains for the sum of products.
"""

SCALES = 0.1
"""Largest ratio of the bytes of a weight's scales to the bytes of its int8 elements, for `_best_axis`."""


Method = Literal["gptq", "rtn", "training"]
"""Rounding of weights: by GPTQ on calibration data, to nearest, or in each run of a training."""


@dataclass(frozen=True)
class StoredWeights:
    """Result of storing the weights of a layer.

    Attributes:
        formats: names of the formats.
        count: number of weights.
        before, after: bytes of the weights.
        error: relative error of all weights together, in the Frobenius norm.
        snr_db: signal-to-noise ratio of the layer's result in decibels, with the rounding of the weights and of the
            operands as noise; None if it is not known.
        output_error: expected squared error of the outputs from this layer alone, relative to their mean squares; None
            if it is not known.
    """

    formats: str
    count: int
    before: int
    after: int
    error: float
    method: Method = "rtn"
    snr_db: float | None = None
    output_error: float | None = None


Obstacles = Mapping[Layer, Mapping[str, str]]
"""For each layer, the weights that cannot become integers, by name, each with the reason."""


def obstacles_of_layers(graph: Graph, trains: bool = False) -> Obstacles:
    """Weights of all layers that cannot be stored as integers, with the reasons.

    Args:
        trains: True for fake quantization, which does not apply to factors.
    """
    found: dict[Layer, dict[str, str]] = {}
    for layer in layers_with_weights(graph):
        reasons = ((name, _obstacle(graph, layer, name, trains)) for name in layer.weights)
        found[layer] = {name: reason for name, reason in reasons if reason is not None}
    return found


def _obstacle(graph: Graph, layer: Layer, name: str, trains: bool) -> str | None:
    path = layer.weights[name]
    weight, title = graph.weights[path], "its weight" if name == "weight" else f"its `{name}`"
    if not weight.storage.elementwise and (trains or not has_float_factors(layer, weight)):
        return f"{title} is stored as {weight.storage} already"
    if name in layer.node.transposed:
        return f"{title} is the transpose of `{path}`: int8 scales of `{path}` would be along the summed axis"
    if weight.dtype is not DType.f32:
        return f"{title} is {weight.dtype}, but only f32 weights can be stored as int8"
    if not np.isfinite(graph.weight_values(path)).all():
        return f"{title} has NaN or infinite elements"
    return None


def store_as_int8(
    graph: Graph,
    context: Context,
    layer: Layer,
    names: Iterable[str],
    axes: Mapping[str, int] | None,
    least: Mapping[str, Array],
    given: Mapping[str, Encoded] = MappingProxyType({}),
) -> StoredWeights:
    """Store weights of a layer as int8, except shared weights that an earlier layer has stored.

    Args:
        axes: the axis along which the scales of a weight differ, by path; see `channel_axes`.  None for single scales.
        least: lower bounds on the scales of some weights, by path; see `minimum_scales`.
        given: the weights that are rounded already, by path.
    """
    values = {layer.weights[name]: graph.weight_values(layer.weights[name]) for name in names}
    for path, dense in values.items():
        weight = graph.weights[path]
        if has_float_factors(layer, weight):
            set_format(graph, context.rewriter, path, format_for(weight, int8_format(path, dense, axes)))
        elif weight.storage.elementwise:
            if isinstance(weight.storage, Masked):
                context.note(layer.path, "int8 replaces its mask; masked weights stay zero")
            if path in given:
                context.rewriter.set_storage(path, *given[path])
            else:
                storage = int8_format(path, dense, axes)
                lowest = 0.0 if storage.axis is None else least.get(path, 0.0)
                context.rewriter.set_storage(path, storage, storage.encode(path, dense, lowest))
    return stored_weights(graph, values, "gptq" if given else "rtn")


def int8_format(path: str, values: Array, axes: Mapping[str, int] | None) -> Int8:
    """The int8 format of a weight, with a scale for each slice along an axis.

    Args:
        axes: axes by path; see `channel_axes`.  Other weights have the axis with the smallest error.  None for single
            scales.
    """
    return Int8(None if axes is None else axes[path] if path in axes else _best_axis(values))


def stored_weights(graph: Graph, values: Mapping[str, Array], method: Method) -> StoredWeights:
    """Formats, bytes and error of weights after they were stored.

    Args:
        values: the weights before, by path.
    """
    weights = [graph.weights[path] for path in values]
    errors = [_norm(graph.weight_values(path) - dense) for path, dense in values.items()]
    names = (_format_name(weight.storage) for weight in weights)
    return StoredWeights(
        formats=", ".join(dict.fromkeys(names)),
        count=len(weights),
        before=sum(weight.storage.parameters(weight.shape) * weight.dtype.size for weight in weights),
        after=sum(weight.nbytes for weight in weights),
        error=math.hypot(*errors) / (math.hypot(*map(_norm, values.values())) or 1.0),
        method=method,
    )


def _format_name(storage: Storage) -> str:
    if isinstance(storage, LowRankStorage) and storage.format is not None:
        return f"factors of {_format_name(storage.format)}"
    if isinstance(storage, FakeQuantized):
        return _format_name(storage.format)
    return storage.name or str(storage)


def channel_axes(layers: Iterable[Layer]) -> dict[str, int]:
    """Axes along which the scales of weights differ, by path, for the layers whose kernels need one.

    A shared weight may also belong to a layer that allows any axis.
    """
    axes = ((layer, layer.quantizable.channel_axis) for layer in layers)
    return {path: axis for layer, axis in axes if axis is not None for path in layer.weights.values()}


def minimum_scales(graph: Graph, layers: Iterable[Layer]) -> dict[str, Array]:
    """Lower bounds on weight scales, by path and output channel, so that int32 can hold the biases.

    Integer kernels add the bias as a multiple of the operand's scale times the weight's scale.
    """
    found: dict[str, Array] = {}
    for layer in layers:
        scales = [scale for node in layer.nodes if (scale := _operand_scale(graph, node)) is not None]
        if not scales or "bias" not in layer.node.weights or "weight" not in layer.weights:
            continue
        path = layer.weights["weight"]
        bias = graph.weight_values(layer.node.weights["bias"])
        axis = layer.quantizable.channel_axis
        if axis is None or graph.weights[path].shape[axis] != len(bias):
            continue
        with np.errstate(over="ignore"):
            least = np.abs(bias).astype(np.float64) / (min(scales) * LARGEST_BIAS)
        least = np.where(least < np.finfo(np.float32).max, least, 0).astype(np.float32)
        found[path] = np.maximum(found[path], least) if path in found else least
    return found


_STATIC = pattern("quantize", attributes={"axis": None, "dynamic": False}, bind="quantize")
_DECODED = pattern((), result_of(pattern("dequantize", any_value(), result_of(_STATIC))))
"""A node whose first operand was quantized with a static scale."""


def _operand_scale(graph: Graph, node: Node) -> float | None:
    """Static scale with which a layer's first operand is dequantized, or None."""
    found = match(_DECODED, node, graph)
    if isinstance(found, NoMatch):
        return None
    return float(graph.weight_values(found["quantize"].weights["scale"]))


def _best_axis(values: np.ndarray) -> int | None:
    """Axis along which scales give the smallest error, within the limit `SCALES`; None for a single scale."""
    axes: list[int | None] = [None]
    axes += [axis for axis, extent in enumerate(values.shape) if extent > 1 and 4 * extent <= SCALES * values.size]
    return min(axes, key=lambda axis: _norm(_round_trip(Int8(axis), values) - values))


def _round_trip(storage: Int8, values: np.ndarray) -> np.ndarray:
    return storage.decode("w", storage.encode("w", values), values.shape, DType.f32)


def _norm(values: np.ndarray) -> float:
    """Frobenius norm in float64, without BLAS, whose sums depend on the number of threads."""
    return math.sqrt(np.square(values, dtype=np.float64).sum())
