"""What no split can do better, from the work alone.

Give each group a weight, and let a kind of device carry `rate` of it in a second at most: no less than the largest
quotient of a group's weight and its work there.  A stage of load L then carries at most rate · L, and all devices
together must carry everything.  So the largest load is at least (sum of weights) / (sum of rates).

The same holds of the devices before a cut, and of those behind it, with the transfers that the cut makes sure: what
crosses it was sent by one of the devices before it and is received by one behind.

Which devices are spent after some stages, as numbered states.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archc.partitioning.problem import Problem
from archc.partitioning.task_graph import TaskGraph

if TYPE_CHECKING:
    import numpy as np


ROUNDING = 1e-9
"""Bounds are lowered by this part of themselves, so that no sum's rounding cuts off a best split."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Weights and rates.

    Attributes:
        weights: of each group [groups].
        rates: of each kind [kinds]; 0 for one that can do nothing.
        lower: no split of all the groups has a smaller bottleneck.
    """

    devices: DeviceStates
    weights: np.ndarray
    rates: np.ndarray
    lower: float

    @property
    def before(self) -> np.ndarray:
        """What the devices that are spent in each state carry in a second."""
        import numpy as np

        return np.asarray(np.array(self.devices.states, dtype=float) @ self.rates)

    @property
    def behind(self) -> np.ndarray:
        """What those carry that are left."""
        import numpy as np

        left = np.array(self.devices.total) - np.array(self.devices.states, dtype=float)
        return np.asarray(left @ self.rates)


def compute_bounds(graph: TaskGraph, devices: DeviceStates) -> Bounds:
    """The best bound of a few choices of weights: the least work of each group, and its work on each kind."""
    import numpy as np

    kinds = np.flatnonzero(devices.total)
    work = graph.work[:, kinds]
    least = np.where(np.isfinite(work), work, np.inf).min(axis=1, initial=np.inf)
    # A weight on what costs a kind nothing would let that kind carry anything.
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
    # Each group is somewhere, too.
    alone = float(least.max(initial=0.0)) * (1 - ROUNDING)
    best = max(found, key=lambda bound: bound.lower)
    return Bounds(best.devices, best.weights, best.rates, max(best.lower, alone))


@dataclass(frozen=True)
class DeviceStates:
    """The ways to take devices one after the other.

    Attributes:
        states: for each, how many devices of each kind are spent or passed over.
        total: how many there are of each kind.
        moves: for each state, the kinds that may come next, and the state after.
        final: the states in which a split may end.

    A state comes before those that follow it.
    """

    states: list[tuple[int, ...]]
    total: tuple[int, ...]
    moves: list[list[tuple[int, int]]]
    final: list[int]

    def kind(self, before: int, after: int) -> int:
        """The kind of device that led from one state to the next."""
        return next(kind for kind, state in self.moves[before] if state == after)


def device_states(problem: Problem, groups: int, all_used: bool) -> DeviceStates:
    """The ways to take the devices of a problem for at most as many stages as there are groups."""
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
    """A fixed sequence.  Who passes devices over takes the next of its kind: a later one leaves fewer for others."""
    places = range(len(order) + 1)
    states = [tuple(order[:place].count(kind) for kind in range(kinds)) for place in places]
    moves: list[list[tuple[int, int]]] = []
    for place in places:
        rest = order[place : place + 1] if all_used else order[place:]
        moves.append([(kind, place + rest.index(kind) + 1) for kind in sorted(set(rest))])
    return DeviceStates(states, states[-1], moves, [len(order)] if all_used else list(places))
