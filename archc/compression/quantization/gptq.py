"""GPTQ: quantization of a weight matrix with compensation of each rounding error in later columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.compression.calibration.inverse_factor import inverse_factor
from archc.compression.quantization.grids import Grid

if TYPE_CHECKING:
    import torch

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
    factor = inverse_factor(hessian).to(rows.dtype)
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
