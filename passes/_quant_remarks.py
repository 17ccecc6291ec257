"""Remarks of `quant` on layers in int8, and on layers that `fold` can remove."""

from __future__ import annotations

from collections.abc import Set

from archc.analysis.layers import Layer
from archc.compression.ranges import Range
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

from ._int8_weights import StoredWeights
from ._schemes import Scheme
from .fold import foldable


def remark_on_foldable(graph: Graph, context: Context, quantized: Set[Node]) -> None:
    """Add a note if `fold` can remove operators after quantized layers, which stay in floats."""
    titles = [norm.title for norm, layer in foldable(graph) if layer in quantized]
    if titles:
        others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        context.note(
            graph.name, f'`fold` can remove `{titles[0]}`{others}: run it before `quant`, `--passes "fold, quant"`'
        )


def remark_on_layer(
    context: Context, layer: Layer, scheme: Scheme, received: list[Range], stored: StoredWeights
) -> None:
    """Add the remark on a quantized layer."""
    seen = "".join(f", operand range {span.low:.4g} to {span.high:.4g}" for span in dict.fromkeys(received))
    figures: dict[str, float | int | str] = {
        "scheme": scheme,
        "bytes_before": stored.before,
        "bytes_after": stored.after,
        "error": round(stored.error, 6),
    }
    if received:
        figures |= {"low": round(received[0].low, 6), "high": round(received[0].high, 6)}
    where = "weight" if len(layer.weights) == 1 else f"{len(layer.weights)} weights"
    context.rewrote(layer.path, f"{scheme}: {stored.error:.2%} error in the {where}{seen}", **figures)
