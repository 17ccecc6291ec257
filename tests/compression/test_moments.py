"""Moments: equal to those of all rows at once, and the ridge regression about the given weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archc.compression.moments import RIDGE, Moments


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
    moments = Moments(4, 3, centred)
    moments.add(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    delta = RIDGE * np.diag(x.T @ x / len(x)).mean()
    added = np.sqrt(delta * len(x)) * np.eye(4)
    wanted = np.linalg.lstsq(np.vstack([x, added]), np.vstack([y, added @ weight.T]), rcond=None)[0].T
    found = moments.refitted(torch.from_numpy(weight).float())
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_without_rows_the_weight_stays() -> None:
    weight = torch.randn(3, 4)
    assert torch.allclose(Moments(4, 3, True).refitted(weight), weight)


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
