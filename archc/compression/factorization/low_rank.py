"""Low-rank approximations of a weight, in the norm of the effect of an error on the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archc.compression.calibration.sequential import Approximation, LayerProblem, Solver

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]

DAMPING = 0.01
"""Share of the mean of a metric's diagonal that is added to the diagonal."""


@dataclass(frozen=True)
class Svd:
    """Decomposition of an m × n matrix, for truncation to any rank r ≤ min(m, n).

    The matrix is left · rightᵀ.  Of all matrices of rank r, the product of the first r columns is nearest to it in a
    norm, and `values` gives the error in this norm (Eckart, Young 1936).

    Attributes:
        values: the singular values, the largest first.
        left: m × min(m, n).  In the Frobenius norm: U · diag(values).
        right: n × min(m, n).  In the Frobenius norm: V.
    """

    values: Array
    left: Array
    right: Array

    @classmethod
    def of(cls, matrix: Array) -> Svd:
        """Decompose a finite matrix in the Frobenius norm, in float64.

        The singular vectors of the smaller side are computed as the eigenvectors of W Wᵀ or WᵀW.  For a 4096 × 1024
        matrix on one core, this takes 0.5 s, a third of the time of a full decomposition.  Squaring W loses half of the
        digits of the *smallest* singular values.  The loss is about 1e-8 of the largest singular value, which is less
        than the precision of a float32 weight.  One factor is the product of the matrix itself and the eigenvectors,
        which are orthonormal.  So at full rank, the product of both factors equals the matrix to all digits.
        """
        import torch

        wide = matrix.shape[0] < matrix.shape[1]
        tall = torch.from_numpy(np.ascontiguousarray(matrix.T if wide else matrix, dtype=np.float64))
        vectors = torch.linalg.eigh(tall.T @ tall).eigenvectors.flip(1)
        images = tall @ vectors
        values = images.norm(dim=0)
        if wide:  # tallᵀ = vectors · imagesᵀ: left and right swap, so the singular values move to the other factor
            unit = images / values.where(values > 0, 1)
            return cls(values.numpy(), (vectors * values).numpy(), unit.numpy())
        return cls(values.numpy(), images.numpy(), vectors.numpy())

    @classmethod
    def weighted(cls, matrix: Array, rows: torch.Tensor | None, columns: torch.Tensor | None) -> Svd:
        """Decompose a finite matrix in the norm of tr(G E H Eᵀ), for an error E.

        For G = R Rᵀ and H = L Lᵀ, it is the Frobenius norm of Rᵀ E L.  So Rᵀ W L is decomposed, and its singular
        vectors are transformed back.  For a linear layer with the moments H of its operand and the metric G of its
        result, the norm is the expected squared error of the outputs.

        Args:
            rows: G, [m, m], or its diagonal, [m]; None for the identity.
            columns: H, [n, n], or its diagonal, [n]; None for the identity.
        """
        left, right = MetricRoot(rows), MetricRoot(columns)
        found = cls.of(right.times(left.times(matrix).T).T)
        return cls(found.values, left.solve(found.left), right.solve(found.right))

    @property
    def total(self) -> float:
        """Squared norm of the matrix."""
        return float(np.square(self.values).sum())

    def loss(self, rank: int) -> float:
        """Squared error of a rank."""
        return float(np.square(self.values[rank:]).sum())

    def kept(self, rank: int) -> float:
        """Share of the squared norm that a rank keeps; the rest is the squared error."""
        return float(np.square(self.values[:rank]).sum()) / self.total if self.total else 1.0

    def error(self, rank: int) -> float:
        """Relative error ‖W - BA‖ / ‖W‖, the minimum for the rank."""
        return float(np.sqrt(self.loss(rank) / self.total)) if self.total else 0.0

    def rank_for(self, energy: float) -> int:
        """Smallest rank that keeps the share `energy` of the squared norm."""
        return rank_for(self.values, energy)

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Factors A (r × n) and B (m × r) with W ≈ BA.

        Each column of B has the norm of its row of A.  In the Frobenius norm, for W = U · diag(s) · Vᵀ, they are
        B = U · diag(√s) and A = diag(√s) · Vᵀ.  With B = U · diag(s) and A = Vᵀ, the columns of B would differ more in
        magnitude.  If B were then stored as int8, with one scale for each row, the columns of small singular values
        could become zero.
        """
        left, right = self.left[:, :rank], self.right[:, :rank]
        norms = np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=0)
        root = np.sqrt(norms[0] / np.where(norms[1] > 0, norms[1], 1))
        return (right * root).T, left / np.where(root > 0, root, 1)


def rank_for(values: Array, energy: float) -> int:
    """Smallest number of singular values with the share `energy` of the squared norm.

    Args:
        values: the singular values, the largest first.
    """
    total = float(np.square(values).sum())
    if not total:
        return 1
    shares = np.cumsum(np.square(values)) / total
    return min(int(np.searchsorted(shares, energy - 1e-12)) + 1, len(values))


class MetricRoot:
    """R with a metric M = R Rᵀ that is damped, so that it is invertible.

    Args:
        metric: symmetric and positive semidefinite, or its diagonal; None for the identity.
    """

    def __init__(self, metric: torch.Tensor | None):
        import torch

        self._diagonal: Array | None = None
        self._lower: torch.Tensor | None = None
        self._vectors: torch.Tensor | None = None
        if metric is None:
            return
        damped = metric.double().clone()
        diagonal = damped if damped.dim() == 1 else damped.diagonal()
        damping = DAMPING * float(diagonal.mean()) or 1.0
        diagonal.add_(damping)
        if damped.dim() == 1:
            self._diagonal = damped.sqrt().numpy()
            return
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            self._lower = lower
            return
        # An estimate from few samples, such as `Moments.hessian`, can have negative eigenvalues.
        values, self._vectors = torch.linalg.eigh(damped)
        self._diagonal = values.clamp(min=damping).sqrt().numpy()

    def times(self, matrix: Array) -> Array:
        """Rᵀ · matrix, in float64."""
        factor = self._lower if self._vectors is None else self._vectors
        product = matrix.astype(np.float64) if factor is None else _product(factor.T, matrix)
        return product if self._diagonal is None else self._diagonal[:, None] * product

    def solve(self, matrix: Array) -> Array:
        """R⁻ᵀ · matrix."""
        import torch

        if self._lower is not None:
            return _array(torch.linalg.solve_triangular(self._lower.T, torch.from_numpy(matrix), upper=True))
        if self._diagonal is not None:
            matrix = matrix / self._diagonal[:, None]
        return matrix if self._vectors is None else _product(self._vectors, matrix)


def _product(factor: torch.Tensor, matrix: Array) -> Array:
    import torch

    return _array(factor @ torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64)))


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.numpy()
    return array


@dataclass(frozen=True)
class Factors:
    """Factors A (r × n) and B (m × r) of a weight, in its dtype.

    Attributes:
        loss: expected squared error of the outputs, relative to their mean squares; None if it is not known.
    """

    right: Array
    left: Array
    loss: float | None = None

    @classmethod
    def of(cls, svd: Svd, rank: int, dtype: np.dtype, known: bool = False) -> Factors:
        """Factors of a rank.

        Args:
            known: True if the norm of the decomposition is that of the outputs.
        """
        right, left = svd.factors(rank)
        return cls(right.astype(dtype), left.astype(dtype), svd.loss(rank) if known else None)

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return len(self.right)

    @property
    def product(self) -> Array:
        """BA, as the layers compute it: from the rounded factors."""
        return self.left.astype(np.float64) @ self.right.astype(np.float64)


def factorizer(rank: int, frequencies: torch.Tensor | None = None) -> Solver[Factors]:
    """A solver that replaces a weight by two factors of a rank, in the norm of the outputs.

    The second moments of the operand and the metric of the result give the norm (`Svd.weighted`).  Without moments or
    without a metric, the identity takes their place.

    Args:
        frequencies: share of each selected row, for a layer that selects rows of its weight; they take the place of the
            moments.
    """
    return partial(_factorized, rank, frequencies)


def _factorized(rank: int, frequencies: torch.Tensor | None, problem: LayerProblem) -> Approximation[Factors]:
    import torch

    weight = problem.weight
    metric = None if problem.metric is None else problem.metric.matrix
    if problem.target is None:
        matrix = weight.reshape(len(weight), -1)
        svd = Svd.of(matrix) if frequencies is None else Svd.weighted(matrix, frequencies, metric)
        known = frequencies is not None and metric is not None
        return Approximation(Factors.of(svd, rank, weight.dtype, known), None)
    (moments,) = problem.moments
    svd = Svd.weighted(problem.target.numpy(), metric, moments.hessian)
    found = Factors.of(svd, rank, weight.dtype, known=metric is not None)
    return Approximation(found, torch.from_numpy(found.product.astype(weight.dtype)))
