"""Heuristic for a good split: the best split along a few topological orders, then a local search.

A group is a node of the task graph, and consists of tasks that share a device.  A downset is a set of groups that
contains every producer of its members.  A cut is the boundary between a downset and the remaining groups.

The prefixes of a topological order are a chain of downsets, so the best split along one order is cheap to find.  In a
large graph, only some cuts of the order are candidates.  The order is divided into many intervals of similar work; the
first candidates are the cheapest cut in each interval and the cuts between intervals.  The search chooses some of these
cuts, and then tries more cuts near the chosen cuts.  All groups between two candidate cuts are contracted into one
group, so the cost of the search does not grow with the graph.
"""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from archc.partitioning.chain_search import ChainSearch, DownsetChain
from archc.partitioning.downsets import DownsetFamily
from archc.partitioning.lower_bounds import Bounds, compute_bounds
from archc.partitioning.task_graph import TaskGraph, contract

if TYPE_CHECKING:
    import numpy as np


WHOLE_ORDERS = 400
"""Number of groups up to which all prefixes of all orders are candidates."""
STRETCHES = 256
"""Number of intervals into which an order of a large graph is divided."""
FINE = 32
"""Number of candidate cuts on either side of a chosen cut."""
NEAR = 96
"""Number of downsets near a cut that the local search adds as candidates."""
NEAR_GROUPS = 5000
"""Number of groups up to which the local search runs."""
FACTORS = 1.05, 1.2, 1.5, 2.5, 6.0
"""Bottleneck limits to try first, as multiples of the lower bound: the search is fast at a low limit."""


def heuristic_chain(graph: TaskGraph, bound: Bounds, deadline: float) -> DownsetChain | None:
    """Find a good split; None if none was found.

    Args:
        deadline: value of `time.monotonic` at which the search for better splits ends.  The search for a first split
            has no deadline.
    """
    if len(graph) <= WHOLE_ORDERS:
        found = best_chain(DownsetFamily(graph, _prefixes(topological_orders(graph)), bound.weights), bound)
    else:
        tried = [_along(graph, order, bound, deadline) for order in topological_orders(graph)]
        found = min((chain for chain in tried if chain is not None), key=lambda chain: chain.bottleneck, default=None)
    while found is not None and len(graph) <= NEAR_GROUPS and monotonic() < deadline:
        family = DownsetFamily(graph, _near(graph, found.cuts), bound.weights)
        better = ChainSearch(family, bound, found.bottleneck, deadline).run()
        if not better.bottleneck < found.bottleneck * (1 - 1e-9):
            break
        found = better
    return found


def best_chain(family: DownsetFamily, bound: Bounds) -> DownsetChain | None:
    """Best chain of a family; None if the family has no chain."""
    for limit in [*(bound.lower * factor for factor in FACTORS), load_ceiling(family.graph)]:
        found = ChainSearch(family, bound, limit, math.inf).run()
        if found.states:
            return found
    return None


def load_ceiling(graph: TaskGraph) -> float:
    """Upper bound on every load, in seconds."""
    import numpy as np

    work = np.where(np.isfinite(graph.work), graph.work, 0.0).sum(axis=0)
    return float((work + 2 * graph.time.sum(axis=0)).max()) * 1.01 + 1e-9


def _prefixes(found: list[list[int]]) -> np.ndarray:
    """All prefixes of the given orders, as a Boolean matrix [groups, prefixes]."""
    import numpy as np

    columns = []
    for order in found:
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        columns.append(place[:, None] <= np.arange(len(order) - 1))
    return np.concatenate(columns, axis=1)


