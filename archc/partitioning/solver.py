"""From a problem to its split: what may be merged is merged, a good split found, and a better one looked for.

The search that makes a split exact takes all downsets at which a split better than the best known can be cut
(`downsets`) and the best chain of them (`chain`).  It first asks whether there is one far below the best known, since
that is quick to deny, and a denial is a lower bound.  Where there are too many downsets, the best known stays the
answer, with that bound.
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
MOST_DOWNSETS = 250_000
MOST_CELLS = 200_000_000
"""Downsets times groups and tensors, of which the search keeps a byte each."""
MOST_STAGES = 2_000_000_000
"""Pairs of downsets, one above the other by weight."""
PARTS = 0.25, 0.5, 1.0
"""Where between the lower bound and the best known the search asks."""


@dataclass
class _Found:
    """What is known so far.

    Attributes:
        chain: the best split, None where none is known.
        lower: no split has a smaller bottleneck.
        proven: whether the chain is the best, or there is none.
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
    """The split with the smallest bottleneck.

    Args:
        seconds: after so long, the best one found so far; finding the first one may take longer.

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
    # What is merged may leave a device without a task.  A split that need not use all of them is a bound,
    # and the answer if it does.
    eased = _search(small, False, 0.0, deadline)
    if eased.chain is not None and len(eased.chain.cuts) == sum(device_states(problem, len(small), True).total):
        return _split(eased)
    return _split(_search(graph, True, eased.lower, deadline))


def _search(graph: TaskGraph, all_used: bool, lower: float, deadline: float) -> _Found:
    """The best split of some groups."""
    bound = compute_bounds(graph, device_states(graph.problem, len(graph), all_used))
    found = _Found(graph, bound, heuristic_chain(graph, bound, deadline), max(lower, bound.lower))
    for part in PARTS:
        if found.proven or found.upper <= found.lower * (1 + 2 * ROUNDING):
            found.proven = found.chain is not None
            break
        if not _ask(found, found.lower + part * (found.upper - found.lower), deadline):
            break
    else:
        found.proven = True
    return found


def _ask(found: _Found, limit: float, deadline: float) -> bool:
    """See whether there is a split below a limit; False where that was too much to ask."""
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
    """What was found, measured.

    Raises:
        Infeasible: nothing was.
    """
    import numpy as np

    graph, chain = found.graph, found.chain
    if chain is None:
        how = "there is no split" if found.proven else "no split was found"
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
