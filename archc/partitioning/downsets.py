"""Enumeration of downsets, and a family of downsets with the sums that `chain_search` needs.

The nodes of the task graph are groups of tasks.  A downset (order ideal) is a set of groups that contains every
producer of its members.  A split assigns the groups to stages.  The groups of the first k stages form a downset, so a
split is a chain of downsets.  A cut is the boundary between a downset of the chain and the remaining groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from archc.partitioning.lower_bounds import ROUNDING, Bounds
from archc.partitioning.task_graph import TaskGraph

if TYPE_CHECKING:
    import numpy as np


def enumerate_downsets(graph: TaskGraph, bounds: Bounds, limit: float, most: int, deadline: float) -> np.ndarray | None:
    """Enumerate the downsets at which a split with a bottleneck below the limit can have a cut.

    The groups are added in topological order.  Each downset is kept without the new group, and also extended by the new
    group if it contains all predecessors of the group.  The partial downsets are then the downsets of the subgraph of
    the groups added so far, so their number never exceeds the number of all downsets.

    A partial downset is discarded (branch and bound) if every state of the devices (`lower_bounds`) has too little
    capacity.  The capacity of a device is its rate times the limit.  The devices before the cut need capacity for the
    weight of the downset and for the transfers over the cut.  The devices after the cut need capacity for the weight of
    the other groups and for these transfers.

    Args:
        limit: upper limit of the bottleneck, in seconds.
        most: maximum number of downsets.
        deadline: time of `time.monotonic` at which the enumeration stops.

    Returns:
        Members [groups, downsets]; None if there are more than `most` downsets, or after the deadline.
    """
    import numpy as np

    masks = _masks(graph.predecessors)
    paid = _paid(graph, bounds)
    descending = _descendants(graph, bounds.weights)
    # The capacities before and after a cut have the same sum in every state.  Of the states with enough capacity before
    # the cut, only the one with the least such capacity is tested: it has the largest capacity after the cut.
    before = np.unique(bounds.rate_before) * limit * (1 + ROUNDING)
    after = (before[-1] - before) + before[-1] * ROUNDING

    words = np.zeros((masks.shape[0], 1), dtype=np.uint64)
    inside, outside, surely_out, crossing = np.zeros((4, 1))
    for group in range(len(graph)):
        if monotonic() >= deadline:
            return None
        weight = bounds.weights[group]
        can = _holds(words, masks[:, group])
        taken = words[:, can]
        taken[group // 64] |= np.uint64(1 << (group % 64))
        cut = crossing.copy()
        for mask, capacity in paid[group]:
            cut += _holds(words, mask) * capacity
        more_out = np.where(can, np.maximum(surely_out, descending[group]), surely_out)
        words = np.concatenate([words, taken], axis=1)
        crossing = np.concatenate([cut, crossing[can]])
        surely_out = np.concatenate([more_out, surely_out[can]])
        outside = np.concatenate([outside + weight, outside[can]])
        inside = np.concatenate([inside, inside[can] + weight])
        state = np.searchsorted(before, inside + crossing)
        possible = state < len(before)
        left = after[np.minimum(state, len(before) - 1)]
        possible &= np.maximum(outside, surely_out) + crossing <= left
        words, surely_out, crossing = words[:, possible], surely_out[possible], crossing[possible]
        outside, inside = outside[possible], inside[possible]
        if words.shape[1] > most:
            return None
    bits = np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1, bitorder="little")
    return bits[:, : len(graph)].T.astype(bool)


def _masks(predecessors: list[list[int]]) -> np.ndarray:
    """Predecessors of each group as bits [words, groups]."""
    import numpy as np

    member = np.zeros((len(predecessors), len(predecessors)), dtype=bool)
    for group, before in enumerate(predecessors):
        member[before, group] = True
    return pack(member)


def _holds(words: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return, for each downset, whether all groups of a mask are in it [downsets]."""
    import numpy as np

    all_in = np.ones(words.shape[1], dtype=bool)
    for word in np.flatnonzero(mask).tolist():
        all_in &= (words[word] & mask[word]) == mask[word]
    return all_in


def _paid(graph: TaskGraph, bounds: Bounds) -> list[list[tuple[np.ndarray, float]]]:
    """For each group, the tensors that it consumes, each as a mask and a weight.

    For the group g, the mask of a tensor is a set of groups: the producer of the tensor, and its consumers with numbers
    below g.  If a downset has all groups of the mask but not g, the tensor crosses the cut, and g is its first consumer
    after the cut.  A tensor has only one first consumer, so it counts once for each cut.

    In the time t of the tensor's transfer, a device with the rate r could run groups of the weight r · t.  The weight
    of the tensor is the minimum of r · t over the kinds of devices: a lower bound, since the device is not known yet.
    """
    import numpy as np

    found: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(len(graph))]
    kinds = np.flatnonzero(bounds.devices.total)
    weights = (graph.time[:, kinds] * bounds.rates[kinds]).min(axis=1, initial=np.inf) * (1 - ROUNDING)
    for producer, consumers, weight in zip(graph.producers, graph.consumers, weights.tolist()):
        if producer >= 0 and weight > 0:
            member = np.zeros((len(graph), 1), dtype=bool)
            member[producer] = True
            for consumer in consumers:
                found[consumer].append((pack(member)[:, 0], weight))
                member[consumer] = True
    return found


