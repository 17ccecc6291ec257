"""Budget of a check: cost up to which a model is checked by default, and time limit of the check."""

from __future__ import annotations

from collections.abc import Mapping

from archc.analysis.cost import NodeCosts, cost
from archc.ir.graph import Graph

MULTIPLY_ADDS = 20_000_000_000
"""Limit on the multiply-adds of one run on random inputs.

A model above the limit is not checked by default.
"""
BYTES = 1_000_000_000
"""Limit on the bytes of weights and results of one run.

A model above the limit is not checked by default.
"""
SECONDS = 120.0
"""Time limit of a check in seconds, for a model without multiply-adds."""
RATE = 100_000_000
"""Multiply-adds that add one second to the time limit.

One core computes about 100 times as many in a second.
"""


def over_budget(graph: Graph) -> str | None:
    """Reason why a model is too expensive to be checked by default; None if it is within the budget."""
    sizes = check_sizes(graph)
    multiply_adds, stored = _cost(graph, sizes)
    at = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    run = f"a run at {at}" if at else "a run"
    if multiply_adds > MULTIPLY_ADDS:
        return f"{run} takes {multiply_adds:,} multiply-adds, more than {MULTIPLY_ADDS:,}"
    if stored > BYTES:
        return f"the weights and {run} take {stored:,} bytes, more than {BYTES:,}"
    return None


def time_limit(graph: Graph) -> float:
    """Time limit of a check, in seconds."""
    return SECONDS + _cost(graph, check_sizes(graph))[0] / RATE


def check_sizes(graph: Graph) -> Mapping[str, int]:
    """Values of the symbolic sizes, for the random inputs of a check."""
    from archc.interpreter.sample_inputs import sample_sizes

    return sample_sizes(graph)


def _cost(graph: Graph, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Multiply-adds of one run, and bytes of the weights and of all results of the run."""
    figures, single = cost(graph, sizes), NodeCosts(graph, sizes)
    return figures.multiply_adds, figures.bytes + sum(map(single.activations, graph.nodes()))
