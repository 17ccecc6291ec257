"""Division of the calibration data: samples for the passes, for the choice, and for the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.frozen_dataclass import frozen_by_identity

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

LEAST = 10
"""Least number of samples: the smallest part has one fifth of them."""
CHOICE = VERDICT = 0.2
"""Shares of the samples for the choice among pipelines, and for the verdict on the chosen one."""


@frozen_by_identity
class Samples:
    """Three disjoint parts of the data.

    Attributes:
        calibration: for the passes.
        choice: for the comparison of pipelines.
        verdict: for the agreement of the chosen pipeline; nothing was chosen by these samples.
    """

    calibration: Arrays
    choice: Arrays
    verdict: Arrays

    @property
    def seen(self) -> Arrays:
        """The samples for calibration and for the choice."""
        import numpy as np

        parts = self.calibration, self.choice
        return {
            name: np.concatenate([each[name] for each in parts]) if array.ndim else array
            for name, array in self.calibration.items()
        }


def divide(data: Arrays, seed: int) -> Samples:
    """Divide samples at random, in the order of the data within each part.

    An input without axes belongs to every part.

    Raises:
        ArchcError: there are fewer than `LEAST` samples (`calibration-too-few`).
    """
    import numpy as np

    counts = {len(array) for array in data.values() if array.ndim}
    count = min(counts, default=1)
    if len(counts) != 1 or count < LEAST:
        found = "inputs with different numbers of samples" if len(counts) > 1 else f"{count} samples"
        raise error(
            "calibration-too-few",
            f"a search needs at least {LEAST} samples along the first axis of each input, got {found}",
            help="a few hundred samples are enough: the passes get 60 %, 20 % choose the pipeline, and 20 % judge it",
        )
    order = np.random.default_rng(seed).permutation(count)
    first, second = count - round((CHOICE + VERDICT) * count), count - round(VERDICT * count)
    parts = (np.sort(part) for part in np.split(order, [first, second]))
    return Samples(*({name: array[rows] if array.ndim else array for name, array in data.items()} for rows in parts))
