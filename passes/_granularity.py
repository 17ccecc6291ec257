"""Choice of the granularity of dynamic operands: one scale for the operand, or one for each token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from archc.analysis.layers import Layer
from archc.compression.quantization.layer_error import errors_of_ranges
from archc.compression.quantization.ranges import DynamicRange
from archc.ir.graph import Graph, Node, Value
from archc.ops.quantize import Granularity
from archc.passmanager import Context

LARGEST_SHARE = 0.5
"""Largest ratio of the error with scales of tokens to the error without, for which tokens get scales.

Scales of tokens take time: with all operands of MiniLM, 15 % of the latency at batch 1, and a third at batch 32.
"""
ENOUGH = 0.95
"""Share of the possible reduction of the error, summed over all layers, that is worth the time.

In MiniLM, about half of 24 operands reach this share.  Each operand costs 1 % of the time of a sentence of 64 tokens.
"""
TENSOR, TOKEN = DynamicRange("tensor"), DynamicRange("token")


def dynamic_ranges(
    graph: Graph, context: Context, layers: Iterable[Layer], asked: Granularity | None
) -> dict[Layer, DynamicRange]:
    """The quantization of the operands of dynamic layers; layers with a common operand agree.

    Args:
        asked: the granularity of all layers; None to choose it by the squared error of the results of the layers on the
            calibration data, largest reductions first.
    """
    chosen = list(layers)
    if asked is not None:
        return dict.fromkeys(chosen, DynamicRange(asked))
    users: dict[Value, list[Node]] = {}
    for layer in chosen:
        for node in layer.nodes:
            users.setdefault(node.operands[0], []).append(node)
    candidates = dict.fromkeys(users, (TENSOR, TOKEN))
    errors = errors_of_ranges(graph, candidates, users, context.calibration.batches)
    gains = {value: of[TENSOR] - of[TOKEN] for value, of in errors.items() if of[TOKEN] < LARGEST_SHARE * of[TENSOR]}
    tokens = set(_largest(gains, ENOUGH * sum(gains.values())))
    # A layer with several uses has one granularity.
    return {layer: TOKEN if all(node.operands[0] in tokens for node in layer.nodes) else TENSOR for layer in chosen}


def _largest(gains: Mapping[Value, float], enough: float) -> Iterator[Value]:
    """Values in the order of their gains, until these sum to `enough`."""
    total = 0.0
    for value, gain in sorted(gains.items(), key=lambda item: -item[1]):
        if total >= enough:
            break
        total += gain
        yield value