def _descendants(graph: TaskGraph, weights: np.ndarray) -> np.ndarray:
    """Weight of each group and all its descendants [groups]."""
    import numpy as np

    below = np.zeros((len(graph), len(graph)), dtype=bool)
    for group in range(len(graph) - 1, -1, -1):
        below[group, group] = True
        for after in graph.successors[group]:
            below[group] |= below[after]
    # Lowered, since these weights are compared with sums that are added in another order.
    return np.asarray((below @ weights) * (1 - ROUNDING))


class DownsetFamily:
    """Downsets at which a split may be cut, from the empty one to the whole graph.

    Attributes:
        graph: the task graph.
        member: whether a group is in a downset [groups, downsets].
        weights: weight of each group, not negative [groups].
        weight: weight of each downset [downsets].  Downsets are sorted by weight and then by size, so that each comes
            after its subsets.  This holds in spite of rounding: all sums add the weights in the same order,
            and adding a weight never lowers a sum.
    """

    def __init__(self, graph: TaskGraph, member: np.ndarray, weights: np.ndarray):
        import numpy as np

        ends = np.zeros((len(graph), 2), dtype=bool)
        ends[:, 1] = True
        member = np.concatenate([ends, member], axis=1)
        words = pack(member)
        _, distinct = np.unique(words, axis=1, return_index=True)
        weight = _sums(member[:, distinct], weights)
        order = np.lexsort((member[:, distinct].sum(axis=0), weight))
        self.graph = graph
        self.weights = weights
        self.member = member[:, distinct[order]]
        self.weight = weight[order]

    def __len__(self) -> int:
        return int(self.member.shape[1])

    @cached_property
    def words(self) -> np.ndarray:
        """Members as bits [words, downsets]."""
        return pack(self.member)

    @cached_property
    def work(self) -> np.ndarray:
        """Seconds of a downset on each kind of device, without the groups in `barred` [kinds, downsets]."""
        import numpy as np

        return np.array([_sums(self.member, np.where(np.isfinite(work), work, 0.0)) for work in self.graph.work.T])

    @cached_property
    def barred(self) -> np.ndarray:
        """Number of a downset's groups that cannot run on each kind of device [kinds, downsets]."""
        import numpy as np

        return np.array([_counts(self.member, np.flatnonzero(np.isinf(work)).tolist()) for work in self.graph.work.T])

    @cached_property
    def memory(self) -> np.ndarray:
        """Bytes of each downset, without memory that several groups share [downsets]."""
        return _sums(self.member, self.graph.memory)

    @cached_property
    def shared(self) -> np.ndarray:
        """Numbers of groups in a downset that share the same memory [shared, downsets].

        Each row belongs to a key of `TaskGraph.shared`: a set of groups that share memory, such as a tied weight.  The
        row has the number of groups of this set in each downset.
        """
        return self._counted(list(self.graph.shared))

    @cached_property
    def consumed(self) -> np.ndarray:
        """For each tensor, the number of its consumers that are in a downset [tensors, downsets]."""
        return self._counted(self.graph.consumers)

    def _counted(self, sets: list[tuple[int, ...]]) -> np.ndarray:
        import numpy as np

        most = max(map(len, sets), default=0)
        counts = np.zeros((len(sets), len(self)), dtype=np.min_scalar_type(most))
        for row, groups in enumerate(sets):
            counts[row] = _counts(self.member, groups)
        return counts

    @cached_property
    def needs(self) -> np.ndarray:
        """Number of consumers of each tensor; an output of the model has one more [tensors]."""
        import numpy as np

        pairs = zip(self.graph.consumers, self.graph.outputs)
        return np.array([len(consumers) + output for consumers, output in pairs], dtype=np.int64)

    @cached_property
    def crossing(self) -> np.ndarray:
        """Return whether a tensor is available at a cut and needed after the cut [tensors, downsets]."""
        import numpy as np

        there = np.ones_like(self.consumed, dtype=bool)
        made = np.array(self.graph.producers, dtype=np.int64)
        there[made >= 0] = self.member[made[made >= 0]]
        return there & (self.consumed < self.needs[:, None])

    def cut(self, time: np.ndarray) -> np.ndarray:
        """Sum of the transfer times of the crossing tensors [downsets]."""
        return _sums(self.crossing, time)

    def keep(self, columns: np.ndarray) -> DownsetFamily:
        """Subfamily of the given column numbers; the empty and the whole downset always stay."""
        return DownsetFamily(self.graph, self.member[:, columns], self.weights)


def pack(member: np.ndarray) -> np.ndarray:
    """Pack booleans [groups, downsets] into 64-bit words [words, downsets]."""
    import numpy as np

    words = math.ceil(max(1, member.shape[0]) / 64)
    packed = np.zeros((words * 8, member.shape[1]), dtype=np.uint8)
    bits = np.packbits(member, axis=0, bitorder="little")
    packed[: bits.shape[0]] = bits
    return np.ascontiguousarray(packed.T).view(np.uint64).T.copy()


def _sums(member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each column of `member`, the sum of the weights of its members."""
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
