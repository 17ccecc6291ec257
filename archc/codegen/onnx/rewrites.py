"""The rewrites of emitted nodes, in the order in which they run.

Each rewrite avoids a fault of ONNX Runtime, which its docstring describes.  A rewrite is a pattern, and a function that
changes the graph around a node that matches.  Most models lack an operator or a constant that a pattern needs, such as
a quantizer, so most rewrites are skipped without a walk over the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from archc.codegen.onnx import barriers, equal_quantizers, fusible, transposes
from archc.codegen.onnx.nodes import OnnxNode
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import Match, NodePattern, NoMatch, match

Change: TypeAlias = Callable[[OnnxGraph, OnnxNode, Match], None]
"""A function that changes the nodes of a graph around a node that matches."""

REWRITES: tuple[tuple[NodePattern, Change], ...] = (
    (transposes.TRANSPOSE, transposes.store_transpose),
    (equal_quantizers.REPEATED_QUANTIZER, equal_quantizers.merge_with_earlier),
    (equal_quantizers.QUANTIZED_INTEGERS, equal_quantizers.use_integers_again),
    # Let ONNX Runtime fuse integer kernels.
    (fusible.RELU_OF_INTEGERS, fusible.replace_relu),
    (fusible.QUANTIZED_MOVE, fusible.quantize_before_moves),
    (fusible.QUANTIZED_POOL, fusible.clip_after_pool),
    (fusible.MOVED_INT8, fusible.dequantize_after_move),
    # Prevent wrong fusions.  The copies would hide patterns from the rewrites above.
    (barriers.QUANTIZED_ALONG_AN_AXIS, barriers.separate),
    (barriers.DEQUANTIZED_ALONG_AN_AXIS, barriers.separate_from_consumers),
    (barriers.QUANTIZED_AGAIN, barriers.separate_from_other_grid),
    (barriers.FLOAT_WEIGHT, barriers.separate),
    (barriers.PADDED_POOL, barriers.separate),
    (barriers.SCALED_AGAIN, barriers.separate),
    (barriers.F64_PRODUCT_THEN_SCALED, barriers.separate),
    (barriers.F64_SCALED_THEN_LEFT, barriers.separate),
    (barriers.F64_SCALED_THEN_RIGHT, barriers.separate),
)


def rewrite(onnx: OnnxGraph, outputs: Iterable[str]) -> None:
    """Apply all rewrites to the nodes of a graph or of the body of a scan, which has the given outputs."""
    nodes = onnx.nodes
    for name in outputs:
        nodes.uses.add_output(nodes.value(name))
    for form, change in REWRITES:
        if form.can_match(nodes.present):
            for node in [node for node in nodes if form.accepts(node)]:
                found = match(form, node, nodes.uses)
                if not isinstance(found, NoMatch):
                    change(onnx, node, found)
