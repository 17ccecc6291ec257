"""The best chain of downsets out of a family: a dynamic program over pairs of nested downsets.

For each downset D and each state of the devices, the least bottleneck with which they do all of D:

    best(D, state) = min over D' ⊂ D and moves state' → state of max(best(D', state'), load(D \\ D'))

This is the program of Tarnawski et al. 2020, which goes over all downsets.  Here it is given the family,
and a bound; it finds the best chain below the bound, and passes over each cut that no such chain can have (`bounds`).
With a family of all downsets that pass this test, the chain is the best of all.

The load of all stages that begin at one downset is computed at once.  Where tensors are relayed, a stage receives what
crosses its lower end and sends what crosses its upper end.  Where they go through a host, it receives of what crosses
the lower end only what it consumes, and it does not send what was made before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from archc.partitioning.bounds import Bounds, needed
from archc.partitioning.clock import Clock
from archc.partitioning.family import Family

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Chain:
    """What was found.

    Attributes:
        bottleneck: the largest load; infinite where there is no chain below the bound.
        cuts: the downset at each end of a stage but the first, as members [groups] each; the last one is the whole.
        states: the state of the devices after each stage.
        weighed: how many stages were looked at.
        complete: whether the time sufficed.
    """

    bottleneck: float
    cuts: list[np.ndarray]
    states: list[int]
    weighed: int
    complete: bool


class Search:
    """One run of the dynamic program."""

    def __init__(self, family: Family, bounds: Bounds, limit: float, clock: Clock):
        import numpy as np

        bottlenecks = needed(family, bounds)
        promising = np.flatnonzero((bottlenecks < limit).any(axis=0))
        self.family = family.keep(promising)
        self.needed = bottlenecks[:, np.union1d(promising, [0, len(family) - 1])]
        self.bounds = bounds
        self.limit = limit
        self.clock = clock
        self.dag = family.dag
        self.kinds = [kind for kind, count in enumerate(bounds.lineup.total) if count]
        self.best = np.full(self.needed.shape, np.inf)
        self.best[0, 0] = 0.0
        self.origin = np.zeros((*self.needed.shape, 2), dtype=np.int32)
        self.end: int | None = None
        self.weighed = 0

    def run(self) -> Chain:
        """The best chain below the limit."""
        import numpy as np

        complete = True
        reach = float(self.bounds.rates.max(initial=0.0))
        for start in range(len(self.family) - 1):
            states = np.flatnonzero(self.best[:, start] < self.limit).tolist()
            states = [state for state in states if self.bounds.lineup.moves[state]]
            if not states:
                continue
            if self.clock.over():
                complete = False
                break
            furthest = (self.family.weight[start] + reach * self.limit) * (1 + 1e-9)
            ends = self._above(start, int(np.searchsorted(self.family.weight, furthest, side="right")))
            if len(ends):
                self._extend(start, states, ends)
        return self._result(complete)

    def _above(self, start: int, stop: int) -> np.ndarray:
        """The promising downsets that contain that of `start`, up to a number."""
        import numpy as np

        ends: np.ndarray | slice = slice(start + 1, stop)
        numbers = np.arange(start + 1, stop)
        for word in self.family.words:
            if word[start]:
                numbers = numbers[(word[ends] & word[start]) == word[start]]
                ends = numbers
        if start == 0 and self.dag.first is not None:
            numbers = numbers[self.family.member[self.dag.first, numbers]]
        return numbers

    def _extend(self, start: int, states: list[int], ends: np.ndarray) -> None:
        """Try all stages from one downset."""
        import numpy as np

        self.weighed += len(ends)
        transfers = self._transfers(start, ends)
        memory = self._memory(start, ends)
        for kind in self.kinds:
            load = self.family.work[kind, ends] - self.family.work[kind, start] + transfers[kind]
            possible = (load < self.limit) & (self.family.barred[kind, ends] == self.family.barred[kind, start])
            if memory is not None:
                possible &= memory <= self.dag.problem.kinds[kind].memory
            chosen = np.flatnonzero(possible)
            if not len(chosen):
                continue
            load, places = load[chosen], ends[chosen]
            for state in states:
                for by, after in self.bounds.lineup.moves[state]:
                    if by == kind:
                        self._improve(start, state, after, places, np.maximum(load, self.best[state, start]))

    def _improve(self, start: int, state: int, after: int, places: np.ndarray, bottleneck: np.ndarray) -> None:
        better = (bottleneck < self.best[after, places]) & (self.needed[after, places] < self.limit)
        better &= bottleneck < self.limit
        places = places[better]
        self.best[after, places] = bottleneck[better]
        self.origin[after, places] = start, state
        whole = len(self.family) - 1
        if len(places) and places[-1] == whole and after in self.bounds.lineup.final:
            self.limit, self.end = float(self.best[after, whole]), after

    @cached_property
    def _cut(self) -> np.ndarray:
        """The time of all that is sent over each cut [kinds, downsets]."""
        import numpy as np

        time = self.dag.time
        if not self.dag.problem.relayed:
            time = np.where(np.array(self.dag.producers, dtype=np.int64)[:, None] < 0, 0.0, time)
        return np.asarray((self.family.crossing.T @ time).T)

    def _transfers(self, start: int, ends: np.ndarray) -> np.ndarray:
        """Seconds to receive and send [kinds, ends]."""
        import numpy as np

        sent: np.ndarray = self._cut[:, ends]
        if self.dag.problem.relayed:
            return np.asarray(sent + self._cut[:, start, None])
        family = self.family
        for tensor in np.flatnonzero(family.crossing[:, start]).tolist():
            consumed = family.consumed[tensor, ends]
            counted = (consumed > family.consumed[tensor, start]).astype(float)
            if self.dag.producers[tensor] >= 0:
                counted -= consumed < family.needs[tensor]
            sent += self.dag.time[tensor, :, None] * counted
        return sent

    def _memory(self, start: int, ends: np.ndarray) -> np.ndarray | None:
        """Bytes that stages hold [ends], None where no device can be too small."""
        import numpy as np

        if not self.dag.memory_binds:
            return None
        memory: np.ndarray = self.family.memory[ends] - self.family.memory[start]
        for row, (groups, size) in enumerate(self.dag.shared.items()):
            before = self.family.shared[row, start]
            if before < len(groups):
                memory += size * (self.family.shared[row, ends] > before)
        # Bytes are whole numbers, or nearly; a difference of sums is only nearly so.
        return np.asarray(memory - 1e-12 * self.family.memory[-1])

    def _result(self, complete: bool) -> Chain:
        cuts: list[np.ndarray] = []
        states: list[int] = []
        if self.end is None:
            return Chain(float("inf"), cuts, states, self.weighed, complete)
        place, state = len(self.family) - 1, self.end
        bottleneck = float(self.best[state, place])
        while place:
            cuts.append(self.family.member[:, place])
            states.append(state)
            place, state = self.origin[state, place].tolist()
        return Chain(bottleneck, cuts[::-1], states[::-1], self.weighed, complete)
