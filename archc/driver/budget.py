"""The cost of a check: what is checked without being asked to, and how long a check may take."""

from __future__ import annotations

from collections.abc import Mapping

from archc.ir.cost import Costs, cost
from archc.ir.graph import Graph

MULTIPLY_ADDS = 20_000_000_000
"""The most multiply-adds of one run, on the batch of random inputs, for which a model is checked by default."""
BYTES = 1_000_000_000
"""The most bytes of its weights and of all that one run computes."""
SECONDS = 120.0
"""The time limit of a check, for a model that costs nothing."""
RATE = 100_000_000
"""Multiply-adds a second that are added to the time limit: a hundredth of what one core does."""


def over_budget(graph: Graph) -> str | None:
    """Why a model is too expensive to be checked by default, or None where it is not."""
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
    """The seconds after which a check is stopped."""
    return SECONDS + _cost(graph, check_sizes(graph))[0] / RATE


def check_sizes(graph: Graph) -> Mapping[str, int]:
    """The symbolic sizes of the random inputs that a check runs on."""
    from archc.ops.samples import sample_sizes

    return sample_sizes(graph)


def _cost(graph: Graph, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Multiply-adds, and bytes of the weights and of all results."""
    figures, single = cost(graph, sizes), Costs(graph, sizes)
    return figures.multiply_adds, figures.bytes + sum(map(single.activations, graph.nodes()))
