"""What no split can do better, from the work alone.

Give each group a weight, and let a kind of device carry `rate` of it in a second at most: no less than the largest
quotient of a group's weight and its work there.  A stage of load L then carries at most rate · L, and all devices
together must carry everything.  So the largest load is at least (sum of weights) / (sum of rates).

The same holds of the devices before a cut, and of those behind it, with the transfers that the cut makes sure: what
crosses it was sent by one of the devices before it and is received by one behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archc.partitioning.dag import Dag
from archc.partitioning.family import Family
from archc.partitioning.lineup import Lineup

if TYPE_CHECKING:
    import numpy as np

ROUNDING = 1e-9
"""Bounds are lowered by this part of themselves, so that no sum's rounding cuts off a best split."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Weights and rates.

    Attributes:
        weights: of each group [groups].
        rates: of each kind [kinds]; 0 for one that can do nothing.
        lower: no split of all the groups has a smaller bottleneck.
    """

    lineup: Lineup
    weights: np.ndarray
    rates: np.ndarray
    lower: float

    @property
    def before(self) -> np.ndarray:
        """What the devices that are spent in each state carry in a second."""
        import numpy as np

        return np.asarray(np.array(self.lineup.states, dtype=float) @ self.rates)

    @property
    def behind(self) -> np.ndarray:
        """What those carry that are left."""
        import numpy as np

        left = np.array(self.lineup.total) - np.array(self.lineup.states, dtype=float)
        return np.asarray(left @ self.rates)


def bounds(dag: Dag, lineup: Lineup) -> Bounds:
    """The best bound of a few choices of weights: the least work of each group, and its work on each kind."""
    import numpy as np

    kinds = np.flatnonzero(lineup.total)
    work = dag.work[:, kinds]
    least = np.where(np.isfinite(work), work, np.inf).min(axis=1, initial=np.inf)
    # A weight on what costs a kind nothing would let that kind carry anything.
    choices = [least] + [
        np.where(np.isfinite(work[:, kind]) & (least > 0), work[:, kind], least) for kind in range(len(kinds))
    ]
    found = []
    for weights in choices:
        rates = np.zeros(dag.work.shape[1])
        some = np.flatnonzero(weights)
        rates[kinds] = (weights[some, None] / work[some]).max(axis=0, initial=0.0)
        carried = float(np.array(lineup.total) @ rates)
        lower = float(weights.sum()) / carried * (1 - ROUNDING) if carried else 0.0
        found.append(Bounds(lineup, weights, rates, lower))
    # Each group is somewhere, too.
    alone = float(least.max(initial=0.0)) * (1 - ROUNDING)
    best = max(found, key=lambda bound: bound.lower)
    return Bounds(best.lineup, best.weights, best.rates, max(best.lower, alone))


def needed(family: Family, bound: Bounds) -> np.ndarray:
    """For a cut at each downset in each state, what no split with such a cut is below [states, downsets]."""
    import numpy as np

    lineup, relayed = bound.lineup, family.dag.problem.relayed
    inputs = np.array([producer < 0 for producer in family.dag.producers], dtype=bool)
    consumers = np.array([len(groups) for groups in family.dag.consumers], dtype=np.int64)
    sent = family.crossing if relayed else family.crossing & ~inputs[:, None]
    received = family.crossing if relayed else family.crossing & (family.consumed < consumers[:, None])
    scaled = family.dag.time * bound.rates

    rest = family.weight[-1] - family.weight
    rest[rest <= family.weight[-1] * ROUNDING] = 0.0
    known: dict[tuple[bytes, bool], np.ndarray] = {}

    def carried(devices: np.ndarray, rate: float, is_before: bool) -> np.ndarray:
        """What devices on one side of each cut must carry, over what they can in a second."""
        kinds = devices > 0
        key = kinds.tobytes(), is_before
        if key not in known:
            # The cheapest device on that side may be the one that pays.
            cheapest = scaled[:, kinds].min(axis=1, initial=np.inf) if kinds.any() else np.zeros(len(scaled))
            sums = (sent if is_before else received).T @ cheapest
            known[key] = (family.weight if is_before else rest) + sums
        carry = known[key]
        return np.asarray(np.divide(carry, rate, out=np.where(carry > 0, np.inf, 0.0), where=rate > 0))

    bottlenecks = np.empty((len(lineup.states), len(family)))
    for state, (spent, before, behind) in enumerate(zip(lineup.states, bound.before, bound.behind)):
        devices = np.array(spent)
        ahead = carried(devices, before, True)
        after = carried(np.array(lineup.total) - devices, behind, False)
        # Nobody is behind the whole, and nobody before nothing.
        after[-1] = ahead[0] = 0.0
        bottlenecks[state] = np.maximum(ahead, after) * (1 - ROUNDING)
    bottlenecks[:, 0] = np.inf
    bottlenecks[0, :] = np.inf
    bottlenecks[0, 0] = 0.0
    return bottlenecks
