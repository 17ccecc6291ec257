"""Linear programs over places: things apart by a distance, and near to each other otherwise."""

from __future__ import annotations

from collections.abc import Mapping


class Program:
    """A linear program in the making; variables are numbers from 0.

    Small costs of the variables themselves leave few solutions to choose from.  Where there are several, the one that
    is found is the same on every run, and may be another one with another release of scipy.
    """

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._rows: list[tuple[Mapping[int, float], float]] = []

    def variable(self, cost: float = 0.0) -> int:
        """A new variable, not negative."""
        self._costs.append(cost)
        return len(self._costs) - 1

    def at_least(self, terms: Mapping[int, float], bound: float) -> None:
        """Demand that a weighted sum is at least so much."""
        self._rows.append((terms, bound))

    def apart(self, low: int, high: int, distance: float) -> None:
        """Demand that one variable is larger than another one by a distance."""
        self.at_least({high: 1.0, low: -1.0}, distance)

    def pull(self, low: int, high: int, weight: float) -> None:
        """Make the difference of two variables, which is known not to be negative, small."""
        self._costs[high] += weight
        self._costs[low] -= weight

    def near(self, terms: Mapping[int, float], constant: float, weight: float) -> None:
        """Make the absolute value of a weighted sum plus a constant small."""
        size = self.variable(weight)
        self.at_least({size: 1.0, **{name: -factor for name, factor in terms.items()}}, constant)
        self.at_least({size: 1.0, **terms}, -constant)

    def solve(self) -> list[float]:
        """The values of all variables."""
        import numpy as np
        from scipy.optimize import linprog
        from scipy.sparse import csr_array

        if not self._costs:
            return []
        data, rows, columns = [], [], []
        for number, (terms, _) in enumerate(self._rows):
            for name, factor in terms.items():
                rows.append(number)
                columns.append(name)
                data.append(-factor)
        matrix = csr_array((data, (rows, columns)), shape=(len(self._rows), len(self._costs)))
        bounds = [-bound for _, bound in self._rows]
        found = linprog(np.array(self._costs), A_ub=matrix, b_ub=np.array(bounds), bounds=(0, None), method="highs-ds")
        assert found.status == 0, found.message
        return [float(value) for value in found.x]
