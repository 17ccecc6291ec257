"""Affine maps between two values, fitted by ridge regression towards the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_by_identity

if TYPE_CHECKING:
    import torch

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates for δ, as shares of the mean of H's diagonal."""
PLAIN_RIDGE = 0.1
"""The share if there are too few samples for cross-validation."""


@frozen_by_identity
class AffineMap:
    """The map x ↦ W x + b of the channels of a value.

    Attributes:
        weight: W, [channels, channels].
        bias: b, [channels].
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Map the vectors of channels along an axis."""
        rows = x.movedim(axis, -1)
        return (rows @ self.weight.T + self.bias).movedim(-1, axis)


class RidgeRegression:
    """Ridge regression of targets y on vectors x, with the identity as centre.

    W = I + E[r xᵀ] (H + δ I)⁻¹ with r = y - x and H = E[x xᵀ], about the means; the bias maps the mean of x to the mean
    of y.  So with a large δ, or without a relation between x and r, W is the identity.

    δ is chosen by cross-validation: each half of the samples is predicted by the map that is fitted to the other half.

    Args:
        channels: number of elements of x and y.
    """

    def __init__(self, channels: int):
        self._halves = _Sums(channels), _Sums(channels)

    def add(self, x: torch.Tensor, y: torch.Tensor, samples: torch.Tensor) -> None:
        """Add rows.

        Args:
            x, y: [rows, channels].
            samples: number of the sample of each row.  The rows of a sample are correlated, so they are in one half.
        """
        for half, own in enumerate(self._halves):
            chosen = samples % 2 == half
            own.add(x[chosen], y[chosen])

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        return sum(half.nbytes for half in self._halves)

    @property
    def finite(self) -> bool:
        """Return whether all rows are finite, and there is one."""
        return sum(half.count for half in self._halves) > 0 and all(half.finite for half in self._halves)

    def solved(self) -> AffineMap:
        """The map with the ridge that predicts best."""
        first, second = self._halves
        ridge = PLAIN_RIDGE
        if first.count and second.count:
            ridge = min(RIDGES, key=lambda each: second.error(first.solved(each)) + first.error(second.solved(each)))
        best = first.joined(second).solved(ridge)
        return AffineMap(best.weight.float(), best.bias.float())


class _Sums:
    """Sums over rows of x and r = y - x, in f64."""

    def __init__(self, channels: int):
        import torch

        self.count = 0
        self._x, self._r = torch.zeros(2, channels, dtype=torch.float64)
        self._xx, self._rx = torch.zeros(2, channels, channels, dtype=torch.float64)
        self._rr = 0.0

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        x = x.double()
        r = y.double() - x
        self.count += len(x)
        self._x += x.sum(0)
        self._r += r.sum(0)
        self._xx += x.T @ x
        self._rx += r.T @ x
        self._rr += float(r.square().sum())

    @property
    def nbytes(self) -> int:
        return int(self._xx.nbytes + self._rx.nbytes)

    def joined(self, other: _Sums) -> _Sums:
        total = _Sums(len(self._x))
        for each in (self, other):
            total.count += each.count
            total._x += each._x
            total._r += each._r
            total._xx += each._xx
            total._rx += each._rx
            total._rr += each._rr
        return total

    @property
    def finite(self) -> bool:
        return bool(self._xx.isfinite().all() and self._rx.isfinite().all())

    def solved(self, ridge: float) -> AffineMap:
        import torch

        x, r = self._x / self.count, self._r / self.count
        hessian = (self._xx / self.count).addr_(x, x, alpha=-1)
        cross = (self._rx / self.count).addr_(r, x, alpha=-1)
        hessian.diagonal().add_(ridge * float(hessian.diagonal().mean()) or 1.0)
        change = torch.linalg.solve(hessian, cross.T).T
        return AffineMap(torch.eye(len(x), dtype=torch.float64) + change, r - change @ x)

    def error(self, found: AffineMap) -> float:
        """Mean squared error of the targets."""
        import torch

        change = found.weight - torch.eye(len(self._x), dtype=torch.float64)
        moved = change @ self._xx - 2 * self._rx
        total = (moved * change).sum() + 2 * (change @ self._x - self._r) @ found.bias
        return float(total + self._rr) / self.count + float(found.bias.square().sum())
