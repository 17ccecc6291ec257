"""Quantization ranges of layers: those that are unclear change the scheme of a layer."""

from __future__ import annotations

from collections.abc import Mapping

from archc.analysis.layers import Layer
from archc.compression.quantization.ranges import Range
from archc.ir.graph import Node, Value
from archc.passmanager import Context

from ._schemes import Scheme


def ranges_of(layer: Layer, results: Mapping[Value, Node], ranges: Mapping[Value, Range]) -> list[Range]:
    """Ranges of a layer's quantized operands and results."""
    made = [ranges[value] for value, node in results.items() if node in layer.nodes]
    return [ranges[node.operands[0]] for node in layer.nodes] + made


def change_unclear(context: Context, schemes: dict[Layer, Scheme], seen: Mapping[Layer, list[Range]]) -> bool:
    """Change or remove the scheme of layers without a quantization range; return True if there are any."""
    unclear = {layer: spans for layer, spans in seen.items() if any(not one.finite or one.empty for one in spans)}
    for layer, spans in unclear.items():
        if all(one.finite for one in spans):
            schemes[layer] = "weight"
            context.note(layer.path, "its calibration data are all zero: scheme `weight`")
        else:
            del schemes[layer]
            context.left(layer.path, "its calibration data have no finite range")
    return bool(unclear)
