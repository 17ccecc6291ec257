"""Cross-layer equalization: scales that give the channels between two layers similar ranges.

A positively homogeneous operator f, such as relu, satisfies f(x / s) = f(x) / s for s > 0.  So a layer can divide its
output channels by scales, in its weight and bias, if the layers that use the result multiply their input channels by
the same scales.  The results of these layers stay the same, and the division takes no time.
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.)

The range of a value between the layers is that of its largest channel.  With equal ranges, the smaller channels get
finer steps.  This matters most before depthwise convolutions: a filter has one input channel, so its own scale absorbs
the scale of the channel, and its weights lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from archc.analysis.channels import Array, Channels
from archc.compression.quantization.channel_extremes import FOLDS, ChannelExtremes, channel_extremes, split_samples
from archc.compression.quantization.histograms import Batches
from archc.compression.quantization.layer_error import measured, squared_norm
from archc.compression.quantization.ranges import DynamicRange, Rounding
from archc.compression.quantization.smoothing import smoothing_scales
from archc.declaration.traits import Homogeneous, Quantizable
from archc.ir.graph import Graph, Node, Value
from archc.types.storage import Int8
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch

STRENGTHS = (0.5, 0.75, 1.0)
"""Candidates for the exponent α of `smoothing_scales`.

With 1, all channels between the layers get the same range.
"""
LEAST_SCALE = 1 / 256
"""Least scale of a channel, and the reciprocal of the largest one.

