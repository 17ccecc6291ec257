"""A family of downsets, and what its members hold, in arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from archc.partitioning.dag import Dag

if TYPE_CHECKING:
    import numpy as np


class Family:
    """Downsets between which a split may be cut, from the empty one to the whole graph.

    Attributes:
        member: whether a group is in a downset [groups, downsets].
        weights: of each group, not negative.
        weight: of each downset.  Downsets are sorted by it and then by size, so that each comes after all that it
            contains: sums of the same terms in the same order never fall when one is added.
    """

    def __init__(self, dag: Dag, member: np.ndarray, weights: np.ndarray):
        import numpy as np

        ends = np.zeros((len(dag), 2), dtype=bool)
        ends[:, 1] = True
        member = np.concatenate([ends, member], axis=1)
        words = pack(member)
        _, distinct = np.unique(words, axis=1, return_index=True)
        weight = _sums(member[:, distinct], weights)
        order = np.lexsort((member[:, distinct].sum(axis=0), weight))
        self.dag = dag
        self.weights = weights
        self.member = member[:, distinct[order]]
        self.weight = weight[order]

    def __len__(self) -> int:
        return int(self.member.shape[1])

    @cached_property
    def words(self) -> np.ndarray:
        """The members as bits [words, downsets]."""
        return pack(self.member)

    @cached_property
    def work(self) -> np.ndarray:
        """Seconds on each kind of device, where a group can run there [kinds, downsets]."""
        import numpy as np

        return np.array([_sums(self.member, np.where(np.isfinite(work), work, 0.0)) for work in self.dag.work.T])

    @cached_property
    def barred(self) -> np.ndarray:
        """How many groups cannot run on each kind of device [kinds, downsets]."""
        import numpy as np

        return np.array([_counts(self.member, np.flatnonzero(np.isinf(work)).tolist()) for work in self.dag.work.T])

    @cached_property
    def memory(self) -> np.ndarray:
        """Bytes that are not shared [downsets]."""
        return _sums(self.member, self.dag.memory)

    @cached_property
    def shared(self) -> np.ndarray:
        """How many groups of each that share memory are in a downset [shared, downsets]."""
        return self._counted(list(self.dag.shared))

    @cached_property
    def consumed(self) -> np.ndarray:
        """How many consumers of each tensor are in a downset [tensors, downsets]."""
        return self._counted(self.dag.consumers)

    def _counted(self, sets: list[tuple[int, ...]]) -> np.ndarray:
        import numpy as np

        most = max(map(len, sets), default=0)
        counts = np.zeros((len(sets), len(self)), dtype=np.min_scalar_type(most))
        for row, groups in enumerate(sets):
            counts[row] = _counts(self.member, groups)
        return counts

    @cached_property
    def needs(self) -> np.ndarray:
        """How many consumers each tensor has, the one beyond the last stage included [tensors]."""
        import numpy as np

        pairs = zip(self.dag.consumers, self.dag.outputs)
        return np.array([len(consumers) + output for consumers, output in pairs], dtype=np.int64)

    @cached_property
    def crossing(self) -> np.ndarray:
        """Whether a tensor is there after a downset and still needed, beyond the last stage too [tensors, downsets]."""
        import numpy as np

        there = np.ones_like(self.consumed, dtype=bool)
        made = np.array(self.dag.producers, dtype=np.int64)
        there[made >= 0] = self.member[made[made >= 0]]
        return there & (self.consumed < self.needs[:, None])

    def cut(self, time: np.ndarray) -> np.ndarray:
        """The sum over the crossing tensors of a time each [downsets]."""
        return _sums(self.crossing, time)

    def keep(self, columns: np.ndarray) -> Family:
        """The family with only some of its downsets, given by their numbers; the ends always stay."""
        return Family(self.dag, self.member[:, columns], self.weights)


def pack(member: np.ndarray) -> np.ndarray:
    """Booleans [groups, downsets] as bits [words, downsets]."""
    import numpy as np

    words = math.ceil(max(1, member.shape[0]) / 64)
    packed = np.zeros((words * 8, member.shape[1]), dtype=np.uint8)
    bits = np.packbits(member, axis=0, bitorder="little")
    packed[: bits.shape[0]] = bits
    return np.ascontiguousarray(packed.T).view(np.uint64).T.copy()


def _sums(member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of each column, added row by row."""
    import numpy as np

    total = np.zeros(member.shape[1])
    for row in np.flatnonzero(weights).tolist():
        total += member[row] * weights[row]
    return total


def _counts(member: np.ndarray, rows: Iterable[int]) -> np.ndarray:
    import numpy as np

    total = np.zeros(member.shape[1], dtype=np.int32)
    for row in rows:
        total += member[row]
    return total
