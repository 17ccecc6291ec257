"""Loss of the removal of columns of a weight, and the best compensation by the columns that stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.moments import Moments

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Addition to the diagonal of H, as a share of its mean.

Without it, columns compensate by chance correlations.
"""
DEAD = 1e-12
"""Second moment of a column, relative to the largest, up to which the column has no effect."""


class ColumnRemoval:
    """A weight from which columns are removed, with the loss of each removal.

    W is the weight, H has the second moments of the operand, and G is the metric of the result.

    If the columns S are removed and the other columns change such that they compensate as much as possible, the
    expected squared error of the outputs is tr(G W_S ((H⁻¹)_SS)⁻¹ W_Sᵀ).  The best change of the other columns does not
    depend on G.  (Hassibi and Stork 1992, "Second order derivatives for network pruning: Optimal Brain Surgeon";
    Kurtic et al. 2023, "ZipLM", for sets of columns.)

    A grouped convolution has a W and an H for each group of channels; a column is removed from all of them.
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        inverses: Sequence[torch.Tensor],
        metrics: Sequence[torch.Tensor] | None = None,
    ):
        """Take the matrices of each group of channels.

        Args:
            weights: W, [channels, columns].
            inverses: H⁻¹, [columns, columns].
            metrics: roots of G, [channels, channels] or a diagonal [channels]; None if W is multiplied by it already.
        """
        self._weights, self._inverses, self._metrics = list(weights), list(inverses), metrics
        self._factors: list[torch.Tensor] | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, moments: Sequence[Moments], metric: torch.Tensor) -> ColumnRemoval:
        """The removal of columns of a layer's weight.

        Args:
            weight: all groups, [channels, columns].
            metric: the matrix of the layer's `output_metric`.
        """
        import torch

        channels = len(weight) // len(moments)
        weights, inverses, roots = [], [], []
        for number, (part, each) in enumerate(zip(torch.split(weight.double(), channels), moments)):
            hessian = each.hessian.double()
            diagonal = hessian.diagonal().clone()
            dead = diagonal <= DEAD * diagonal.max()
            hessian.diagonal().add_(DAMPING * float(diagonal.mean()) or 1.0)
            weights.append(part.masked_fill(dead, 0.0))
            inverses.append(torch.cholesky_inverse(torch.linalg.cholesky(hessian)))
            own = slice(number * channels, (number + 1) * channels)
            roots.append(_root(metric[own, own]) if metric.dim() == 2 else metric[own].clamp(min=0).sqrt())
        return cls(weights, inverses, roots)

    @property
    def weight(self) -> torch.Tensor:
        """W after the removal, all groups: [channels, columns]."""
        import torch

        return torch.cat(self._weights)

    def losses(self, columns: torch.Tensor) -> torch.Tensor:
        """The loss of the removal of each of several sets of columns, [sets].

        Args:
            columns: [sets, columns of a set].
        """
        import torch

        total = torch.zeros(len(columns), dtype=torch.float64)
        for factor, inverse in zip(self._weighed(), self._inverses):
            if columns.shape[1] == 1:
                one = columns[:, 0]
                total += factor[:, one].square().sum(0) / inverse.diagonal()[one]
                continue
            blocks = inverse[columns[:, :, None], columns[:, None, :]]
            own = factor[:, columns].movedim(0, 1)  # [sets, channels, columns of a set]
            total += (torch.linalg.solve(blocks, own.mT) * own.mT).sum((1, 2))
        return total

    def remove(self, columns: torch.Tensor) -> None:
        """Remove columns, and change the others to compensate."""
        import torch

        for number, inverse in enumerate(self._inverses):
            share = torch.linalg.solve(inverse[columns][:, columns], inverse[columns])
            weight = self._weights[number]
            self._weights[number] = (weight - weight[:, columns] @ share).index_fill_(1, columns, 0.0)
            if self._factors is not None and self._metrics is not None:
                factor = self._factors[number]
                self._factors[number] = (factor - factor[:, columns] @ share).index_fill_(1, columns, 0.0)
            inverse = inverse - inverse[:, columns] @ share
            self._inverses[number] = inverse.index_fill_(0, columns, 0.0).index_fill_(1, columns, 0.0)

    def remove_rows(self, rows: torch.Tensor) -> None:
        """Remove channels of the result, which then have no loss."""
        channels = len(self._weights[0])
        for number, weight in enumerate(self._weights):
            own = rows[(rows >= number * channels) & (rows < (number + 1) * channels)] - number * channels
            self._weights[number] = weight.index_fill(0, own, 0.0)
        self._factors = None

    def restricted(self, columns: torch.Tensor) -> ColumnRemoval:
        """The same losses for some of the columns, in their order.

        The `weight` of the result is multiplied by the root of G.
        """
        return ColumnRemoval(
            [factor[:, columns] for factor in self._weighed()],
            [inverse[columns][:, columns] for inverse in self._inverses],
        )

    def copy(self) -> ColumnRemoval:
        """A copy with changes of its own."""
        return ColumnRemoval(self._weights, self._inverses, self._metrics)

    def _weighed(self) -> list[torch.Tensor]:
        """G^(1/2) W of each group."""
        if self._metrics is None:
            return self._weights
        if self._factors is None:
            self._factors = [
                root @ weight if root.dim() == 2 else root[:, None] * weight
                for root, weight in zip(self._metrics, self._weights)
            ]
        return self._factors


def _root(metric: torch.Tensor) -> torch.Tensor:
    """R with Rᵀ R = G, for a metric G that rounding may have made slightly indefinite."""
    import torch

    values, vectors = torch.linalg.eigh(metric.double())
    root: torch.Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return root


def kept_columns_refitted(target: torch.Tensor, moments: Moments, kept: torch.Tensor, ridge: float) -> torch.Tensor:
    """The matrix V with zero columns except `kept` that minimizes tr((V - T) (H + δ I) (V - T)ᵀ).

    If T is `Moments.refitted` with the same δ, V is the ridge regression about the original weight on the columns that
    stay.

    Args:
        target: T, [channels, columns].
        kept: the columns that stay, as Booleans.
        ridge: δ, as a share of the mean of H's diagonal.
    """
    import torch

    hessian = moments.hessian.double()
    removed = ~kept
    cross = hessian[removed][:, kept]
    own = hessian[kept][:, kept]
    own.diagonal().add_(ridge * float(hessian.diagonal().mean()) or 1.0)
    values = torch.zeros_like(target)
    found = target.double()
    values[:, kept] = (found[:, kept] + torch.linalg.solve(own, cross.T @ found[:, removed].T).T).to(values.dtype)
    return values
