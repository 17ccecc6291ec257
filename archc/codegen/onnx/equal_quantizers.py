"""Removal of quantizers that repeat another one.

The pass `quant` inserts a `quantize` in every block that uses a value, so that each emitted PyTorch block has its own
quantizers.  An ONNX model has no blocks: one `QuantizeLinear` serves all uses.  ONNX Runtime computes an operator, such
as a residual addition, on integers only if a single `QuantizeLinear` uses its result.
`archc.codegen.onnx.rewrites` lists the rewrites.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.codegen.onnx.nodes import OnnxNode, OnnxValue
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import Match, any_value, pattern, result_of

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

REPEATED_QUANTIZER = pattern(_QUANTIZE, any_value("source"))
QUANTIZED_INTEGERS = pattern(_QUANTIZE, result_of(pattern(_DEQUANTIZE, bind="decoder")))


def merge_with_earlier(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace a quantizer by an earlier one of the same value with equal scale and zero point."""
    for other in onnx.nodes.uses.consumers(found["source"]):
        if other is node:
            return
        if other.kind == _QUANTIZE and other.operands[0] is found["source"] and have_equal_grids(onnx, node, other):
            _replace(onnx, node, other.results[0])
            return


def use_integers_again(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace a quantizer of dequantized integers by these integers, if scale and zero point are equal."""
    decoder = found["decoder"]
    integers = decoder.operands[0]
    if integers.constant is None and have_equal_grids(onnx, node, decoder):
        _replace(onnx, node, integers)
        if onnx.nodes.is_unused(decoder.results[0]):
            onnx.nodes.remove(decoder)


def have_equal_grids(onnx: OnnxGraph, first: OnnxNode, second: OnnxNode) -> bool:
    """Return whether two quantizers or dequantizers have equal scales, zero points and axes."""
    if first.attribute("axis") != second.attribute("axis"):
        return False
    grids: list[Sequence[OnnxValue | None]] = [node.operands[1:] for node in (first, second)]
    return len(grids[0]) == len(grids[1]) and all(_are_equal(onnx, a, b) for a, b in zip(*grids))


def _are_equal(onnx: OnnxGraph, a: OnnxValue | None, b: OnnxValue | None) -> bool:
    if a is b:
        return True
    weights = onnx.graph.weights
    if a is None or b is None or a.name not in weights or b.name not in weights:
        return False
    if weights[a.name].shape or weights[b.name].shape or weights[a.name].dtype is not weights[b.name].dtype:
        return False  # only quantizers with one scale repeat
    return bool(onnx.graph.weight_values(a.name) == onnx.graph.weight_values(b.name))


def _replace(onnx: OnnxGraph, node: OnnxNode, integers: OnnxValue) -> None:
    """Replace the result of a quantizer in all uses, and remove the quantizer."""
    nodes, (result,) = onnx.nodes, node.results
    if nodes.uses.is_output(result):
        return
    for consumer in nodes.uses.consumers(result):
        for position, operand in enumerate(consumer.operands):
            if operand is result:
                nodes.set_operand(consumer, position, integers)
    nodes.remove(node)
