"""Low-rank approximations in a norm, compared with dense computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archc.compression.calibration.moments import Moments
from archc.compression.calibration.output_metric import OutputMetric
from archc.compression.calibration.sequential import LayerProblem
from archc.compression.factorization.low_rank import DAMPING, Factors, Svd, factorizer

M, N = 24, 40


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def metric(size: int, seed: int) -> np.ndarray:
    """A positive semidefinite matrix with large and small eigenvalues."""
    scaled = random(size, size, seed=seed) * np.geomspace(1, 0.01, size)
    return scaled @ scaled.T / size


def damped(matrix: np.ndarray) -> np.ndarray:
    return matrix + DAMPING * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def squared_norm(error: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    return float(np.trace(rows @ error @ columns @ error.T))


@pytest.mark.parametrize("shape", [(M, N), (N, M)])
def test_the_loss_of_a_rank_is_the_error_in_the_norm_and_least(shape: tuple[int, int]) -> None:
    weight = random(*shape)
    rows, columns = metric(shape[0], 1), metric(shape[1], 2)
    svd = Svd.weighted(weight, torch.from_numpy(rows), torch.from_numpy(columns))
    plain, rows, columns = Svd.of(weight), damped(rows), damped(columns)
    assert svd.total == pytest.approx(squared_norm(weight, rows, columns))
    for rank in (1, 5, 16):
        right, left = svd.factors(rank)
        assert right.shape == (rank, shape[1]) and left.shape == (shape[0], rank)
        loss = squared_norm(weight - left @ right, rows, columns)
        assert svd.loss(rank) == pytest.approx(loss)
        right, left = plain.factors(rank)
        assert loss < 0.9 * squared_norm(weight - left @ right, rows, columns)


def test_the_identity_gives_the_plain_decomposition() -> None:
    weight = random(M, N)
    plain = product(Svd.of(weight), 6)
    for rows, columns in ((torch.eye(M), torch.ones(N)), (None, None)):
        np.testing.assert_allclose(product(Svd.weighted(weight, rows, columns), 6), plain, atol=1e-9)


def product(svd: Svd, rank: int) -> np.ndarray:
    right, left = svd.factors(rank)
    return left @ right


def test_a_diagonal_is_a_metric_too() -> None:
    weight, diagonal = random(M, N), np.geomspace(1, 100, M)
    whole = Svd.weighted(weight, torch.from_numpy(np.diag(diagonal)), None)
    found = Svd.weighted(weight, torch.from_numpy(diagonal), None)
    np.testing.assert_allclose(product(found, 5), product(whole, 5), atol=1e-8)


def test_negative_eigenvalues_count_as_the_damping() -> None:
    weight, (vectors, _) = random(M, N), np.linalg.qr(random(N, N, seed=1))
    values = np.geomspace(1, 100, N)
    values[:3] = -5, -1, 0
    least = DAMPING * values.mean()
    positive = vectors * (np.maximum(values + least, least) - least) @ vectors.T
    found = Svd.weighted(weight, None, torch.from_numpy(vectors * values @ vectors.T))
    # The mean of the diagonal, and with it the damping, differs a little.
    np.testing.assert_allclose(
        product(found, 5), product(Svd.weighted(weight, None, torch.from_numpy(positive)), 5), atol=0.02
    )


def test_a_weight_of_low_rank_is_found_in_every_norm() -> None:
    weight = random(M, 7) @ random(7, N, seed=1)
    svd = Svd.weighted(weight, torch.from_numpy(metric(M, 2)), torch.from_numpy(metric(N, 3)))
    np.testing.assert_allclose(product(svd, 7), weight, atol=1e-6)
    assert svd.loss(7) < 1e-12 * svd.total


def test_the_factors_have_equal_norms() -> None:
    right, left = Svd.weighted(random(M, N), None, torch.from_numpy(metric(N, 3))).factors(6)
    np.testing.assert_allclose(np.linalg.norm(right, axis=1), np.linalg.norm(left, axis=0))


def test_a_metric_of_zeros_is_damped_to_the_identity() -> None:
    weight = random(M, N)
    np.testing.assert_allclose(product(Svd.weighted(weight, torch.zeros(M), None), 4), product(Svd.of(weight), 4))


def problem(with_metric: bool = True, with_moments: bool = True) -> tuple[LayerProblem, np.ndarray]:
    weight = random(M, N).astype(np.float32)
    moments = Moments(N, 0, centred=False)
    moments.add(torch.from_numpy(random(200, N, seed=4) * np.geomspace(1, 0.1, N)).float())
    effect = OutputMetric(torch.from_numpy(metric(M, 5)), ()) if with_metric else None
    target = torch.from_numpy(weight + 1) if with_moments else None
    return LayerProblem("w", weight, target, (moments,) if with_moments else (), effect), moments.hessian.numpy()


def test_the_solver_approximates_the_target_in_the_norm_of_the_outputs() -> None:
    given, hessian = problem()
    found = factorizer(6)(given)
    values, factors = found.values, found.result
    assert values is not None and given.target is not None and given.metric is not None
    expected = Svd.weighted(given.target.numpy(), given.metric.matrix, torch.from_numpy(hessian))
    np.testing.assert_allclose(values.numpy(), product(expected, 6), atol=1e-4)
    np.testing.assert_allclose(values.numpy(), factors.left @ factors.right, atol=1e-5)
    assert factors.rank == 6 and factors.right.dtype == np.float32
    assert factors.loss == pytest.approx(expected.loss(6))


def test_without_a_metric_the_loss_is_not_known() -> None:
    given, hessian = problem(with_metric=False)
    found = factorizer(6)(given)
    assert found.values is not None and given.target is not None
    expected = Svd.weighted(given.target.numpy(), None, torch.from_numpy(hessian))
    np.testing.assert_allclose(found.values.numpy(), product(expected, 6), atol=1e-4)
    assert found.result.loss is None


def test_without_moments_the_weight_itself_is_decomposed() -> None:
    given, _ = problem(with_moments=False)
    found = factorizer(6)(given)
    assert found.values is None
    np.testing.assert_allclose(found.result.product, product(Svd.of(given.weight), 6), atol=1e-5)


def test_the_product_is_that_of_the_rounded_factors() -> None:
    factors = Factors.of(Svd.of(random(M, N)), 4, np.dtype(np.float32))
    exact = factors.left.astype(np.float64) @ factors.right.astype(np.float64)
    np.testing.assert_array_equal(factors.product, exact)
