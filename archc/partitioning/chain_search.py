r"""Best chain of downsets in a family, by dynamic programming over pairs of nested downsets.

The nodes of the task graph are groups of tasks that share a stage.  A downset is a set of groups that contains every
producer of its members.  A state of the devices is the set of devices that are already used
(`lower_bounds.DeviceStates`).  For each downset D and each state, let best(D, state) be the smallest bottleneck of all
splits of the groups of D onto the devices of the state:

    best(D, state) = min over D' ⊂ D and moves state' → state of max(best(D', state'), load(D \ D'))

Tarnawski et al. 2020 run this dynamic program over all downsets.  This module runs it over a family of downsets and
finds the best chain with a bottleneck below a limit.  Each downset is a cut: it separates its groups from the remaining
groups.  `cut_bounds` computes a lower bound on the bottleneck of all splits with a given cut.  A downset is skipped if
its bound is not below the limit.  If the family has every downset whose bound is below the limit, the chain is optimal.

The loads of all stages that begin at one downset are computed at once.  If tensors are relayed, a stage receives the
tensors that cross the cut before it, and sends the tensors that cross the cut after it.  If tensors go through a host,
a stage receives only the tensors that it consumes, and sends only the tensors that it computes.
"""

from __future__ import annotations

from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_by_identity
from archc.partitioning.downsets import DownsetFamily
from archc.partitioning.lower_bounds import ROUNDING, Bounds

if TYPE_CHECKING:
    import numpy as np


@frozen_by_identity
class DownsetChain:
    """Result of a search.

    Attributes:
        bottleneck: the largest load; infinite if there is no chain below the limit.
        cuts: for each stage, the downset at the end of the stage, as a boolean array [groups]; the last downset has all
            groups.
        states: the state of the devices after each stage.
        stages_tried: number of stages whose load was computed.
        complete: whether the search ended before the deadline.
    """

    bottleneck: float
    cuts: list[np.ndarray]
    states: list[int]
    stages_tried: int
    complete: bool


class ChainSearch:
    """One run of the dynamic program."""

    def __init__(self, family: DownsetFamily, bounds: Bounds, limit: float, deadline: float):
        import numpy as np

        bottlenecks = cut_bounds(family, bounds)
        promising = np.flatnonzero((bottlenecks < limit).any(axis=0))
        self.family = family.keep(promising)
        self.needed = bottlenecks[:, np.union1d(promising, [0, len(family) - 1])]
        self.bounds = bounds
        self.limit = limit
        self.deadline = deadline
        self.graph = family.graph
        self.kinds = [kind for kind, count in enumerate(bounds.devices.total) if count]
        self.best = np.full(self.needed.shape, np.inf)
        self.best[0, 0] = 0.0
        self.origin = np.zeros((*self.needed.shape, 2), dtype=np.int32)
        self.end: int | None = None
        self.stages_tried = 0

    def run(self) -> DownsetChain:
        """Find the best chain with a bottleneck below the limit."""
        import numpy as np

        complete = True
        reach = float(self.bounds.rates.max(initial=0.0))
        for start in range(len(self.family) - 1):
            states = np.flatnonzero(self.best[:, start] < self.limit).tolist()
            states = [state for state in states if self.bounds.devices.moves[state]]
            if not states:
                continue
            if monotonic() >= self.deadline:
                complete = False
                break
            furthest = (self.family.weight[start] + reach * self.limit) * (1 + 1e-9)
            ends = self._above(start, int(np.searchsorted(self.family.weight, furthest, side="right")))
            if len(ends):
                self._extend(start, states, ends)
        return self._result(complete)

    def _above(self, start: int, stop: int) -> np.ndarray:
        """Return the numbers of the promising downsets that contain the downset with the number `start`.

        Only downsets with numbers below `stop` are searched.
        """
        import numpy as np

        ends: np.ndarray | slice = slice(start + 1, stop)
        numbers = np.arange(start + 1, stop)
        for word in self.family.words:
            if word[start]:
                numbers = numbers[(word[ends] & word[start]) == word[start]]
                ends = numbers
        if start == 0 and self.graph.first is not None:
            numbers = numbers[self.family.member[self.graph.first, numbers]]
        return numbers

    def _extend(self, start: int, states: list[int], ends: np.ndarray) -> None:
        """Try all stages that begin at one downset."""
        import numpy as np

        self.stages_tried += len(ends)
        transfers = self._transfers(start, ends)
        memory = self._memory(start, ends)
        for kind in self.kinds:
            load = self.family.work[kind, ends] - self.family.work[kind, start] + transfers[kind]
            possible = (load < self.limit) & (self.family.barred[kind, ends] == self.family.barred[kind, start])
            if memory is not None:
                possible &= memory <= self.graph.problem.kinds[kind].memory
            chosen = np.flatnonzero(possible)
            if not len(chosen):
                continue
            load, places = load[chosen], ends[chosen]
            for state in states:
                for by, after in self.bounds.devices.moves[state]:
                    if by == kind:
                        self._improve(start, state, after, places, np.maximum(load, self.best[state, start]))

    def _improve(self, start: int, state: int, after: int, places: np.ndarray, bottleneck: np.ndarray) -> None:
        better = (bottleneck < self.best[after, places]) & (self.needed[after, places] < self.limit)
        better &= bottleneck < self.limit
        places = places[better]
        self.best[after, places] = bottleneck[better]
        self.origin[after, places] = start, state
        whole = len(self.family) - 1
        if len(places) and places[-1] == whole and after in self.bounds.devices.final:
            self.limit, self.end = float(self.best[after, whole]), after

    @cached_property
    def _cut(self) -> np.ndarray:
        """Time of all transfers over each cut [kinds, downsets]."""
        import numpy as np

        time = self.graph.time
        if not self.graph.problem.relayed:
            time = np.where(np.array(self.graph.producers, dtype=np.int64)[:, None] < 0, 0.0, time)
        return np.asarray((self.family.crossing.T @ time).T)

    def _transfers(self, start: int, ends: np.ndarray) -> np.ndarray:
        """Transfer time of the stage from the downset `start` to each end, in seconds [kinds, ends]."""
        import numpy as np

        sent: np.ndarray = self._cut[:, ends]
        if self.graph.problem.relayed:
            return np.asarray(sent + self._cut[:, start, None])
        family = self.family
        for tensor in np.flatnonzero(family.crossing[:, start]).tolist():
            consumed = family.consumed[tensor, ends]
            counted = (consumed > family.consumed[tensor, start]).astype(float)
            if self.graph.producers[tensor] >= 0:
                counted -= consumed < family.needs[tensor]
            sent += self.graph.time[tensor, :, None] * counted
        return sent

    def _memory(self, start: int, ends: np.ndarray) -> np.ndarray | None:
        """Bytes that each stage needs [ends]; None if every device can hold all tasks together."""
        import numpy as np

        if not self.graph.memory_binds:
            return None
        memory: np.ndarray = self.family.memory[ends] - self.family.memory[start]
        for row, (groups, size) in enumerate(self.graph.shared.items()):
            before = self.family.shared[row, start]
            if before < len(groups):
                memory += size * (self.family.shared[row, ends] > before)
        # The tolerance covers the rounding error of the difference of two sums.
        return np.asarray(memory - 1e-12 * self.family.memory[-1])

    def _result(self, complete: bool) -> DownsetChain:
        cuts: list[np.ndarray] = []
        states: list[int] = []
        if self.end is None:
            return DownsetChain(float("inf"), cuts, states, self.stages_tried, complete)
        place, state = len(self.family) - 1, self.end
        bottleneck = float(self.best[state, place])
        while place:
            cuts.append(self.family.member[:, place])
            states.append(state)
            place, state = self.origin[state, place].tolist()
        return DownsetChain(bottleneck, cuts[::-1], states[::-1], self.stages_tried, complete)


