"""Pruning of a weight matrix by SparseGPT, with compensation in the elements that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.compression.calibration.inverse_factor import DAMPING, inverse_factor
from archc.compression.pruning.sparsity import BLOCK, Sparsity

if TYPE_CHECKING:
    import torch

ROUNDS = 3
"""Number of rounds in which elements are removed."""
STEPS = 40
"""Largest number of steps of the conjugate gradients in `refit_kept`."""
TOLERANCE = 1e-4
"""Norm of the gradient, relative to that before the first step, at which `refit_kept` ends."""


def prune_matrix(
    rows: torch.Tensor,
    hessian: torch.Tensor,
    sparsity: Sparsity,
    left: torch.Tensor,
    importance: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Set elements of a weight to zero with a small error of the product of the weight and its operand.

    For W of shape [channels, columns] and the second moments H of the operand, tr(ΔW H ΔWᵀ) is to be minimal.  The
    elements are removed in `ROUNDS` rounds.  Each round chooses elements by SparseGPT, and then fits all elements that
    stay (`refit_kept`): their values determine the next choice.

    Args:
        hessian: symmetric, positive semidefinite, of shape [columns, columns], f64.
        left: mask of the elements that are left from an earlier pruning.
        importance: weight of the squared error of each channel in the choice of elements; by default, all equal.

    Returns:
        The matrix with zeros, and the mask of the elements that stay.
    """
    import torch

    factor = inverse_factor(hessian.clone()).to(rows.dtype)
    weight = torch.ones(len(rows)) if importance is None else importance.to(rows.dtype)
    values, kept = rows, left
    for part in sparsity.rounds(ROUNDS, int(left.sum())):
        kept = _chosen(values, factor, part, kept, weight)
        values = refit_kept(rows, hessian, kept, torch.where(kept, values, 0.0))
    return values, kept


def _chosen(
    values: torch.Tensor, factor: torch.Tensor, sparsity: Sparsity, left: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mask of the elements that stay, by SparseGPT.

    The columns are processed in order.  At the first column of a block, the elements of the block with the smallest
    w² / U_cc² are chosen, for H⁻¹ = Uᵀ U: this is the error that the removal of the element causes if the later columns
    compensate for it.  Then the later columns compensate for each removed element.  (Frantar and Alistarh 2023,
    "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", sections 3.2 and 3.3.)

    Args:
        factor: the upper triangular matrix U.
        weight: weight of the squared error of each channel.
    """
    import torch

    channels, columns = values.shape
    remaining, kept, before = values.clone(), left.clone(), 0
    block = max(sparsity.width, BLOCK // sparsity.width * sparsity.width)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        errors = torch.empty(channels, end - start, dtype=values.dtype)
        for column in range(start, end):
            if column % sparsity.width == 0:
                own = slice(column, min(column + sparsity.width, end))
                scores = weight[:, None] * (remaining[:, own] / factor.diagonal()[own]).square()
                kept[:, own] = sparsity.kept(scores, left[:, own], before)
                before += int(left[:, own].sum())
            error = torch.where(kept[:, column], 0.0, remaining[:, column]) / factor[column, column]
            remaining[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        remaining[:, end:] -= errors @ factor[start:end, end:]
    return kept


def refit_kept(
    target: torch.Tensor, hessian: torch.Tensor, kept: torch.Tensor, start: torch.Tensor, damping: float = DAMPING
) -> torch.Tensor:
    """Values of the kept elements with the least error of the product: W minimizes tr((W - T) H (W - T)ᵀ).

    Each row is a least-squares problem with a mask of its own.  All rows are solved together, by conjugate gradients
    with the diagonal of H as preconditioner, so that no row needs a matrix of its own.  (Meng et al. 2024, "ALPS:
    Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models", section 3.2.)

    Args:
        target: the matrix T before pruning.
        kept: mask of the elements that stay.
        start: first values; elements outside the mask are zero.
        damping: share of the mean of H's diagonal that is added to the diagonal.
    """

    scale = float(hessian.diagonal().mean())
    if not 0 < scale < float("inf"):
        return start
    matrix = (hessian / scale).to(target.dtype)
    matrix.diagonal().add_(damping)
    inverse = 1 / matrix.diagonal()
    values, mask = start.clone(), kept.to(target.dtype)
    residual = ((target - values) @ matrix).mul_(mask)
    direction = residual * inverse
    square = (residual * direction).sum(1, keepdim=True)
    enough = TOLERANCE**2 * float(square.sum())
    for _ in range(STEPS):
        if not float(square.sum()) > enough:
            break
        product = (direction @ matrix).mul_(mask)
        step = (square / (direction * product).sum(1, keepdim=True)).nan_to_num(0.0, 0.0, 0.0)
        values += step * direction
        residual -= step * product
        conditioned = residual * inverse
        following = (residual * conditioned).sum(1, keepdim=True)
        direction = conditioned + (following / square).nan_to_num(0.0, 0.0, 0.0) * direction
        square = following
    return values if bool(values.isfinite().all()) else start
