"""From a problem to its split: what may be merged is merged, a good split found, and a better one looked for.

The search that makes a split exact takes all downsets at which a split better than the best known can be cut
(`downsets`) and the best chain of them (`chain`).  It first asks whether there is one far below the best known, since
that is quick to deny, and a denial is a lower bound.  Where there are too many downsets, the best known stays the
answer, with that bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from archc.garbage_collector import paused_collector
from archc.partitioning.bounds import ROUNDING, Bounds, bounds
from archc.partitioning.chain import Chain, Search
from archc.partitioning.clock import Clock
from archc.partitioning.dag import Dag, condense
from archc.partitioning.downsets import downsets
from archc.partitioning.family import Family
from archc.partitioning.fits import check_fits
from archc.partitioning.heuristic import approximate, ceiling
from archc.partitioning.lineup import lineup
from archc.partitioning.measure import measure
from archc.partitioning.narrowing import narrow
from archc.partitioning.problem import Infeasible, Problem, Split
from archc.partitioning.reduction import reduce

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

    dag: Dag
    bound: Bounds
    chain: Chain | None
    lower: float
    proven: bool = False
    downsets: int = 0
    weighed: int = 0
    upper: float = field(init=False)

    def __post_init__(self) -> None:
        self.upper = ceiling(self.dag) if self.chain is None else self.chain.bottleneck


def solve(problem: Problem, *, seconds: float | None = None) -> Split:
    """The split with the smallest bottleneck.

    Args:
        seconds: after so long, the best one found so far; finding the first one may take longer.

    Raises:
        Infeasible: no split fits the devices, or, for a large problem, none was found.
    """
    with paused_collector():
        return _solve(problem, Clock(seconds))


def _solve(problem: Problem, clock: Clock) -> Split:
    dag = condense(problem)
    check_fits(dag)
    small = reduce(dag)
    if not problem.all_used or len(small) == len(dag):
        return _split(_search(small, problem.all_used, 0.0, clock))
    # What is merged may leave a device without a task.  A split that need not use all of them is a bound,
    # and the answer if it does.
    eased = _search(small, False, 0.0, clock)
    if eased.chain is not None and len(eased.chain.cuts) == sum(lineup(problem, len(small), True).total):
        return _split(eased)
    return _split(_search(dag, True, eased.lower, clock))


def _search(dag: Dag, all_used: bool, lower: float, clock: Clock) -> _Found:
    """The best split of some groups."""
    bound = bounds(dag, lineup(dag.problem, len(dag), all_used))
    found = _Found(dag, bound, approximate(dag, bound, clock), max(lower, bound.lower))
    for part in PARTS:
        if found.proven or found.upper <= found.lower * (1 + 2 * ROUNDING):
            found.proven = found.chain is not None
            break
        if not _ask(found, found.lower + part * (found.upper - found.lower), clock):
            break
    else:
        found.proven = True
    return found


def _ask(found: _Found, limit: float, clock: Clock) -> bool:
    """See whether there is a split below a limit; False where that was too much to ask."""
    import numpy as np

    dag, place = narrow(found.dag, found.bound, limit)
    if len(dag) > MOST_GROUPS:
        return False
    bound = bounds(dag, found.bound.lineup)
    most = min(MOST_DOWNSETS, MOST_CELLS // (len(dag) + len(dag.producers) + 1))
    member = downsets(dag, bound, limit, most, clock)
    if member is None:
        return False
    family = Family(dag, member, bound.weights)
    reach = np.searchsorted(family.weight, family.weight + bound.rates.max() * limit)
    if int((reach - np.arange(len(family))).sum()) > MOST_STAGES:
        return False
    chain = Search(family, bound, limit, clock).run()
    found.downsets += len(family)
    found.weighed += chain.weighed
    if chain.states:
        found.chain, found.upper = replace(chain, cuts=[cut[place] for cut in chain.cuts]), chain.bottleneck
        found.proven = chain.complete
    elif chain.complete:
        found.lower = max(found.lower, limit * (1 - ROUNDING))
    return chain.complete


def _split(found: _Found) -> Split:
    """What was found, measured.

    Raises:
        Infeasible: nothing was.
    """
    import numpy as np

    dag, chain = found.dag, found.chain
    if chain is None:
        how = "there is no split" if found.proven else "no split was found"
        raise Infeasible(f"{how} in which every stage fits the memory of its device", proven=found.proven)
    line, problem = found.bound.lineup, dag.problem
    stages: list[list[int]] = []
    kinds: list[int] = []
    devices: list[int] = []
    below, before = np.zeros(len(dag), dtype=bool), 0
    for cut, state in zip(chain.cuts, chain.states):
        stages.append(dag.tasks(np.flatnonzero(cut & ~below).tolist()))
        kind = line.kind(before, state)
        kinds.append(kind)
        spent = sum(line.total[:kind]) + line.states[before][kind]
        devices.append(spent if problem.order is None else state - 1)
        below, before = cut, state
    measured = measure(problem, stages, kinds, devices)
    bottleneck = max(stage.load for stage in measured)
    return Split(
        stages=tuple(measured),
        bottleneck=bottleneck,
        exact=found.proven,
        lower_bound=bottleneck if found.proven else min(found.lower, bottleneck),
        downsets=found.downsets,
        weighed=found.weighed,
    )
