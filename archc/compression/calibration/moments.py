"""Second moments of the operand and the result of a layer, collected batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.shrinkage import LEAST_SAMPLES, SampleVariance, squared_norm

if TYPE_CHECKING:
    import torch

RIDGE = 0.2
"""Weight of the original matrix in `Moments.refitted`, as a share of the mean of H's diagonal."""

MOST_IN_F64 = 4096
"""Number of columns up to which moments are f64; the matrices of wider layers are f32, to save memory."""


class Moments:
    """Means and second moments of rows x and targets y; memory does not grow with the number of rows.

    Args:
        targets: number of elements of a target; 0 without targets.
        weight: the weight W of `refitted`, [targets, columns]; None to leave out the moments E[(y - W x) xᵀ].

    Attributes:
        count: number of rows.
        centred: True if a bias can absorb the means, so that moments are about the means.
    """

    def __init__(self, columns: int, targets: int, centred: bool, weight: torch.Tensor | None = None):
        import torch

        self.count, self.centred = 0, centred
        dtype = torch.float64 if columns <= MOST_IN_F64 else torch.float32
        self._weight = weight
        self._shift: torch.Tensor | None = None
        self._x = torch.zeros(columns, dtype=dtype)
        self._y = torch.zeros(targets, dtype=dtype)
        self._xx = torch.zeros(columns, columns, dtype=dtype)
        self._xx_spread, self._diagonal_spread = SampleVariance(), SampleVariance()
        # The same for the residuals r = y - W x.
        self._r_shift: torch.Tensor | None = None
        self._r = torch.zeros(targets, dtype=dtype)
        self._rx = torch.zeros(targets, columns, dtype=dtype) if weight is not None else None
        self._rx_spread = SampleVariance()

    def add(self, x: torch.Tensor, y: torch.Tensor | None = None, sizes: Sequence[int] | None = None) -> None:
        """Add rows x of shape [rows, columns], and their targets y of shape [rows, targets].

        Args:
            sizes: numbers of consecutive rows that belong to one independent sample.  Without sizes, moments are those
                of the rows, however few they are.
        """
        if not len(x):
            return
        r = y - x @ self._weight.T if y is not None and self._weight is not None else None
        if y is not None:
            self._y += y.sum(0, dtype=self._y.dtype)
        if self.centred:
            # Moments about a mean are differences of sums, which cancel less if the rows are near 0.
            self._shift = _mean(x) if self._shift is None else self._shift
            x = x - self._shift
            if r is not None:
                self._r_shift = _mean(r) if self._r_shift is None else self._r_shift
                r = r - self._r_shift
        self.count += len(x)
        self._x += x.sum(0, dtype=self._x.dtype)
        self._xx += x.T @ x
        if r is not None and self._rx is not None:
            self._r += r.sum(0, dtype=self._r.dtype)
            self._rx += r.T @ x
        if sizes is not None:
            self._add_spread(x, r, sizes)

    def _add_spread(self, x: torch.Tensor, r: torch.Tensor | None, sizes: Sequence[int]) -> None:
        count = len(sizes)
        x, r = _by_sample(x, sizes), None if r is None else _by_sample(r, sizes)
        self._diagonal_spread.add(count, squared_norm(x.square().sum(1)))
        if x.shape[1] <= x.shape[2]:  # ‖Xᵀ X‖² = ‖X Xᵀ‖², and ‖Rᵀ X‖² is the product of R Rᵀ and X Xᵀ
            products = x @ x.mT
            if r is not None:
                self._rx_spread.add(count, float((products.double() * (r @ r.mT)).sum()))
        else:
            products = x.mT @ x
            if r is not None:
                self._rx_spread.add(count, squared_norm(r.mT @ x))
        self._xx_spread.add(count, squared_norm(products))

    @property
    def finite(self) -> bool:
        """Return whether no row and no target has an infinite or NaN element."""
        return bool(self._xx.isfinite().all() and self._y.isfinite().all())

    @property
    def variance_known(self) -> bool:
        """Return whether there are enough samples for their variance."""
        return self._xx_spread.samples >= LEAST_SAMPLES

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the rows, [columns], f64."""
        mean = self._mean.double()
        return mean if self._shift is None else mean + self._shift

    @property
    def target_mean(self) -> torch.Tensor:
        """Mean of the targets, [targets]."""
        return self._y / max(self.count, 1)

    @property
    def measured(self) -> torch.Tensor:
        """E[x xᵀ] of the rows, about the mean if `centred`: [columns, columns]."""
        moments = self._xx / max(self.count, 1)
        return moments.addr_(self._mean, self._mean, alpha=-1) if self.centred else moments

    @property
    def about_zero(self) -> torch.Tensor:
        """E[x xᵀ], also if `centred`: [columns, columns]."""
        mean = self.mean.to(self._xx.dtype)
        return self.hessian.addr_(mean, mean) if self.centred else self.hessian

    @property
    def hessian(self) -> torch.Tensor:
        """H, an estimate of the same moments of other data: [columns, columns].

        The elements outside the diagonal shrink to zero, and the diagonal to its mean, as far as the samples do not
        determine them (see `SampleVariance`): GPTQ would fit the weight to the noise.
        """
        moments = self.measured
        if self._xx_spread.samples:
            diagonal = moments.diagonal().clone()
            mean, square = diagonal.mean(), self.count**2
            on, both = squared_norm(diagonal) * square, squared_norm(moments) * square
            apart = squared_norm(diagonal - mean) * square
            share = self._xx_spread.without(self._diagonal_spread).intensity(both - on, self.centred)
            share_on = self._diagonal_spread.intensity(on, self.centred, apart)
            moments.mul_(1 - share).diagonal().copy_(diagonal.lerp(mean, share_on))
        return moments

    def refitted(self) -> torch.Tensor:
        """The weight that maps the rows to their targets best, regularized towards the weight W.

        W' = W + E[r xᵀ] (H + δ I)⁻¹ with r = y - W x and δ = `RIDGE` · mean(diag H): ridge regression about W.  E[r xᵀ]
        shrinks to zero as far as the samples do not determine it (see `SampleVariance`).
        """
        import torch

        assert self._weight is not None and self._rx is not None, "residuals were collected"
        hessian, cross = self.hessian, self._rx / max(self.count, 1)
        if self.centred:
            cross.addr_(self._r / max(self.count, 1), self._mean, alpha=-1)
        if self._rx_spread.samples:
            cross.mul_(1 - self._rx_spread.intensity(squared_norm(cross) * self.count**2, self.centred))
        hessian.diagonal().add_(RIDGE * float(hessian.diagonal().mean()) or 1.0)
        change: torch.Tensor = torch.linalg.solve(hessian, cross.T).T
        return self._weight + change.to(self._weight.dtype)

    @property
    def _mean(self) -> torch.Tensor:
        """Mean of the rows as they were added up."""
        return self._x / max(self.count, 1)


def _by_sample(rows: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Rows of samples as a tensor [samples, rows of a sample, columns], padded with zeros."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence(list(torch.split(rows, list(sizes))), batch_first=True)


def _mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.double().mean(0).to(rows.dtype)
