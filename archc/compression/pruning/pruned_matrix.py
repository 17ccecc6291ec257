"""Pruning of one weight of a model by SparseGPT or Wanda, for sequential compression."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from archc.compression.calibration.sequential import Approximation, LayerProblem, Solver
from archc.compression.pruning.sparse_gpt import prune_matrix
from archc.compression.pruning.sparsity import Sparsity
from archc.frozen_dataclass import frozen_by_identity

if TYPE_CHECKING:
    import numpy as np
    import torch

DataMethod = Literal["sparsegpt", "wanda"]


@frozen_by_identity
class PrunedWeight:
    """A weight with zeros.

    Attributes:
        values: of the shape of the weight.
        kept: mask of the elements that stay.
        by_data: False if the operand has no finite moments, so that the elements were chosen by magnitude.
    """

    values: np.ndarray
    kept: np.ndarray
    by_data: bool = True


def pruner(method: DataMethod, sparsity: Sparsity, left: np.ndarray) -> Solver[PrunedWeight]:
    """A solver that sets elements of a weight to zero.

    Args:
        left: mask of the elements that are left from an earlier pruning, of the shape of the weight.
    """
    return partial(_pruned, method, sparsity, left)


def _pruned(
    method: DataMethod, sparsity: Sparsity, left: np.ndarray, problem: LayerProblem
) -> Approximation[PrunedWeight]:
    import torch

    mask = torch.from_numpy(left.copy()).flatten(1)
    if problem.target is None:
        rows = torch.from_numpy(problem.weight.copy()).flatten(1)
        kept = sparsity.kept_of_rows(rows.abs(), mask)
        return Approximation(_weight(problem, torch.where(kept, rows, 0.0), kept, by_data=False), None)
    channels = len(problem.target) // len(problem.moments)
    importance = None
    if problem.metric is not None:
        metric = problem.metric.matrix
        importance = metric.diagonal() if metric.dim() == 2 else metric
    parts, masks = [], []
    for number, (moments, rows) in enumerate(zip(problem.moments, problem.parts)):
        own = slice(number * channels, (number + 1) * channels)
        if method == "wanda":
            norms = moments.about_zero.diagonal().clamp(min=0).sqrt().to(rows.dtype)
            kept = sparsity.kept_of_rows(rows.abs() * norms, mask[own])
            values = torch.where(kept, rows, 0.0)
        else:
            of_channels = None if importance is None else importance[own]
            values, kept = prune_matrix(rows, moments.hessian, sparsity, mask[own], of_channels)
        parts.append(values)
        masks.append(kept)
    values = torch.cat(parts)
    return Approximation(_weight(problem, values, torch.cat(masks)), values)


def _weight(problem: LayerProblem, values: torch.Tensor, kept: torch.Tensor, by_data: bool = True) -> PrunedWeight:
    shape = problem.weight.shape
    return PrunedWeight(values.numpy().reshape(shape), kept.numpy().reshape(shape), by_data)