def cut_bounds(family: DownsetFamily, bound: Bounds) -> np.ndarray:
    """For each state and cut, a lower bound on the bottleneck of splits with that cut [states, downsets].

    The module `lower_bounds` explains the bound.  Here it is the larger of two bounds: one for the devices before the
    cut, and one for the devices after it, both with the transfers over the cut.
    """
    import numpy as np

    states, relayed = bound.devices, family.graph.problem.relayed
    inputs = np.array([producer < 0 for producer in family.graph.producers], dtype=bool)
    consumers = np.array([len(groups) for groups in family.graph.consumers], dtype=np.int64)
    sent = family.crossing if relayed else family.crossing & ~inputs[:, None]
    received = family.crossing if relayed else family.crossing & (family.consumed < consumers[:, None])
    scaled = family.graph.time * bound.rates

    rest = family.weight[-1] - family.weight
    rest[rest <= family.weight[-1] * ROUNDING] = 0.0
    known: dict[tuple[bytes, bool], np.ndarray] = {}

    def carried(devices: np.ndarray, rate: float, is_before: bool) -> np.ndarray:
        """Least load of the devices on one side of each cut: (weight + transfers) / rate [downsets]."""
        kinds = devices > 0
        key = kinds.tobytes(), is_before
        if key not in known:
            # Any device of this side may be next to the cut, so the bound uses the cheapest transfer.
            cheapest = scaled[:, kinds].min(axis=1, initial=np.inf) if kinds.any() else np.zeros(len(scaled))
            sums = (sent if is_before else received).T @ cheapest
            known[key] = (family.weight if is_before else rest) + sums
        carry = known[key]
        return np.asarray(np.divide(carry, rate, out=np.where(carry > 0, np.inf, 0.0), where=rate > 0))

    bottlenecks = np.empty((len(states.states), len(family)))
    for state, (spent, rate_before, rate_after) in enumerate(zip(states.states, bound.rate_before, bound.rate_after)):
        devices = np.array(spent)
        load_before = carried(devices, rate_before, True)
        load_after = carried(np.array(states.total) - devices, rate_after, False)
        # No device is needed after the whole graph, or before the empty downset.
        load_after[-1] = load_before[0] = 0.0
        bottlenecks[state] = np.maximum(load_before, load_after) * (1 - ROUNDING)
    bottlenecks[:, 0] = np.inf
    bottlenecks[0, :] = np.inf
    bottlenecks[0, 0] = 0.0
    return bottlenecks
