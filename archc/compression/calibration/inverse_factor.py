"""Triangular factor of an inverse Hessian, for the methods that compensate errors in later columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to the diagonal.

(Frantar et al. 2022, section 3.3.)
"""
ATTEMPTS = 6
"""Number of times that the damping increases tenfold at most."""


def inverse_factor(hessian: torch.Tensor) -> torch.Tensor:
    """Upper triangular U with H⁻¹ = Uᵀ U, for a damped H, which is changed in place.

    H is divided by the mean of its diagonal, which changes no integer of GPTQ and no mask, so that very large and very
    small moments have finite inverses.  Columns without data get this mean.  If rounding errors leave H indefinite, the
    damping increases.  If H is not finite, or stays indefinite, U is the identity: the errors of a column are not
    compensated in others.
    """
    import torch

    diagonal = hessian.diagonal()
    hessian.div_(float(diagonal.mean()) or 1.0)
    diagonal.copy_(torch.where(diagonal > 0, diagonal, 1.0))
    damping = DAMPING
    for _ in range(ATTEMPTS):
        diagonal.add_(damping)
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            break
        damping *= 10
    if failed or not lower.isfinite().all():
        return torch.eye(len(hessian), dtype=hessian.dtype)
    inverse = torch.cholesky_inverse(lower, out=lower)
    factor: torch.Tensor = torch.linalg.cholesky(inverse)
    return factor.T
