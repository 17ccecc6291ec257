"""Contraction of groups that some best split, or every split below a limit, has in one stage.

`contract_dominated` generalizes the preprocessing of Tarnawski et al. 2020, who contract a group without work into its
only neighbour.  `contract_inseparable` is specific to this solver: it depends on a limit for the
bottleneck.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from archc.partitioning.lower_bounds import ROUNDING, Bounds
from archc.partitioning.task_graph import TaskGraph, contract

if TYPE_CHECKING:
    import numpy as np


def contract_inseparable(graph: TaskGraph, bounds: Bounds, limit: float) -> tuple[TaskGraph, np.ndarray]:
    """Contract the groups that every split with a bottleneck below the limit has in one stage.

    In such a split, the devices before a cut carry all ancestors of the groups before it, and the devices after the cut
    carry all descendants of the groups after it.  A group with too heavy ancestors is therefore after the cut, and a
    group with too heavy descendants before it.  Two groups that this decides equally in each state of the devices are
    in one stage.  In a long graph, only groups near the cuts remain undecided.

    Returns:
        The contracted graph, and the new group of each group [groups].
    """
    import numpy as np

    above, below = _weights(graph, bounds.weights)
    inner = enumerate(bounds.devices.states)
    states = [state for state, spent in inner if any(spent) and spent != bounds.devices.total]
    before = bounds.rate_before[states] * limit * (1 + ROUNDING)
    after = bounds.rate_after[states] * limit * (1 + ROUNDING)
    is_after = np.asarray(np.greater.outer(above, before))
    is_before = np.asarray(np.greater.outer(below, after))
    # A state in which a group would be on both sides has no cut.
    possible = ~(is_after & is_before).any(axis=0)
    decided = (is_after | is_before)[:, possible].all(axis=1)
    sides = np.packbits(is_before[:, possible], axis=1)
    first: dict[bytes, int] = {}
    labels = [first.setdefault(side.tobytes(), at) if decided[at] else at for at, side in enumerate(sides)]
    if labels == list(range(len(graph))):
        return graph, np.arange(len(graph))
    merged = contract(graph, labels)
    group = {task: number for number, tasks in enumerate(merged.groups) for task in tasks}
    return merged, np.array([group[tasks[0]] for tasks in graph.groups])


def _weights(graph: TaskGraph, weights: np.ndarray) -> tuple[list[float], list[float]]:
    """Lower bounds on the weight of each group with its ancestors, and with its descendants.

    The weight is summed along the heaviest path.  At a group that `_passed` finds, all earlier groups are ancestors and
    all later groups are descendants, so their sum is exact.
    """
    passed = _passed(graph)
    # Both directions use one cumulative sum; the slack covers its rounding error.
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
    """Return, for each group, whether all earlier groups are ancestors and all later ones descendants.

    This is the case if no edge passes over the group, no group before it is a sink, and no group after it is a source.
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
    """Contract pairs of groups that some best split has in one stage, until no pair is left.

    Both rules move one group u across a tensor whose transfer takes longer than everything that u adds to the other
    stage, so that no load grows:

    *Backward rule*: all results of u go to one group v.  Let a split have u in stage A and v in a later stage B, and
    move u to B.  Stage A no longer computes u nor sends its results X; it sends or relays at most the operands Y of u.
    Stage B computes u and receives at most Y instead of X.  If tensors are relayed, each stage between relays at most Y
    instead of X.  The senders of Y are unchanged.  No load grows if work(u) + time(Y) ≤ time(X) on every kind of
    device.  No edge turns back, since all results of u go to v.

    *Forward rule*: all operands of v come from one group u, and X are those that go to v alone.  By the same argument,
    v moves to the stage of u if work(v) + time(Z) ≤ time(X) on every kind of device, for the results Z of v.

    Weights that are nodes (no work, one result) and reshapes (no work, equal sizes) are contracted by these rules.

    A move must not overfill a device: either the memory of no device binds, or the moved group holds no memory.  A move
    may leave a stage empty, so the rules do not hold if every device must be used; `solver.solve` handles that case.

    Several groups may move in one step if none of them is also a target: the conditions depend only on the group's own
    work, its tensors and their other ends, and stay true when the other ends grow.
    """
    while True:
        labels = _step(graph)
        if labels == list(range(len(graph))):
            return graph
        graph = contract(graph, labels)


def _step(graph: TaskGraph) -> list[int]:
    """Label of each group after one step; groups of one label are contracted."""
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
