"""Quantization of layers to int8: their weights and, by the scheme of each layer, their operands."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from archc.analysis.layers import Layer
from archc.compression.quantization.observers import Observer, observe, observe_by_error
from archc.compression.quantization.ranges import DynamicRange, Range
from archc.compression.quantization.weight_formats import Array, Encoded
from archc.ir.graph import Graph, Node, Value
from archc.ops.quantize import Granularity
from archc.ops.recurrent import Recurrent
from archc.passmanager import Context

from ._equalization import equalize
from ._fake_quantization import fake_quantize_as_int8
from ._granularity import dynamic_ranges
from ._int8_by_data import int8_data_obstacle, store_by_data
from ._int8_weights import Obstacles, StoredWeights, channel_axes, minimum_scales, store_as_int8
from ._integer_operators import integer_operators, operators_without_range, remark_on_operators, share_ranges
from ._layer_effects import EffectMeter
from ._operand_ranges import change_unclear, ranges_of
from ._quant_remarks import remark_on_foldable, remark_on_layer, remark_on_nearest
from ._quantize_dequantize import QdqInserter, QdqPlan
from ._quantized_values import quantized_operands, results_to_quantize
from ._recurrent_operands import quantize_inside, quantizes_inside
from ._recurrent_weights import recurrent_obstacle, round_recurrent
from ._schemes import Scheme, SchemeChoice
from ._smoothing import smooth


@dataclass(frozen=True)
class Int8Layers:
    """Quantization of the layers of a graph to int8, by options of `quant`.

    Attributes:
        choice: chooses the scheme of each layer.
        granularity, observer, percentile: see `Quant`.
        strength: strength of SmoothQuant and of equalization; None to choose it by error on the calibration data.
        training: True for fake quantization.
        by_data: True if the calibration data choose the weights.
    """

    choice: SchemeChoice
    granularity: Literal["channel", "tensor", "token"] | None
    observer: Observer | None
    percentile: float
    strength: float | None
    training: bool
    by_data: bool

    def quantize(self, graph: Graph, context: Context, obstacles: Obstacles) -> Mapping[Layer, Scheme]:
        """Quantize the selected layers, add remarks on all layers, and return those with schemes."""
        schemes = self.choice.schemes(graph, context, obstacles)
        dynamic = self._dynamic_ranges(graph, context, schemes)
        self._scale_channels(graph, context, schemes, dynamic)
        plan = self._calibrate(graph, context, schemes)
        ranges = {layer: _static_ranges(layer, plan) for layer, scheme in schemes.items() if scheme == "static"}
        remark_on_foldable(graph, context, {node for layer in schemes for node in layer.nodes})
        remark_on_operators(graph, context, plan.operators)
        rounding = self._insert_quantizers(graph, context, schemes, dynamic, plan)
        meter = EffectMeter(graph, context, () if self.training else schemes)
        stored = self._store(graph, context, schemes, obstacles, rounding, meter)
        for layer in schemes:
            if quantizes_inside(layer) and self.choice.scheme != "weight":
                if self.training:
                    context.note(layer.path, "its operands stay in floats in training")
                else:
                    quantize_inside(graph, context, layer, self.choice.break_even.recurrent_step)
        for layer, weights in meter.with_effects(stored).items():
            remark_on_layer(context, layer, schemes[layer], ranges.get(layer, []), weights)
        return schemes

    @property
    def _per_channel(self) -> bool:
        """Return whether a weight has a scale for each channel."""
        return self.granularity != "tensor"

    def _dynamic_ranges(
        self, graph: Graph, context: Context, schemes: Mapping[Layer, Scheme]
    ) -> Mapping[Layer, DynamicRange]:
        layers = [layer for layer, scheme in schemes.items() if scheme == "dynamic"]
        asked: Granularity | None = "token" if self.granularity == "token" else "tensor"
        if self.granularity is None and self.by_data and context.calibration.real:
            asked = None
        return dynamic_ranges(graph, context, layers, asked)

    def _scale_channels(
        self,
        graph: Graph,
        context: Context,
        schemes: Mapping[Layer, Scheme],
        dynamic: Mapping[Layer, DynamicRange],
    ) -> None:
        """Equalize and smooth the channels of operands; without calibration data, only if a strength is given."""
        if self.strength == 0 or (self.strength is None and not context.calibration.real):
            return
        layers = {layer: dynamic.get(layer) for layer, scheme in schemes.items() if scheme != "weight"}
        equalize(graph, context, schemes, layers, self.strength, self._per_channel)
        smooth(graph, context, layers, self.strength, self._per_channel)

    def _calibrate(self, graph: Graph, context: Context, schemes: dict[Layer, Scheme]) -> QdqPlan:
        """Values to quantize, with their ranges.

        A layer without a range gets another scheme, or is removed from `schemes`.
        """
        warned = context.calibration.real
        excluded: set[Node] = set()
        while True:
            layers = [layer for layer, scheme in schemes.items() if scheme == "static"]
            static = [node for layer in layers for node in layer.nodes]
            operators = integer_operators(graph, static, excluded)
            results = results_to_quantize(graph, [*static, *operators])
            if static and not warned:
                context.note(graph.name, "calibrated on random inputs: pass calibration data to get realistic ranges")
                warned = True
            operands = [value for node in operators for value in quantized_operands(node)]
            ranges = self._ranges(graph, context, static, [*operands, *results])
            seen = {layer: ranges_of(layer, results, ranges) for layer in layers}
            unclear = operators_without_range(operators, results, ranges)
            excluded.update(unclear)
            if not change_unclear(context, schemes, seen) and not unclear:
                return QdqPlan(operators, results, share_ranges(graph, static, operators, results, ranges))

    def _ranges(
        self, graph: Graph, context: Context, static: Iterable[Node], others: Iterable[Value]
    ) -> dict[Value, Range]:
        users: dict[Value, list[Node]] = {}
        for node in static:
            users.setdefault(node.operands[0], []).append(node)
        for value in others:
            users.setdefault(value, [])
        batches = context.calibration.batches
        if not users:
            seen = {}
        elif self.observer is None and context.calibration.real:
            seen = {value: found for value, (_, found) in observe_by_error(graph, users, batches).items()}
        else:
            seen = observe(graph, users, batches, self.observer or "minmax", self.percentile)
        return {value: seen.get(value, Range(math.nan, math.nan)) for value in users}

    def _insert_quantizers(
        self,
        graph: Graph,
        context: Context,
        schemes: Mapping[Layer, Scheme],
        dynamic: Mapping[Layer, DynamicRange],
        plan: QdqPlan,
    ) -> Collection[Node]:
        """Insert `quantize` and `dequantize`, and return the new nodes."""
        before = set(graph.nodes())
        inserter = QdqInserter(graph, context, plan.ranges, self.training)
        for value, node in plan.results.items():
            inserter.quantize_result(value, node)
        for layer, scheme in schemes.items():
            for node in layer.nodes if scheme != "weight" else ():
                inserter.quantize_operands(node, dynamic[layer].granularity if layer in dynamic else "tensor")
        for node in plan.operators:
            inserter.quantize_operands(node)
        return set(graph.nodes()) - before

    def _store(
        self,
        graph: Graph,
        context: Context,
        schemes: Mapping[Layer, Scheme],
        obstacles: Obstacles,
        rounding: Collection[Node],
        meter: EffectMeter,
    ) -> Mapping[Layer, StoredWeights]:
        """Store the weights as int8, by the calibration data where this is possible, else rounded to nearest."""
        least = minimum_scales(graph, schemes)
        axes = channel_axes(schemes) if self._per_channel else None
        free = [layer for layer in schemes if not obstacles[layer]]
        by_data = self.by_data and self._per_channel and not self.training
        stored = store_by_data(graph, context, free if by_data else [], least, rounding, meter)
        for layer in schemes:
            if layer in stored:
                continue
            names = [name for name in layer.weights if name not in obstacles[layer]]
            if self.training:
                stored[layer] = fake_quantize_as_int8(graph, context, layer, names, axes)
            else:
                rounded = self._rounded_by_data(graph, context, layer, obstacles, least)
                stored[layer] = store_as_int8(graph, context, layer, names, axes, least, rounded)
        return stored

    def _rounded_by_data(
        self, graph: Graph, context: Context, layer: Layer, obstacles: Obstacles, least: Mapping[str, Array]
    ) -> Mapping[str, Encoded]:
        """Weights of a recurrent layer, by path, or none and a remark with the reason."""
        if not self.by_data:
            return {}
        recurrent = isinstance(layer.op, Recurrent)
        if not self._per_channel:
            reason: str | None = "the whole weight has one scale"
        elif obstacles[layer]:
            reason = "some of its weights stay as they are"
        elif recurrent:
            reason = recurrent_obstacle(graph, context, layer)
        else:
            reason = int8_data_obstacle(graph, layer, least)
        if reason is None and recurrent:
            return round_recurrent(graph, context, layer)
        if reason is not None:
            remark_on_nearest(context, layer, reason)
        return {}


def _static_ranges(layer: Layer, plan: QdqPlan) -> list[Range]:
    return [plan.ranges[node.operands[0]] for node in layer.nodes if node.operands[0] in plan.ranges]
