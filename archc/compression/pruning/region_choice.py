"""Choice of the regions of a graph that other layers replace, by loss and by saved cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archc.analysis.regions import Region
from archc.compression.pruning.ridge_map import AffineMap
from archc.declaration.base import Operator
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Node

TOLERANCE = 1e-6
"""Relative error of the constraints of the solver."""


@frozen_by_identity
class Replacement:
    """A way to compute the exit of a region.

    Attributes:
        op: the operator in place of the region; None if the exit is the entry.
        saving: reduction of the cost of the model.
        fitted: the map that the operator computes.
        loss: squared error of the outputs, relative to their mean squares.
    """

    region: Region
    op: Operator | None
    saving: int
    fitted: AffineMap | None = None
    loss: float = 0.0


def choose_replacements(options: Sequence[Replacement], needed: int) -> list[Replacement] | None:
    """Replacements of disjoint regions with the least sum of losses; None if they save too little.

    They save at least `needed`.  It is a 0-1 linear program with one constraint for each node, solved by branch and
    bound (scipy.optimize.milp).
    """
    losses = np.array([option.loss for option in options])
    scale = float(losses.max(initial=0)) or 1.0
    chosen = _solved(options, losses / scale, needed)
    if chosen is not None and _saved(chosen) < needed:  # within the tolerance of the solver
        chosen = _solved(options, losses / scale, needed + int(2 * TOLERANCE * needed) + 1)
    if chosen is not None:
        return chosen
    largest = most_saving(options)
    return largest if _saved(largest) >= needed else None


def most_saving(options: Sequence[Replacement]) -> list[Replacement]:
    """Replacements of disjoint regions that save most."""
    savings = np.array([float(option.saving) for option in options])
    return _solved(options, -savings / (savings.max(initial=0) or 1.0), 0) or []


def _saved(chosen: Sequence[Replacement]) -> int:
    return sum(option.saving for option in chosen)


def _solved(options: Sequence[Replacement], costs: np.ndarray, needed: int) -> list[Replacement] | None:
    """The options with the least sum of costs that save at least `needed`."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    if not options:
        return None if needed > 0 else []
    rows: dict[Node, int] = {}
    places = [
        (rows.setdefault(node, len(rows)), column)
        for column, option in enumerate(options)
        for node in option.region.nodes
    ]
    shape = len(rows), len(options)
    overlaps = coo_array((np.ones(len(places)), tuple(np.array(places).T)), shape)
    constraints = [LinearConstraint(overlaps, ub=np.ones(len(rows)))]
    if needed > 0:
        savings = np.array([[option.saving / needed for option in options]])
        constraints.append(LinearConstraint(savings, lb=[1.0]))
    found = milp(costs, integrality=np.ones(len(options)), bounds=Bounds(0, 1), constraints=constraints)
    if found.x is None:
        return None
    return [option for option, taken in zip(options, found.x) if taken > 0.5]
