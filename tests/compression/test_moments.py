"""Moments: equal to those of all rows at once, and the ridge regression about the given weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from archc.compression.calibration.moments import RIDGE, Moments
from archc.compression.calibration.shrinkage import independent_parts

Array = np.ndarray[Any, Any]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator) + 2
    return x, x @ torch.randn(4, 3, generator=generator) + 1


@pytest.mark.parametrize("centred", [True, False])
def test_batches_are_added_up(centred: bool) -> None:
    x, y = rows()
    moments = Moments(4, 3, centred)
    for start in range(0, 50, 7):
        moments.add(x[start : start + 7], y[start : start + 7])
    assert moments.count == 50
    wanted = np.cov(x.numpy().T, bias=True) if centred else (x.T @ x).numpy() / 50
    np.testing.assert_allclose(moments.hessian, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.target_mean, y.mean(0), rtol=1e-5)


@pytest.mark.parametrize("centred", [True, False])
def test_the_refitted_weight_solves_the_ridge_regression(centred: bool) -> None:
    """Compare with least squares in float64 on the rows, with a row of √(δ N) for each column."""
    x, y = (each.double().numpy() for each in rows())
    weight = np.random.default_rng(0).normal(size=(3, 4))
    moments = Moments(4, 3, centred, torch.from_numpy(weight).float())
    moments.add(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    delta = RIDGE * np.diag(x.T @ x / len(x)).mean()
    added = np.sqrt(delta * len(x)) * np.eye(4)
    wanted = np.linalg.lstsq(np.vstack([x, added]), np.vstack([y, added @ weight.T]), rcond=None)[0].T
    np.testing.assert_allclose(moments.refitted(), wanted, rtol=1e-3, atol=1e-4)


def test_without_rows_the_weight_stays() -> None:
    weight = torch.randn(3, 4)
    assert torch.equal(Moments(4, 3, True, weight).refitted(), weight)


@pytest.mark.parametrize("length", [3, 9])
@pytest.mark.parametrize("centred", [True, False])
def test_moments_shrink_by_their_variance_between_samples(centred: bool, length: int) -> None:
    """Compare with the matrices of the samples, for fewer and for more rows than columns."""
    generator = np.random.default_rng(0)
    sizes = [length, 2, length, 1, length - 1] * 2
    x = generator.normal(size=(sum(sizes), 6)) @ generator.normal(size=(6, 6))
    weight, y = (
        generator.normal(size=(4, 6)),
        x @ generator.normal(size=(6, 4)) + generator.normal(size=(sum(sizes), 4)),
    )
    moments = Moments(6, 4, centred, torch.from_numpy(weight).float())
    moments.add(torch.from_numpy(x).float(), torch.from_numpy(y).float(), sizes)
    residual = y - x @ weight.T
    if centred:
        x, residual = x - x.mean(0), residual - residual.mean(0)
    ends = np.cumsum(sizes)[:-1]

    def shrunk(left: Array, right: Array, where: Array, target: float) -> Array:
        terms = np.stack([a.T @ b for a, b in zip(np.split(left, ends), np.split(right, ends), strict=True)])
        freedom = len(sizes) - 1 - centred
        variance = terms.var(axis=0)[where].sum() * len(sizes) ** 2 / freedom
        total = terms.sum(0)
        intensity = variance / np.square(total - target * len(x))[where].sum()
        assert 0 < intensity < 1
        return ((1 - intensity) * total / len(x) + intensity * target)[where]

    raw, diagonal = x.T @ x / len(x), np.eye(6, dtype=bool)
    wanted = np.empty((6, 6))
    wanted[diagonal] = shrunk(x, x, diagonal, np.diag(raw).mean())
    wanted[~diagonal] = shrunk(x, x, ~diagonal, 0)
    np.testing.assert_allclose(moments.hessian, wanted, rtol=1e-4)
    cross = shrunk(residual, x, np.ones((4, 6), dtype=bool), 0).reshape(4, 6)
    change = cross @ np.linalg.inv(wanted + RIDGE * np.diag(wanted).mean() * np.eye(6))
    np.testing.assert_allclose(moments.refitted(), weight + change, rtol=1e-3, atol=1e-4)


def test_two_samples_determine_no_moments_outside_the_diagonal() -> None:
    moments = Moments(4, 0, True)
    moments.add(rows()[0], sizes=[25, 25])
    assert not moments.variance_known
    assert torch.equal(moments.hessian, moments.measured.diagonal().mean() * torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(("samples", "parts"), [(3, [16, 7]), (2, [4, 4, 4, 4, 2, 2, 2, 1])])
def test_parts_of_few_samples_count_as_samples(samples: int, parts: list[int]) -> None:
    assert independent_parts([16, 0, 7], samples) == parts


def test_moments_about_a_large_mean_are_accurate() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, 5)) + 1000).float()
    moments = Moments(5, 0, True)
    moments.add(rows[:1500])
    moments.add(rows[1500:])
    expected = torch.cov(rows.double().T, correction=0)
    assert torch.allclose(moments.hessian, expected, atol=1e-5)
    assert torch.allclose(moments.mean, rows.double().mean(0))


def test_constant_rows_have_no_moments_about_their_mean() -> None:
    moments = Moments(3, 0, True)
    moments.add(torch.full((1000, 3), 0.3))
    assert torch.equal(moments.hessian, torch.zeros(3, 3, dtype=torch.float64))
