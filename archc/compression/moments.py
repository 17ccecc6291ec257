"""Second moments of the operand and the result of a layer, collected batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RIDGE = 0.2
"""Weight of the original matrix in `Moments.refitted`, as a share of the mean of H's diagonal."""

MOST_IN_F64 = 4096
"""Number of columns up to which moments are f64; the matrices of wider layers are f32, to save memory."""


class Moments:
    """Means and second moments of rows x and targets y; memory does not grow with the number of rows.

    Args:
        cross: False to leave out the moments E[y xᵀ], which only `refitted` needs.

    Attributes:
        count: number of rows.
        centred: True if a bias can absorb the means, so that moments are about the means.
    """

    def __init__(self, columns: int, targets: int, centred: bool, cross: bool = True):
        import torch

        self.count, self.centred = 0, centred
        dtype = torch.float64 if columns <= MOST_IN_F64 else torch.float32
        self._shift: torch.Tensor | None = None
        self._x = torch.zeros(columns, dtype=dtype)
        self._y = torch.zeros(targets, dtype=dtype)
        self._xx = torch.zeros(columns, columns, dtype=dtype)
        self._yx = torch.zeros(targets, columns, dtype=dtype) if targets and cross else None

    def add(self, x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        """Add rows x of shape [rows, columns], and their targets y of shape [rows, targets]."""
        if self.centred and len(x):
            # Moments about a mean are differences of sums, which cancel less if the rows are near 0.
            if self._shift is None:
                self._shift = x.mean(0, dtype=self._x.dtype).to(x.dtype)
            x = x - self._shift
        self.count += len(x)
        self._x += x.sum(0, dtype=self._x.dtype)
        self._xx += x.T @ x
        if y is not None:
            self._y += y.sum(0, dtype=self._y.dtype)
            if self._yx is not None:
                self._yx += y.T @ x

    @property
    def finite(self) -> bool:
        """Return whether no row and no target has an infinite or NaN element."""
        return bool(self._xx.isfinite().all() and self._y.isfinite().all())

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
    def hessian(self) -> torch.Tensor:
        """H = E[x xᵀ], about the mean if `centred`: [columns, columns]."""
        moments = self._xx / max(self.count, 1)
        return moments.addr_(self._mean, self._mean, alpha=-1) if self.centred else moments

    @property
    def about_zero(self) -> torch.Tensor:
        """E[x xᵀ], also if `centred`: [columns, columns]."""
        mean = self.mean.to(self._xx.dtype)
        return self.hessian.addr_(mean, mean) if self.centred else self.hessian

    def refitted(self, rows: torch.Tensor) -> torch.Tensor:
        """The weight that maps the rows to their targets best, regularized towards the given weight.

        W' = (E[y xᵀ] + δ W)(H + δ I)⁻¹ with δ = `RIDGE` · mean(diag H): ridge regression about W.

        Args:
            rows: the weight W, [targets, columns].
        """
        import torch

        assert self._yx is not None, "targets were collected"
        hessian, cross = self.hessian, self._yx / max(self.count, 1)
        if self.centred:
            cross.addr_(self.target_mean, self._mean, alpha=-1)
        ridge = RIDGE * float(hessian.diagonal().mean()) or 1.0
        hessian.diagonal().add_(ridge)
        targets = cross.add_(rows.to(cross.dtype), alpha=ridge).T
        solution: torch.Tensor = torch.linalg.solve(hessian, targets)
        return solution.T.to(rows.dtype)

    @property
    def _mean(self) -> torch.Tensor:
        """Mean of the rows as they were added up."""
        return self._x / max(self.count, 1)
