"""States of the devices, and a lower bound on the bottleneck from the total work.

The nodes of the task graph are groups of tasks.  The work of a group is its time on a kind of device, in seconds.  Give
each group a weight.  Let the rate of a kind of device be the maximum of weight / work over the groups, with the work on
that kind.  Then the groups in a stage of load L on such a device have a total weight of at most rate · L.  All devices
together run all groups, so the bottleneck is at least (sum of weights) / (sum of rates).

A cut divides the stages of a split into the stages before it and the stages after it.  Each side of the cut has a bound
of its own: (sum of weights of its groups and transfers) / (sum of rates of its devices).  A device before the cut sends
each tensor that crosses the cut, and a device after the cut receives the tensor, so both sides have the transfer.  The
weight of the transfer is time · rate: the weight that the device could run in that time (`chain_search.cut_bounds`).

Weights and rates are a feasible solution of the dual of the linear program for the makespan on unrelated machines
(Lenstra, Shmoys, Tardos 1990, "Approximation algorithms for scheduling unrelated parallel machines").
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_by_identity, frozen_dataclass
from archc.partitioning.problem import Problem
from archc.partitioning.task_graph import TaskGraph

if TYPE_CHECKING:
    import numpy as np

ROUNDING = 1e-9
"""Relative reduction of the bounds, so that rounding errors of sums do not exclude a best split."""


@frozen_dataclass
class DeviceStates:
    """States of a set of devices to which stages are assigned one after another.

    A state is a tuple: for each kind, the number of devices that have a stage or were skipped.

    Attributes:
        states: the states, each before the states that may follow it.
        total: the number of devices of each kind.
        moves: for each state, the pairs (kind of the next device, index of the next state).
        final: the indices of the states in which a split may end.
    """

    states: list[tuple[int, ...]]
    total: tuple[int, ...]
    moves: list[list[tuple[int, int]]]
    final: list[int]

    def kind(self, before: int, after: int) -> int:
        """Kind of the device whose use leads from one state to the next."""
        return next(kind for kind, state in self.moves[before] if state == after)


def device_states(problem: Problem, groups: int, all_used: bool) -> DeviceStates:
    """States of a problem's devices, if the number of stages is at most `groups`."""
    if problem.order is not None:
        return _fixed(problem.order, len(problem.kinds), all_used)
    total = tuple(kind.count if all_used else min(kind.count, groups) for kind in problem.kinds)
    states = list(itertools.product(*(range(count + 1) for count in total)))
    number = {state: index for index, state in enumerate(states)}
    moves: list[list[tuple[int, int]]] = []
    for state in states:
        following = [(*state[:kind], state[kind] + 1, *state[kind + 1 :]) for kind in range(len(total))]
        moves.append([(kind, number[after]) for kind, after in enumerate(following) if after in number])
    return DeviceStates(states, total, moves, [len(states) - 1] if all_used else list(range(len(states))))


def _fixed(order: tuple[int, ...], kinds: int, all_used: bool) -> DeviceStates:
    """States of a fixed sequence of devices.

    If devices may be skipped, a stage takes the next device of its kind.  A later device of the same kind would leave
    fewer devices for the other stages.
    """
    places = range(len(order) + 1)
    states = [tuple(order[:place].count(kind) for kind in range(kinds)) for place in places]
    moves: list[list[tuple[int, int]]] = []
    for place in places:
        rest = order[place : place + 1] if all_used else order[place:]
        moves.append([(kind, place + rest.index(kind) + 1) for kind in sorted(set(rest))])
    return DeviceStates(states, states[-1], moves, [len(order)] if all_used else list(places))


@frozen_by_identity
class Bounds:
    """Weights, rates and the lower bound that follows from them.

    Attributes:
        devices: the states of the devices.
        weights: weight of each group [groups].
        rates: weight that a device of each kind runs in a second [kinds]; 0 for a kind that can run no group.
        lower: lower bound on the bottleneck of every split of all groups.
    """

    devices: DeviceStates
    weights: np.ndarray
    rates: np.ndarray
    lower: float

    @property
    def rate_before(self) -> np.ndarray:
        """Sum of the rates of the used devices, for each state [states]."""
        import numpy as np

        return np.asarray(np.array(self.devices.states, dtype=float) @ self.rates)

    @property
    def rate_after(self) -> np.ndarray:
        """Sum of the rates of the unused devices, for each state [states]."""
        import numpy as np

        left = np.array(self.devices.total) - np.array(self.devices.states, dtype=float)
        return np.asarray(left @ self.rates)


def compute_bounds(graph: TaskGraph, devices: DeviceStates) -> Bounds:
    """Compute the best bound over a few choices of the weights.

    In the first choice, the weight of a group is its smallest work over all kinds of devices.  In each other choice, it
    is the work on one kind.
    """
    import numpy as np

    kinds = np.flatnonzero(devices.total)
    work = graph.work[:, kinds]
    least = np.where(np.isfinite(work), work, np.inf).min(axis=1, initial=np.inf)
    # A group with work 0 on some kind has weight 0; otherwise the rate of that kind would be infinite.
    choices = [least] + [
        np.where(np.isfinite(work[:, kind]) & (least > 0), work[:, kind], least) for kind in range(len(kinds))
    ]
    found = []
    for weights in choices:
        rates = np.zeros(graph.work.shape[1])
        some = np.flatnonzero(weights)
        rates[kinds] = (weights[some, None] / work[some]).max(axis=0, initial=0.0)
        carried = float(np.array(devices.total) @ rates)
        lower = float(weights.sum()) / carried * (1 - ROUNDING) if carried else 0.0
        found.append(Bounds(devices, weights, rates, lower))
    # The bottleneck is also at least the smallest work of each single group.
    alone = float(least.max(initial=0.0)) * (1 - ROUNDING)
    best = max(found, key=lambda bound: bound.lower)
    return Bounds(best.devices, best.weights, best.rates, max(best.lower, alone))
