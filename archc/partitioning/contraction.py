"""Contraction of groups that share a stage in some best split, or in every split below a limit.

`contract_dominated` generalizes the preprocessing of Tarnawski et al. 2020, who contract a group without work into its
only neighbour.  `contract_inseparable` is new in this solver, and depends on a limit for the bottleneck.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from archc.partitioning.lower_bounds import ROUNDING, Bounds
from archc.partitioning.task_graph import TaskGraph, contract

if TYPE_CHECKING:
    import numpy as np


def contract_inseparable(graph: TaskGraph, bounds: Bounds, limit: float) -> tuple[TaskGraph, np.ndarray]:
    """Contract groups that share a stage in every split with a bottleneck below the limit.

    Each group has a weight, which measures its work (`Bounds.weights`).  In a stage below the limit, the total weight
    of the groups is at most the limit times the rate of the stage's device.  So the devices on each side of a cut can
    run only groups of a limited total weight.  If a group is before a cut, the devices before the cut also run all its
    ancestors.  If the group and its ancestors are too heavy for these devices, the group must be after the cut.  If a
    group is after a cut, the devices after the cut also run all its descendants.  If the group and its descendants are
    too heavy for these devices, the group must be before the cut.

    A state of the devices says which devices run the stages before a cut (`lower_bounds.DeviceStates`).  Two groups
    share a stage if in each state both must be before the cut, or both must be after it.  In a long graph, the side
    is forced for most groups: only groups near a cut can be on either side.

    Returns:
        The contracted graph, and for each group of `graph` the number of its contracted group [groups].
    """
    import numpy as np

    above, below = _weights(graph, bounds.weights)
    inner = enumerate(bounds.devices.states)
    states = [state for state, spent in inner if any(spent) and spent != bounds.devices.total]
    before = bounds.rate_before[states] * limit * (1 + ROUNDING)
    after = bounds.rate_after[states] * limit * (1 + ROUNDING)
    is_after = np.asarray(np.greater.outer(above, before))
    is_before = np.asarray(np.greater.outer(below, after))
    # No cut has a state in which a group would have to be on both sides.
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

    The bound is the weight of the heaviest path.  If `_passed` is true for a group, all earlier groups are ancestors
    and all later groups are descendants, so the bound is the exact sum of their weights.
    """
    passed = _passed(graph)
    # Both directions use one cumulative sum; the slack covers the rounding error of the sum.
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
    """Contract pairs of groups that share a stage in some best split, until no pair is left.

    Two rules find the pairs.  Each moves one group to another stage, if the transfer that the move saves takes at least
    as long as the work and the transfers that the move adds.  So no load grows:

    *Backward rule*: all results of u go to one group v.  Let a split have u in stage A and v in a later stage B, and
    move u to B.  Stage A then neither computes u nor sends the results X of u; it sends or relays at most the operands
    Y of u.  Stage B computes u and receives at most Y instead of X.  If tensors are relayed, each stage between A and B
    relays at most Y instead of X.  The stages before A have the same loads: they send or relay Y as before the move.
    No load grows if work(u) + time(Y) ≤ time(X) on every kind of device.  No edge leads to an earlier stage, since all
    results of u go to v.

    *Forward rule*: all operands of v come from one group u.  Let X be the operands that only v consumes, and Z the
    results of v.  By the same argument, v moves to the stage of u if work(v) + time(Z) ≤ time(X) on every kind of
    device.

    These rules contract, for example, nodes that hold a weight tensor (no work, one result) and reshapes (no work,
    operand and result of equal size).

    A move must not exceed the memory of a device: the rules require that each device can hold all tasks, or that the
    moved group holds no memory.  A move may leave a stage empty, so the rules do not hold if every device must be used;
    `solver.solve` handles that case.

    Several groups may move in one step if no group moves to a group that moves.  The conditions depend only on the work
    of the moved group, on its tensors, and on the producers and consumers of these tensors.  They stay true when a
    producer or consumer is contracted with other groups.
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
