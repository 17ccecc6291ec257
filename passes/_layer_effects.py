"""Figures of the effect of each quantized layer on its result and on the outputs, for its remark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from archc.analysis.layers import Layer
from archc.compression.calibration.layer_effects import layer_effects, original_weights
from archc.compression.calibration.output_metric import LARGEST_MODEL
from archc.compression.quantization.layer_error import measured
from archc.compression.quantization.quantized_matrix import QuantizedMatrix
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

from ._int8_weights import StoredWeights


def measurable_nodes(graph: Graph, context: Context, nodes: Iterable[Node]) -> list[Node]:
    """The nodes whose effects can be measured.

    There are none without calibration data, in models so large that gradients need too much memory, and if remarks
    are brief.
    """
    if context.brief:
        return []
    small = sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL
    return [*nodes] if small and context.calibration.real else []


class EffectMeter:
    """Measurement of the effects of layers; made before the quantization of their weights, it keeps these."""

    def __init__(self, graph: Graph, context: Context, layers: Iterable[Layer]):
        self._graph, self._context = graph, context
        nodes = measurable_nodes(graph, context, (node for layer in layers for node in layer.nodes))
        self._originals = original_weights(graph, nodes)
        self._refitted: set[Node] = set()

    def note(self, node: Node, found: QuantizedMatrix) -> None:
        """Note that a weight was quantized by data: its rounding error is relative to the refitted weight."""
        if found.fitted is not None and node in self._originals:
            self._originals[node] = {node.weights["weight"]: found.fitted}
            self._refitted.add(node)

    def with_effects(self, stored: Mapping[Layer, StoredWeights]) -> dict[Layer, StoredWeights]:
        """Add the effects to the figures of layers, after their quantization.

        If a layer has several uses, the signal-to-noise ratio is that of the worst use, and the errors of the outputs
        are added.
        """
        if not self._originals:
            return dict(stored)
        self._context.progress("measure the effect of each layer on the outputs")
        batches = measured(self._context.calibration.batches)
        effects = layer_effects(self._graph, self._originals, batches, self._refitted)
        found = dict(stored)
        for layer in stored:
            own = [effects[node] for node in layer.nodes if node in effects]
            if own:
                ratios = [effect.snr_db for effect in own if effect.snr_db is not None]
                errors = [effect.output_error for effect in own if effect.output_error is not None]
                total = sum(errors) if len(errors) == len(own) else None
                found[layer] = replace(stored[layer], snr_db=min(ratios, default=None), output_error=total)
        return found
