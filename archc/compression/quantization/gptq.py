"""GPTQ: quantization of a weight matrix with compensation of each rounding error in later columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.compression.quantization.grids import Grid

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to the diagonal.

(Frantar et al. 2022, section 3.3.)
"""
ATTEMPTS = 6
"""Number of times that the damping increases tenfold at most."""
BLOCK = 128
"""Number of columns after which the errors are propagated to all later columns (section 3.2)."""


def quantize_matrix(rows: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Integers q with a small error of the product of the weight and its operand.

    For W of shape [channels, columns] and the second moments H of the operand, the columns are rounded one by one in
    the order of decreasing diagonal of H ("act-order").  The error of each column is compensated in the columns that
    are not yet rounded, such that tr(ΔW H ΔWᵀ) is minimal.  The grid stays fixed.
    (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers".)

    Args:
        hessian: symmetric, positive semidefinite, of shape [columns, columns], f64.
    """
    import torch

    columns = rows.shape[1]
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    hessian = hessian[order[:, None], order]  # the caller's matrix can be freed
    factor = _inverse_factor(hessian).to(rows.dtype)
    del hessian
    remaining = rows[:, order].clone()
    q = torch.empty_like(remaining)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = torch.empty(len(rows), end - start)
        for column in range(start, end):
            scale, zero_point = grid.column(int(order[column]))
            values = remaining[:, column]
            q[:, column] = (values / scale).round_().add_(zero_point).clamp_(grid.low, grid.high)
            error = (values - (q[:, column] - zero_point) * scale) / factor[column, column]
            remaining[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        remaining[:, end:] -= errors @ factor[start:end, end:]
    found = torch.empty_like(q)
    found[:, order] = q
    return found


def _inverse_factor(hessian: torch.Tensor) -> torch.Tensor:
    """Upper triangular U with H⁻¹ = Uᵀ U, for a damped H, which is changed in place.

    H is divided by the mean of its diagonal, which changes no integer, so that very large and very small moments have
    finite inverses.  Columns without data get this mean.  If rounding errors leave H indefinite, the damping increases.
    If H is not finite, or stays indefinite, U is the identity: each column is rounded to nearest.
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
