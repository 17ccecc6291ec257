"""Shrinkage of second moments, by how much they differ between samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LEAST_SAMPLES = 3
"""Number of samples below which parts of a sample count as samples."""
BLOCK = 1 << 20
"""Number of elements of a matrix that are squared at a time."""


def independent_parts(sizes: Sequence[int], samples: int) -> list[int]:
    """Numbers of consecutive rows that count as one sample.

    The rows of a sample, such as the tokens of a sentence, are correlated, so a sample counts once.  If the data have
    fewer than `LEAST_SAMPLES` samples, their variance is unknown, and parts of √T of the T rows of a sample count as
    samples.  (Glynn and Whitt 1991, "Estimating the asymptotic variance with batch means".)

    Args:
        sizes: number of rows of each sample, in order.
        samples: number of samples in all data.
    """
    if samples >= LEAST_SAMPLES:
        return [size for size in sizes if size]
    return [part for size in sizes for part in _parts(size)]


def _parts(size: int) -> Iterator[int]:
    length = max(1, math.isqrt(size))
    for start in range(0, size, length):
        yield min(length, size - start)


class SampleVariance:
    """Variance of an array between samples: it determines how far the sum over the samples must shrink.

    For terms w_k of n independent samples, the expected squared error of (1 - λ) Σ w_k, with Frobenius norms, is
    minimal for λ = Var(Σ w_k) / ‖Σ w_k‖², with the estimate Var(Σ w_k) = n / (n - 1) (Σ‖w_k‖² - ‖Σ w_k‖² / n).
    (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices"; Schäfer and
    Strimmer 2005, "A shrinkage approach to large-scale covariance matrix estimation", target D.)

    Attributes:
        samples: n.
        squares: Σ‖w_k‖².
    """

    def __init__(self) -> None:
        self.samples, self.squares = 0, 0.0

    def add(self, samples: int, squares: float) -> None:
        """Add samples with the sum of their ‖w_k‖²."""
        self.samples += samples
        self.squares += squares

    def without(self, part: SampleVariance) -> SampleVariance:
        """Variance of the other elements, if `part` is the variance of some elements."""
        rest = SampleVariance()
        rest.add(self.samples, self.squares - part.squares)
        return rest

    def intensity(self, total: float, centred: bool, distance: float | None = None) -> float:
        """λ between 0 and 1; 1 if there are too few samples.

        Args:
            total: ‖Σ w_k‖².
            centred: True if the rows are about their mean, which takes one degree of freedom.
            distance: ‖Σ w_k - target‖² for a target other than zero.
        """
        distance = total if distance is None else distance
        freedom = self.samples - 1 - centred
        if freedom < 1 or not distance > 0:
            return 1.0
        variance = (self.squares - total / self.samples) * self.samples / freedom
        return min(1.0, max(0.0, variance / distance))


def squared_norm(matrix: torch.Tensor) -> float:
    """Sum of the squares of all elements, in f64, without a copy of the matrix."""
    import torch

    parts = torch.split(matrix.flatten(), BLOCK)
    return sum(float(part.double().square().sum()) for part in parts)
