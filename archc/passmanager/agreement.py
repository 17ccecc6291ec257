"""How far two runs of a model are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def largest_error(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """The largest relative error over the outputs; see `PassReport`.

    It is infinite where one side has a NaN or an infinity that the other has not.
    """
    worst = 0.0
    for name, expected in before.items():
        actual = after[name]
        if not expected.is_floating_point():
            wrong = float((expected != actual).double().mean()) if expected.numel() else 0.0
        else:
            wrong = _relative_error(expected.double(), actual.double())
        worst = max(worst, wrong)
    return worst


def _relative_error(expected: torch.Tensor, actual: torch.Tensor) -> float:
    finite = expected.isfinite()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    if not bool((same | (finite & actual.isfinite())).all()):
        return math.inf  # and not NaN, which is smaller than nothing and hides
    difference, scale = (float(side[finite].norm()) for side in (actual - expected, expected))
    return difference / scale if scale else difference
