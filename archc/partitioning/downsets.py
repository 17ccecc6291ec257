"""All downsets of a graph at which a split below some bottleneck can be cut.

Groups are decided one after the other, in topological order: in, if all predecessors are in, and out.  After each the
partial downsets are those of the graph so far, so there are never more of them than there are downsets; and one goes
as soon as no state of the devices suits it, because what is in, with the transfers over the cut, is more than the
devices before the cut can carry, or what is out is more than those behind it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.partitioning.bounds import ROUNDING, Bounds
from archc.partitioning.clock import Clock
from archc.partitioning.dag import Dag
from archc.partitioning.family import pack

if TYPE_CHECKING:
    import numpy as np


def downsets(dag: Dag, bounds: Bounds, limit: float, most: int, clock: Clock) -> np.ndarray | None:
    """The downsets that a cut of a split with a bottleneck below the limit can be at, as members [groups, downsets].

    None where there are more than `most`, or where the time is over.
    """
    import numpy as np

    masks = _masks(dag.predecessors)
    paid = _paid(dag, bounds)
    descending = _descendants(dag, bounds.weights)
    # What is spent before a cut and what is left behind it add up to all, in every state: the one that just carries
    # what is in leaves the most for what is out.
    before = np.unique(bounds.before) * limit * (1 + ROUNDING)
    behind = (before[-1] - before) + before[-1] * ROUNDING

    words = np.zeros((masks.shape[0], 1), dtype=np.uint64)
    inside, outside, surely_out, crossing = np.zeros((4, 1))
    for group in range(len(dag)):
        if clock.over():
            return None
        weight = bounds.weights[group]
        can = _holds(words, masks[:, group])
        taken = words[:, can]
        taken[group // 64] |= np.uint64(1 << (group % 64))
        cut = crossing.copy()
        for mask, time in paid[group]:
            cut += _holds(words, mask) * time
        more_out = np.where(can, np.maximum(surely_out, descending[group]), surely_out)
        words = np.concatenate([words, taken], axis=1)
        crossing = np.concatenate([cut, crossing[can]])
        surely_out = np.concatenate([more_out, surely_out[can]])
        outside = np.concatenate([outside + weight, outside[can]])
        inside = np.concatenate([inside, inside[can] + weight])
        state = np.searchsorted(before, inside + crossing)
        possible = state < len(before)
        left = behind[np.minimum(state, len(before) - 1)]
        possible &= np.maximum(outside, surely_out) + crossing <= left
        words, surely_out, crossing = words[:, possible], surely_out[possible], crossing[possible]
        outside, inside = outside[possible], inside[possible]
        if words.shape[1] > most:
            return None
    bits = np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1, bitorder="little")
    return bits[:, : len(dag)].T.astype(bool)


def _masks(predecessors: list[list[int]]) -> np.ndarray:
    """The predecessors of each group as bits [words, groups]."""
    import numpy as np

    member = np.zeros((len(predecessors), len(predecessors)), dtype=bool)
    for group, before in enumerate(predecessors):
        member[before, group] = True
    return pack(member)


def _holds(words: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whether all groups of a mask are in a downset [downsets]."""
    import numpy as np

    all_in = np.ones(words.shape[1], dtype=bool)
    for word in np.flatnonzero(mask).tolist():
        all_in &= (words[word] & mask[word]) == mask[word]
    return all_in


def _paid(dag: Dag, bounds: Bounds) -> list[list[tuple[np.ndarray, float]]]:
    """For each group that stays out, the tensors that then cross the cut, and what either side carries for them.

    A tensor is listed for each of its consumers, with its producer and the consumers decided earlier as a mask: it
    counts once, for the first consumer that stays out.
    """
    import numpy as np

    found: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(len(dag))]
    kinds = np.flatnonzero(bounds.lineup.total)
    carried = (dag.time[:, kinds] * bounds.rates[kinds]).min(axis=1, initial=np.inf) * (1 - ROUNDING)
    for producer, consumers, time in zip(dag.producers, dag.consumers, carried.tolist()):
        if producer >= 0 and time > 0:
            member = np.zeros((len(dag), 1), dtype=bool)
            member[producer] = True
            for consumer in consumers:
                found[consumer].append((pack(member)[:, 0], time))
                member[consumer] = True
    return found


def _descendants(dag: Dag, weights: np.ndarray) -> np.ndarray:
    """The weight of each group and of all that needs it, at any distance [groups]."""
    import numpy as np

    below = np.zeros((len(dag), len(dag)), dtype=bool)
    for group in range(len(dag) - 1, -1, -1):
        below[group, group] = True
        for after in dag.successors[group]:
            below[group] |= below[after]
    # Lowered, since it is summed in another order than what it is compared with.
    return np.asarray((below @ weights) * (1 - ROUNDING))
