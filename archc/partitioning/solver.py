"""Solver: contract the graph, find a good split, and improve it until it is proven optimal.

`problem` defines downsets, splits and the bottleneck.  The nodes of the contracted graph are groups of tasks.

A search finds the best split with a bottleneck below a limit: it enumerates the downsets that such a split can contain
(`downsets`), and finds the best chain of these downsets (`chain_search`).  If no such split exists, the limit is a
lower bound on the bottleneck.  A search with a low limit is fast, so the limit is low at first and then raised up to
the best known bottleneck.  If a search has too many downsets, the solver returns the best known split and the lower
bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from time import monotonic

from archc.garbage_collector import paused_collector
from archc.partitioning.chain_search import ChainSearch, DownsetChain
from archc.partitioning.contraction import contract_dominated, contract_inseparable
from archc.partitioning.downsets import DownsetFamily, enumerate_downsets
from archc.partitioning.feasibility import check_feasible
from archc.partitioning.heuristic import heuristic_chain, load_ceiling
from archc.partitioning.lower_bounds import ROUNDING, Bounds, compute_bounds, device_states
from archc.partitioning.problem import Infeasible, PipelineSplit, Problem, measure_stages
from archc.partitioning.task_graph import TaskGraph, build_task_graph

MOST_GROUPS = 3000
"""Number of groups up to which the exact search runs."""
MOST_DOWNSETS = 250_000
"""Maximum number of downsets in a search."""
MOST_CELLS = 200_000_000
"""Maximum of downsets · (groups + tensors), the size of the search's matrices in bytes."""
MOST_STAGES = 2_000_000_000
"""Maximum number of pairs of downsets whose weights (`lower_bounds`) permit a stage between them."""
PARTS = 0.25, 0.5, 1.0
"""Limits of the searches, as fractions of the way from the lower bound to the best known bottleneck."""


@dataclass
class _Found:
    """Progress of the search.

    Attributes:
        chain: the best known split, None if none is known.
        lower: lower bound on the bottleneck.
        proven: whether the chain is optimal, or no split exists.
        upper: bottleneck of the best known split; if no split is known, an upper bound on every load.
    """

    graph: TaskGraph
    bound: Bounds
    chain: DownsetChain | None
    lower: float
    proven: bool = False
    downsets: int = 0
    stages_tried: int = 0
    upper: float = field(init=False)

    def __post_init__(self) -> None:
        self.upper = load_ceiling(self.graph) if self.chain is None else self.chain.bottleneck


def solve(problem: Problem, *, seconds: float | None = None) -> PipelineSplit:
    """Find the split with the smallest bottleneck.

    Args:
        seconds: time after which the best known split is returned; finding a first split may take longer.

    Raises:
        Infeasible: no split fits the devices, or, for a large problem, none was found.
    """
    with paused_collector():
        return _solve(problem, math.inf if seconds is None else monotonic() + seconds)


def _solve(problem: Problem, deadline: float) -> PipelineSplit:
    graph = build_task_graph(problem)
    check_feasible(graph)
    small = contract_dominated(graph)
    if not problem.all_used or len(small) == len(graph):
        return _split(_search(small, problem.all_used, 0.0, deadline))
    # `contract_dominated` is only valid if devices may stay idle, so the search in `small` allows idle devices.  If the
    # split that it finds uses all devices, this split is the solution.  Otherwise `graph` is searched, from the lower
    # bound of the search in `small`.
    eased = _search(small, False, 0.0, deadline)
    if eased.chain is not None and len(eased.chain.cuts) == sum(device_states(problem, len(small), True).total):
        return _split(eased)
    return _split(_search(graph, True, eased.lower, deadline))


def _search(graph: TaskGraph, all_used: bool, lower: float, deadline: float) -> _Found:
    """Find the best split of a contracted graph."""
    bound = compute_bounds(graph, device_states(graph.problem, len(graph), all_used))
    found = _Found(graph, bound, heuristic_chain(graph, bound, deadline), max(lower, bound.lower))
    for part in PARTS:
        if found.proven or found.upper <= found.lower * (1 + 2 * ROUNDING):
            found.proven = found.chain is not None
            break
        if not _search_below(found, found.lower + part * (found.upper - found.lower), deadline):
            break
    else:
        found.proven = True
    return found


def _search_below(found: _Found, limit: float, deadline: float) -> bool:
    """Search for a split below a limit; return False if the search was too large or did not end in time."""
    import numpy as np

    graph, place = contract_inseparable(found.graph, found.bound, limit)
    if len(graph) > MOST_GROUPS:
        return False
    bound = compute_bounds(graph, found.bound.devices)
    most = min(MOST_DOWNSETS, MOST_CELLS // (len(graph) + len(graph.producers) + 1))
    member = enumerate_downsets(graph, bound, limit, most, deadline)
    if member is None:
        return False
    family = DownsetFamily(graph, member, bound.weights)
    reach = np.searchsorted(family.weight, family.weight + bound.rates.max() * limit)
    if int((reach - np.arange(len(family))).sum()) > MOST_STAGES:
        return False
    chain = ChainSearch(family, bound, limit, deadline).run()
    found.downsets += len(family)
    found.stages_tried += chain.stages_tried
    if chain.states:
        found.chain, found.upper = replace(chain, cuts=[cut[place] for cut in chain.cuts]), chain.bottleneck
        found.proven = chain.complete
    elif chain.complete:
        found.lower = max(found.lower, limit * (1 - ROUNDING))
    return chain.complete


def _split(found: _Found) -> PipelineSplit:
    """Build the split of a finished search, with measured loads.

    Raises:
        Infeasible: the search found no split.
    """
    import numpy as np

    graph, chain = found.graph, found.chain
    if chain is None:
        how = "no split exists" if found.proven else "no split was found"
        raise Infeasible(f"{how} in which every stage fits the memory of its device", proven=found.proven)
    states, problem = found.bound.devices, graph.problem
    stages: list[list[int]] = []
    kinds: list[int] = []
    devices: list[int] = []
    below, before = np.zeros(len(graph), dtype=bool), 0
    for cut, state in zip(chain.cuts, chain.states):
        stages.append(graph.tasks(np.flatnonzero(cut & ~below).tolist()))
        kind = states.kind(before, state)
        kinds.append(kind)
        spent = sum(states.total[:kind]) + states.states[before][kind]
        devices.append(spent if problem.order is None else state - 1)
        below, before = cut, state
    measured = measure_stages(problem, stages, kinds, devices)
    bottleneck = max(stage.load for stage in measured)
    return PipelineSplit(
        stages=tuple(measured),
        bottleneck=bottleneck,
        exact=found.proven,
        lower_bound=bottleneck if found.proven else min(found.lower, bottleneck),
        downsets=found.downsets,
        stages_tried=found.stages_tried,
    )
