"""Groups that are on the same side of every cut, merged before the search for a split below some bottleneck.

In a split with a bottleneck below the limit, the devices before a cut carry all ancestors of what is before it, and
those behind it all descendants of what is behind.  So a group with too heavy ancestors is behind the cut, and one with
too heavy descendants before it.  Of two groups that this decides alike for each state of the devices, every such split
has both in one stage.  In a long graph it decides all but those near the cuts.

How heavy the ancestors are is counted along the heaviest path, from the last group that everything passes: those
before it are all its ancestors, and those after it all its descendants.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from archc.partitioning.bounds import ROUNDING, Bounds
from archc.partitioning.dag import Dag, merge

if TYPE_CHECKING:
    import numpy as np


def narrow(dag: Dag, bounds: Bounds, limit: float) -> tuple[Dag, np.ndarray]:
    """The graph with those merged that any split below the limit has in one stage, and the new group of each."""
    import numpy as np

    above, below = _weights(dag, bounds.weights)
    states = [state for state, spent in enumerate(bounds.lineup.states) if any(spent) and spent != bounds.lineup.total]
    before = bounds.before[states] * limit * (1 + ROUNDING)
    behind = bounds.behind[states] * limit * (1 + ROUNDING)
    is_behind = np.asarray(np.greater.outer(above, before))
    is_before = np.asarray(np.greater.outer(below, behind))
    # No cut is in a state in which a group would be on both sides.
    possible = ~(is_behind & is_before).any(axis=0)
    decided = (is_behind | is_before)[:, possible].all(axis=1)
    sides = np.packbits(is_before[:, possible], axis=1)
    first: dict[bytes, int] = {}
    labels = [first.setdefault(side.tobytes(), at) if decided[at] else at for at, side in enumerate(sides)]
    if labels == list(range(len(dag))):
        return dag, np.arange(len(dag))
    merged = merge(dag, labels)
    group = {task: number for number, tasks in enumerate(merged.groups) for task in tasks}
    return merged, np.array([group[tasks[0]] for tasks in dag.groups])


def _weights(dag: Dag, weights: np.ndarray) -> tuple[list[float], list[float]]:
    """At most the weight of each group with its ancestors, and at most that with its descendants."""
    passed = _passed(dag)
    # One sum serves from either end, so both are lowered by what rounding can do to it.
    sums = list(accumulate(weights.tolist()))
    slack = sums[-1] * ROUNDING
    above, below = list(weights.tolist()), list(weights.tolist())
    for group in range(len(dag)):
        above[group] += max((above[before] for before in dag.predecessors[group]), default=0.0)
        if passed[group]:
            above[group] = max(above[group], sums[group] - slack)
    for group in range(len(dag) - 1, -1, -1):
        below[group] += max((below[after] for after in dag.successors[group]), default=0.0)
        if passed[group]:
            below[group] = max(below[group], sums[-1] - sums[group] + float(weights[group]) - slack)
    return [weight - slack for weight in above], [weight - slack for weight in below]


def _passed(dag: Dag) -> list[bool]:
    """Whether all groups of smaller numbers are ancestors of each, and all others descendants.

    So it is where no edge leads over it, none before it is an end, and none after it a beginning.
    """
    count = len(dag)
    over = [0] * (count + 1)
    for group, successors in enumerate(dag.successors):
        if successors:
            over[group + 1] += 1
            over[successors[-1]] -= 1
    ends = next((group for group in range(count) if not dag.successors[group]), count)
    begins = next((group for group in range(count - 1, -1, -1) if not dag.predecessors[group]), -1)
    return [leads == 0 and begins <= group <= ends for group, leads in enumerate(accumulate(over[:count]))]