def _along(graph: TaskGraph, order: list[int], bound: Bounds, deadline: float) -> DownsetChain | None:
    """Good split along one order."""
    import numpy as np

    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    dear = _crossing_time(graph, place)
    share = bound.weights + graph.memory * (bound.weights.sum() / max(graph.memory.sum(), 1.0)) + 1e-12
    filled = np.cumsum((share / share.sum())[order])
    stretch = np.minimum((filled * STRETCHES).astype(np.int64), STRETCHES - 1)
    starts = np.flatnonzero(np.diff(stretch, prepend=-1)).tolist()
    tried = {start + int(dear[start:stop].argmin()) for start, stop in zip(starts, [*starts[1:], len(order)])}
    tried |= {stop - 1 for stop in starts[1:]}

    found = _coarse(graph, place, sorted(tried), bound)
    radius = math.ceil(len(order) / STRETCHES)
    while found is not None and radius > 1 and monotonic() < deadline:
        step = max(1, radius // FINE)
        chosen = [int(cut.sum()) - 1 for cut in found.cuts[:-1]]
        for cut in chosen:
            around = range(max(0, cut - radius), min(len(order) - 1, cut + radius), step)
            tried.update(at + int(dear[at : at + step].argmin()) for at in around)
        better = _coarse(graph, place, sorted(tried), bound)
        found = better if better is not None and better.bottleneck <= found.bottleneck else found
        radius = step
    return found


def _crossing_time(graph: TaskGraph, place: np.ndarray) -> np.ndarray:
    """Transfer time, at each position of an order, of all tensors that cross the cut after the position."""
    import numpy as np

    steps = np.zeros(len(graph) + 1)
    slowest = graph.time.max(axis=1, initial=0.0).tolist()
    for producer, consumers, time in zip(graph.producers, graph.consumers, slowest):
        if consumers and producer >= 0:
            steps[place[producer]] += time
            steps[place[list(consumers)].max()] -= time
    crossing: np.ndarray = np.cumsum(steps)[:-1]
    return crossing


def _coarse(graph: TaskGraph, place: np.ndarray, cuts: list[int], bound: Bounds) -> DownsetChain | None:
    """Best split along an order with cuts only after the positions in `cuts`."""
    import numpy as np

    run = np.searchsorted(cuts, place)
    coarse = contract(graph, run.tolist())
    count = len(coarse)
    member = np.arange(count)[:, None] <= np.arange(count - 1)
    again = compute_bounds(coarse, bound.devices)
    found = best_chain(DownsetFamily(coarse, member, again.weights), again)
    if found is None:
        return None
    fine = [run < cut.sum() for cut in found.cuts]
    return DownsetChain(found.bottleneck, fine, found.states, found.stages_tried, found.complete)


def _near(graph: TaskGraph, cuts: list[np.ndarray]) -> np.ndarray:
    """The given downsets, and downsets that differ from one of them by few groups.

    The result is a Boolean matrix [groups, downsets].
    """
    import numpy as np

    found: dict[frozenset[int], None] = {}
    for cut in cuts[:-1]:
        start = frozenset(np.flatnonzero(cut).tolist())
        seen, todo = {start: None}, deque([start])
        while todo and len(seen) < NEAR:
            moved = _moves(graph, todo.popleft())
            todo += [downset for downset in moved if downset not in seen]
            seen.update(dict.fromkeys(moved))
        found.update(seen)
    member = np.zeros((len(graph), len(found)), dtype=bool)
    for column, downset in enumerate(found):
        member[list(downset), column] = True
    return member


def _moves(graph: TaskGraph, inside: frozenset[int]) -> list[frozenset[int]]:
    """Downsets that have one group more or one group less than `inside`."""
    more = [
        inside | {group}
        for group in range(len(graph))
        if group not in inside and inside.issuperset(graph.predecessors[group])
    ]
    return more + [inside - {group} for group in inside if inside.isdisjoint(graph.successors[group])]


def topological_orders(graph: TaskGraph) -> list[list[int]]:
    """Up to five topological orders: the given one, depth first and breadth first from either end."""
    found = [list(range(len(graph)))]
    for deep in True, False:
        found.append(_sorted(graph.predecessors, graph.successors, deep))
        found.append(_sorted(graph.successors, graph.predecessors, deep)[::-1])
    return [order for number, order in enumerate(found) if order not in found[:number]]


def _sorted(before: list[list[int]], after: list[list[int]], deep: bool) -> list[int]:
    """Topological order by a stack (depth first) or a queue (breadth first) of ready groups."""
    waiting = [len(groups) for groups in before]
    ready = deque(group for group, count in enumerate(waiting) if not count)
    order = []
    while ready:
        group = ready.pop() if deep else ready.popleft()
        order.append(group)
        for successor in after[group]:
            waiting[successor] -= 1
            if not waiting[successor]:
                ready.append(successor)
    return order
