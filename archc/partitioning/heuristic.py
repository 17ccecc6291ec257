"""Good splits, fast: the best along a few topological orders, then the best near what was found.

Along an order the downsets are its prefixes.  Of a large graph only some are tried at first: the cheapest cut in each
of so many stretches of like work; then more of them around the cuts that were chosen.  What lies between two tried
cuts is one group for the search, so its cost does not grow with the graph.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from archc.partitioning.bounds import Bounds, bounds
from archc.partitioning.chain import Chain, Search
from archc.partitioning.clock import Clock
from archc.partitioning.dag import Dag, merge
from archc.partitioning.family import Family
from archc.partitioning.orders import orders

if TYPE_CHECKING:
    import numpy as np

WHOLE_ORDERS = 400
"""Up to how many groups all prefixes of all orders are tried at once."""
STRETCHES = 256
FINE = 32
"""How many cuts are tried on either side of a cut chosen before."""
NEAR = 96
"""How many downsets near a cut are tried."""
NEAR_GROUPS = 5000
FACTORS = 1.05, 1.2, 1.5, 2.5, 6.0
"""Bottlenecks to try first, over the lower bound: the lower the one that suffices, the fewer cuts can be."""


def approximate(dag: Dag, bound: Bounds, clock: Clock) -> Chain | None:
    """A good split, None where none was found; the clock only ends its improvement."""
    if len(dag) <= WHOLE_ORDERS:
        found = best_of(Family(dag, _prefixes(orders(dag)), bound.weights), bound)
    else:
        tried = [_along(dag, order, bound, clock) for order in orders(dag)]
        found = min((chain for chain in tried if chain is not None), key=lambda chain: chain.bottleneck, default=None)
    while found is not None and len(dag) <= NEAR_GROUPS and not clock.over():
        family = Family(dag, _near(dag, found.cuts), bound.weights)
        better = Search(family, bound, found.bottleneck, clock).run()
        if not better.bottleneck < found.bottleneck * (1 - 1e-9):
            break
        found = better
    return found


def best_of(family: Family, bound: Bounds) -> Chain | None:
    """The best chain of a family, None where it has none."""
    for limit in [*(bound.lower * factor for factor in FACTORS), ceiling(family.dag)]:
        found = Search(family, bound, limit, Clock(None)).run()
        if found.states:
            return found
    return None


def ceiling(dag: Dag) -> float:
    """More than any load."""
    import numpy as np

    work = np.where(np.isfinite(dag.work), dag.work, 0.0).sum(axis=0)
    return float((work + 2 * dag.time.sum(axis=0)).max()) * 1.01 + 1e-9


def _prefixes(found: list[list[int]]) -> np.ndarray:
    """All prefixes of some orders, as members [groups, prefixes]."""
    import numpy as np

    columns = []
    for order in found:
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        columns.append(place[:, None] <= np.arange(len(order) - 1))
    return np.concatenate(columns, axis=1)


def _along(dag: Dag, order: list[int], bound: Bounds, clock: Clock) -> Chain | None:
    """A good split along one order."""
    import numpy as np

    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    dear = _crossing_time(dag, place)
    share = bound.weights + dag.memory * (bound.weights.sum() / max(dag.memory.sum(), 1.0)) + 1e-12
    filled = np.cumsum((share / share.sum())[order])
    stretch = np.minimum((filled * STRETCHES).astype(np.int64), STRETCHES - 1)
    starts = np.flatnonzero(np.diff(stretch, prepend=-1)).tolist()
    tried = {start + int(dear[start:stop].argmin()) for start, stop in zip(starts, [*starts[1:], len(order)])}
    tried |= {stop - 1 for stop in starts[1:]}

    found = _coarse(dag, place, sorted(tried), bound)
    radius = math.ceil(len(order) / STRETCHES)
    while found is not None and radius > 1 and not clock.over():
        step = max(1, radius // FINE)
        chosen = [int(cut.sum()) - 1 for cut in found.cuts[:-1]]
        for cut in chosen:
            around = range(max(0, cut - radius), min(len(order) - 1, cut + radius), step)
            tried.update(at + int(dear[at : at + step].argmin()) for at in around)
        better = _coarse(dag, place, sorted(tried), bound)
        found = better if better is not None and better.bottleneck <= found.bottleneck else found
        radius = step
    return found


def _crossing_time(dag: Dag, place: np.ndarray) -> np.ndarray:
    """The time of all tensors that cross a cut after each place of an order [places]."""
    import numpy as np

    steps = np.zeros(len(dag) + 1)
    for producer, consumers, time in zip(dag.producers, dag.consumers, dag.time.max(axis=1, initial=0.0).tolist()):
        if consumers and producer >= 0:
            steps[place[producer]] += time
            steps[place[list(consumers)].max()] -= time
    crossing: np.ndarray = np.cumsum(steps)[:-1]
    return crossing


def _coarse(dag: Dag, place: np.ndarray, cuts: list[int], bound: Bounds) -> Chain | None:
    """The best split along an order with cuts only after some of its places."""
    import numpy as np

    run = np.searchsorted(cuts, place)
    coarse = merge(dag, run.tolist())
    count = len(coarse)
    member = np.arange(count)[:, None] <= np.arange(count - 1)
    again = bounds(coarse, bound.lineup)
    found = best_of(Family(coarse, member, again.weights), again)
    if found is None:
        return None
    fine = [run < cut.sum() for cut in found.cuts]
    return Chain(found.bottleneck, fine, found.states, found.weighed, found.complete)


def _near(dag: Dag, cuts: list[np.ndarray]) -> np.ndarray:
    """Downsets that a few moves of single groups make of some, with those themselves [groups, downsets]."""
    import numpy as np

    found: dict[frozenset[int], None] = {}
    for cut in cuts[:-1]:
        start = frozenset(np.flatnonzero(cut).tolist())
        seen, todo = {start: None}, deque([start])
        while todo and len(seen) < NEAR:
            moved = _moves(dag, todo.popleft())
            todo += [downset for downset in moved if downset not in seen]
            seen.update(dict.fromkeys(moved))
        found.update(seen)
    member = np.zeros((len(dag), len(found)), dtype=bool)
    for column, downset in enumerate(found):
        member[list(downset), column] = True
    return member


def _moves(dag: Dag, inside: frozenset[int]) -> list[frozenset[int]]:
    """The downsets with one group more, or one less."""
    more = [
        inside | {group}
        for group in range(len(dag))
        if group not in inside and inside.issuperset(dag.predecessors[group])
    ]
    return more + [inside - {group} for group in inside if inside.isdisjoint(dag.successors[group])]
