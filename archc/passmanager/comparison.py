"""Comparison of the outputs of two runs: relative errors, and the spread over different inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PART = 1 << 20
"""Number of elements that are compared at a time."""


def largest_error(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], shares: Mapping[str, float] | None = None
) -> float:
    """The largest relative error over the outputs; see `PassReport`.

    The error is infinite if two compared elements differ and one of them is NaN or infinite; two NaNs count as equal.

    Args:
        shares: a fraction for each output; errors are relative to this fraction of the output's norm; by default 1.
    """
    worst = 0.0
    for name, expected in before.items():
        actual = after[name]
        if not expected.is_floating_point():
            wrong = _different(expected, actual)
        else:
            wrong = _relative_error(expected, actual) / (shares[name] if shares is not None else 1)
        worst = max(worst, wrong)
    return worst


def spreads(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Spread of each output over different inputs, relative to the norm of the output.

    The spread is estimated from the outputs for two independent inputs: the root mean square difference of two
    independent values with standard deviation σ is √2 σ.  For integer outputs the spread is the fraction of elements
    that differ.
    """
    found = {}
    for name, first in one.items():
        if not first.is_floating_point():
            found[name] = _different(first, other[name])
            continue
        a, b = first.double(), other[name].double()
        finite = a.isfinite() & b.isfinite()
        difference, size = (float(side[finite].norm()) for side in (a - b, a))
        found[name] = difference / size / math.sqrt(2) if size else difference
    return found


def _different(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one != other).double().mean()) if one.numel() else 0.0


def _relative_error(expected: torch.Tensor, actual: torch.Tensor) -> float:
    """Error in float64, computed in parts: the outputs of a language model can take gigabytes in float64."""
    difference, scale = 0.0, 0.0
    wanted, found = expected.flatten(), actual.flatten()
    for start in range(0, len(wanted), PART):
        one, other = (side[start : start + PART].double() for side in (wanted, found))
        finite = one.isfinite()
        same = (other == one) | (other.isnan() & one.isnan())
        if not bool((same | (finite & other.isfinite())).all()):
            return math.inf  # not NaN, because a comparison of NaN with a limit is always false
        difference = math.hypot(difference, float((other - one)[finite].norm()))
        scale = math.hypot(scale, float(one[finite].norm()))
    return difference / scale if scale else difference
