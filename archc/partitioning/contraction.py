"""Groups that are on the same side of every cut, merged before the search for a split below some bottleneck.

In a split with a bottleneck below the limit, the devices before a cut carry all ancestors of what is before it, and
those behind it all descendants of what is behind.  So a group with too heavy ancestors is behind the cut, and one with
too heavy descendants before it.  Of two groups that this decides alike for each state of the devices, every such split
has both in one stage.  In a long graph it decides all but those near the cuts.

How heavy the ancestors are is counted along the heaviest path, from the last group that everything passes: those
before it are all its ancestors, and those after it all its descendants.

Groups that some best split has in one stage, merged before the search.

Both rules move one group u over a tensor that is dearer than what u would bring along, in all ways at once, so that no
load grows:

*Back*: everything that u makes goes to v alone.  Say that a split has u in stage A and v in a later stage B.  With u
in B instead, A does not do u, does not send u's results X, and sends or relays at most u's operands Y; B does u and
receives at most Y, and does not receive X; the stages between, where tensors are relayed, pass on Y at most and X no
more; who sent Y to A sends it still.  So if work(u) + time(Y) ≤ time(X) on every kind of device, no load grows, and no
edge goes back, since all that u made went to v.

*Forward*: everything that v needs comes from u alone, and X is what goes to v and to no other.  The same holds of v in
the stage of u, if work(v) + time(Z) ≤ time(X) on every kind for v's results Z.

Weights that are nodes of their own (no work, one result) and reshapes (no work, as much out as in) go this way; the
special case of a group without work and with one neighbour is in the program of Tarnawski et al. 2020.

Memory: moving must not overfill a device, so either no device could ever be too full or the group holds nothing.
A moved group may leave a stage empty, so none of this holds where every device must be used; `solver` knows.

Several groups move in one step if none of them is also moved to: a condition speaks only of the group's own work and
tensors and of their other ends, and stays true when those ends grow.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from archc.partitioning.lower_bounds import ROUNDING, Bounds
from archc.partitioning.task_graph import TaskGraph, contract

if TYPE_CHECKING:
    import numpy as np


def contract_inseparable(graph: TaskGraph, bounds: Bounds, limit: float) -> tuple[TaskGraph, np.ndarray]:
    """The graph with those merged that any split below the limit has in one stage, and the new group of each."""
    import numpy as np

    above, below = _weights(graph, bounds.weights)
    inner = enumerate(bounds.devices.states)
    states = [state for state, spent in inner if any(spent) and spent != bounds.devices.total]
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
    if labels == list(range(len(graph))):
        return graph, np.arange(len(graph))
    merged = contract(graph, labels)
    group = {task: number for number, tasks in enumerate(merged.groups) for task in tasks}
    return merged, np.array([group[tasks[0]] for tasks in graph.groups])


def _weights(graph: TaskGraph, weights: np.ndarray) -> tuple[list[float], list[float]]:
    """At most the weight of each group with its ancestors, and at most that with its descendants."""
    passed = _passed(graph)
    # One sum serves from either end, so both are lowered by what rounding can do to it.
    sums = list(accumulate(weights.tolist()))
    slack = sums[-1] * ROUNDING
    above, below = list(weights.tolist()), list(weights.tolist())
    for group in range(len(graph)):
        above[group] += max((above[before] for before in graph.predecessors[group]), default=0.0)
        if passed[group]:
            above[group] = max(above[group], sums[group] - slack)
    for group in range(len(graph) - 1, -1, -1):
        below[group] += max((below[after] for after in graph.successors[group]), default=0.0)
        if passed[group]:
            below[group] = max(below[group], sums[-1] - sums[group] + float(weights[group]) - slack)
    return [weight - slack for weight in above], [weight - slack for weight in below]


def _passed(graph: TaskGraph) -> list[bool]:
    """Whether all groups of smaller numbers are ancestors of each, and all others descendants.

    So it is where no edge leads over it, none before it is an end, and none after it a beginning.
    """
    count = len(graph)
    over = [0] * (count + 1)
    for group, successors in enumerate(graph.successors):
        if successors:
            over[group + 1] += 1
            over[successors[-1]] -= 1
    ends = next((group for group in range(count) if not graph.successors[group]), count)
    begins = next((group for group in range(count - 1, -1, -1) if not graph.predecessors[group]), -1)
    return [leads == 0 and begins <= group <= ends for group, leads in enumerate(accumulate(over[:count]))]


def contract_dominated(graph: TaskGraph) -> TaskGraph:
    """The graph with all groups merged that the two rules allow."""
    while True:
        labels = _step(graph)
        if labels == list(range(len(graph))):
            return graph
        graph = contract(graph, labels)


def _step(graph: TaskGraph) -> list[int]:
    """A label for each group; those of one label are merged."""
    import numpy as np

    made, needed, alone = (np.zeros_like(graph.work) for _ in range(3))
    ends: list[set[int]] = [set() for _ in range(len(graph))]
    starts: list[set[int]] = [set() for _ in range(len(graph))]
    for producer, consumers, output, time in zip(graph.producers, graph.consumers, graph.outputs, graph.time):
        if producer >= 0:
            made[producer] += time
            ends[producer].update(consumers)
            if output:
                ends[producer].add(-1)
        for consumer in consumers:
            needed[consumer] += time
            starts[consumer].add(producer)
        if len(consumers) == 1 and not output:
            alone[consumers[0]] += time
    backward = (graph.work + needed <= made).all(axis=1)
    forward = (graph.work + made <= alone).all(axis=1)
    moves = backward | forward
    if graph.memory_binds:
        moves &= graph.memory == 0
        moves[[group for groups in graph.shared for group in groups]] = False
    if graph.first is not None:
        moves[graph.first] = False

    labels = list(range(len(graph)))
    targets: set[int] = set()
    for group in np.flatnonzero(moves).tolist():
        if group in targets:
            continue
        for dearer, others in (backward[group], ends[group]), (forward[group], starts[group]):
            (other,) = others if dearer and len(others) == 1 else (-1,)
            if other >= 0 and labels[other] == other:
                labels[group] = other
                targets.add(other)
                break
    return labels