A channel that is smaller by more than this factor is below one step of the quantization without scales.
"""
_NONE = 0.0
"""Strength of no equalization."""
MEASURED_ELEMENTS = 1 << 19
"""Elements of an operand, in one fold of a batch, above which only some samples are measured."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer and the layers that use its result, directly or after homogeneous operators.

    Attributes:
        first: the layer whose output channels are divided.
        between: the operators between the layers, in the order of the data flow.
        second: the layers whose input channels are multiplied.
        axis: the axis of the channels, from `first` to `second`.
    """

    first: Node
    between: tuple[Node, ...]
    second: tuple[Node, ...]
    axis: int

    @property
    def operands(self) -> list[Value]:
        """The operands of the second layers, which are quantized."""
        return list(dict.fromkeys(node.operands[0] for node in self.second))

    def scaled_weights(self, graph: Graph, scales: Array) -> dict[str, Array]:
        """The divided weight and bias of `first`, and the multiplied weights of `second`, by path."""
        paths = self.first.weights
        result = Channels.of_result(self.first, self.axis)
        found = {paths["weight"]: result.scaled(_values(graph, paths["weight"]), 1 / scales)}
        if "bias" in paths:
            found[paths["bias"]] = _values(graph, paths["bias"]) / scales
        for node in self.second:
            path = node.weights["weight"]
            found[path] = Channels.of_operand(node, self.axis).scaled(_values(graph, path), scales)
        return {path: values.astype(np.float32) for path, values in found.items()}


@dataclass(frozen=True)
class Equalization:
    """Scales of the channels between two layers.

    Attributes:
        strength: the exponent α of `smoothing_scales`; None for the scales of the paper.
        error: squared error of the quantized layers, relative to their results, added over layers and batches.
        error_before: the same without scales.
    """

    strength: float | None
    scales: torch.Tensor
    error: float
    error_before: float


def best_equalizations(
    graph: Graph,
    pairs: Sequence[Pair],
    batches: Batches,
    strengths: Sequence[float] = STRENGTHS,
    per_channel: bool = True,
    dynamic: Mapping[Value, DynamicRange] = MappingProxyType({}),
) -> dict[Pair, Equalization]:
    """The scales with the least error for each pair.

    Pairs with infinite or NaN elements between the layers are left out.

    The error is that of the results of the second layers, with int8 weights of both layers and operands in u8.  It is
    measured on each fold of the samples of some batches, with the scales and the ranges of the other folds.  The
    resulting scales follow from all batches.  If weights have single scales, the scales of the paper are another
    candidate, which follow from the ranges of both weights alone.

    Args:
        strengths: exponents α of `smoothing_scales`.
        per_channel: True if each output channel of a weight has its own scale in int8.
        dynamic: the quantization of operands whose range is dynamic; other operands have a static range.
    """
    from archc.interpreter.evaluate import bind_sizes, evaluate_all

    axes = {value: pair.axis for pair in pairs for value in (*pair.operands, *_limits(pair))}
    seen = channel_extremes(graph, axes, batches)
    together = {value: extremes.together for value, extremes in seen.items()}
    without = [{value: extremes.without(number) for value, extremes in seen.items()} for number in range(FOLDS)]
    finite = [pair for pair in pairs if all(value in seen and together[value].finite for value in pair.operands)]
    candidates = {pair: _candidates(graph, pair, together, strengths, per_channel) for pair in finite}
    tried = {
        pair: [_candidates(graph, pair, extremes, strengths, per_channel) for extremes in without] for pair in finite
    }
    errors = {pair: dict.fromkeys(scales, 0.0) for pair, scales in candidates.items()}
    beginning: dict[Value, list[Pair]] = {}
    for pair in finite:
        beginning.setdefault(pair.first.operands[0], []).append(pair)
    for batch in measured(batches):
        sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batch.items()})
        for value, tensor in evaluate_all(graph, batch) if finite else ():
            for pair in beginning.get(value, ()) if tensor.numel() else ():
                for fold, extremes, scaled in zip(split_samples(tensor, pair.axis), without, tried[pair]):
                    run = _Run(graph, pair, _some_samples(fold, pair.axis), sizes, per_channel)
                    for strength, scales in scaled.items():
                        errors[pair][strength] += run.error(scales, _roundings(pair, scales, extremes, dynamic))
    found = {}
    for pair in finite:
        unscaled = errors[pair].pop(_NONE)
        best = min(errors[pair], key=errors[pair].__getitem__)
        found[pair] = Equalization(best, candidates[pair][best], errors[pair][best], unscaled)
    return found


def _roundings(
    pair: Pair,
    scales: torch.Tensor,
    extremes: Mapping[Value, ChannelExtremes],
    dynamic: Mapping[Value, DynamicRange],
) -> dict[Value, Rounding]:
    """Quantization of the operands of the second layers, divided by scales."""
    return {value: dynamic.get(value) or extremes[value].range(scales) for value in pair.operands}


class _Run:
    """Runs of a pair of layers on one batch of the operand of its first layer."""

    def __init__(self, graph: Graph, pair: Pair, operand: torch.Tensor, sizes: Mapping[str, int], per_channel: bool):
        self._graph = graph
        self._pair = pair
        self._operand = operand
        self._sizes = sizes
        self._per_channel = per_channel
        nodes = (pair.first, *pair.between, *pair.second)
        self._weights = {path: to_torch(graph.weight_values(path)) for node in nodes for path in node.weights.values()}
        self._expected = self._results(self._weights, {})

    def error(self, scales: torch.Tensor, roundings: Mapping[Value, Rounding]) -> float:
        """Squared error of the quantized layers, relative to their results, added over the second layers."""
        pair = self._pair
        changed = pair.scaled_weights(self._graph, scales.double().numpy())
        for node in (pair.first, *pair.second):
            path = node.weights["weight"]
            changed[path] = _rounded(node, changed[path], self._per_channel)
        weights = {**self._weights, **{path: to_torch(values) for path, values in changed.items()}}
        pairs = zip(self._results(weights, roundings), self._expected, strict=True)
        return sum(squared_norm(found - expected) / (squared_norm(expected) or 1.0) for found, expected in pairs)

    def _results(self, weights: Mapping[str, torch.Tensor], roundings: Mapping[Value, Rounding]) -> list[torch.Tensor]:
        from archc.interpreter.evaluate import run_node

        pair = self._pair
        tensors = {pair.first.operands[0]: self._operand}
        for node in (pair.first, *pair.between):
            (tensors[node.result],) = run_node(node, [tensors[node.operands[0]]], weights, self._sizes)
        for value, rounding in roundings.items():
            tensors[value] = rounding.rounded(tensors[value])
        return [run_node(node, [tensors[node.operands[0]]], weights, self._sizes)[0] for node in pair.second]


def _candidates(
    graph: Graph,
    pair: Pair,
    extremes: Mapping[Value, ChannelExtremes],
    strengths: Iterable[float],
    per_channel: bool,
) -> dict[float | None, torch.Tensor]:
    """Scales of the channels of a pair, by strength; `_NONE` has the scales 1."""
    import torch

    seen = torch.stack([extremes[value].largest for value in pair.operands]).amax(0)
    columns = np.stack(
        [Channels.of_operand(node, pair.axis).largest(_values(graph, node.weights["weight"])) for node in pair.second]
    )
    column = torch.from_numpy(columns.max(0)).to(seen.dtype)
    found: dict[float | None, torch.Tensor] = {_NONE: torch.ones_like(seen)}
    found |= {strength: smoothing_scales(seen, column, strength) for strength in strengths}
    if not per_channel:
        weight = _values(graph, pair.first.weights["weight"])
        row = torch.from_numpy(Channels.of_result(pair.first, pair.axis).largest(weight)).to(seen.dtype)
        found[None] = smoothing_scales(row, column, 0.5)  # sqrt(r₁ r₂) / r₂, up to a common factor
    return {strength: _bounded(pair, scales, seen, extremes) for strength, scales in found.items()}


def _bounded(
    pair: Pair, scales: torch.Tensor, seen: torch.Tensor, extremes: Mapping[Value, ChannelExtremes]
) -> torch.Tensor:
    """Scales with which the largest channel keeps its range, and operators with limits act on no element.

    An operator such as relu6 is homogeneous only below its limit.  A channel that reaches the limit in the calibration
    data gets the scale 1, and other channels stay below it.  In other data, an element beyond the limit is clipped, as
    the quantization with a static range also does.
    """
    import torch

    used = seen > 0
    if used.any():
        scales = scales * ((seen / scales).max() / seen.max())
    scales = scales.clamp(LEAST_SCALE, 1 / LEAST_SCALE)
    fits = used
    for value, (low, high) in _limits(pair).items():
        ends = extremes[value]
        scales = scales.maximum(ends.high / high * (1 + 1e-6)).maximum(ends.low / low * (1 + 1e-6))
    for value, (low, high) in _limits(pair).items():
        ends = extremes[value]
        fits = fits & (ends.low > low) & (ends.high < high)
        fits = fits & (ends.low / scales >= low) & (ends.high / scales <= high)
    return torch.where(fits, scales, 1.0)


def _limits(pair: Pair) -> dict[Value, tuple[float, float]]:
    """The operands of the operators between that have limits, with these limits."""
    limits = {
        node.operands[0]: trait.limits(node.op)
        for node in pair.between
        if (trait := node.op.trait(Homogeneous)) is not None
    }
    return {value: ends for value, ends in limits.items() if any(math.isfinite(end) for end in ends)}


def _some_samples(operand: torch.Tensor, axis: int) -> torch.Tensor:
    """Samples of an operand, distributed evenly, with about `MEASURED_ELEMENTS` elements at most."""
    if axis == 0:
        return operand
    count = max(1, MEASURED_ELEMENTS // operand[0].numel())
    return operand[:: -(-len(operand) // count)]


def _rounded(node: Node, weight: Array, per_channel: bool) -> Array:
    """Quantize a weight to int8 and dequantize it."""
    quantizable = node.op.trait(Quantizable) or Quantizable()
    storage = Int8(quantizable.channel_axis if per_channel else None)
    return storage.decode("w", storage.encode("w", weight), weight.shape, DType.f32)


def _values(graph: Graph, path: str) -> Array:
    values: Array = graph.weight_values(path).astype(np.float64)
    return values
