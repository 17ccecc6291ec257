"""Ridge regression towards the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archc.compression.pruning import ridge_map
from archc.compression.pruning.ridge_map import AffineMap, RidgeRegression

Array = np.ndarray


def rows(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(seed + 1))
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)) @ mixing + 1


def fitted(x: torch.Tensor, y: torch.Tensor) -> AffineMap:
    """Return the map, with the rows added in two parts."""
    regression = RidgeRegression(x.shape[1])
    numbers = torch.arange(len(x)) // 2
    for start, end in ((0, 30), (30, len(x))):
        regression.add(x[start:end], y[start:end], numbers[start:end])
    return regression.solved()


@pytest.mark.parametrize("ridge", [1e-4, 0.1, 10.0])
def test_same_map_as_an_augmented_least_squares_problem(monkeypatch: pytest.MonkeyPatch, ridge: float) -> None:
    """In centred variables, it is least squares with more rows, √(nδ) I, whose targets are equal."""
    monkeypatch.setattr(ridge_map, "RIDGES", (ridge,))
    x, y = rows(80, 5), rows(80, 5, seed=7).square()
    a, b = x.double().numpy(), y.double().numpy()
    centred, targets = a - a.mean(0), b - b.mean(0)
    delta = ridge * np.mean(centred**2)
    extra = np.sqrt(len(a) * delta) * np.eye(5)
    transposed, *_ = np.linalg.lstsq(np.vstack([centred, extra]), np.vstack([targets, extra]))
    found = fitted(x, y)
    assert np.allclose(found.weight, transposed.T, atol=1e-5)
    assert np.allclose(found.bias, b.mean(0) - transposed.T @ a.mean(0), atol=1e-5)


def test_an_affine_relation_is_found_without_loss() -> None:
    x = rows(100, 6)
    y = x @ rows(6, 6, seed=3) + 2
    assert torch.allclose(fitted(x, y)(x, 1), y, atol=1e-4)


def test_without_a_relation_the_map_is_nearly_the_identity() -> None:
    x = rows(40, 12)
    noise = torch.randn(40, 12, generator=torch.Generator().manual_seed(5))
    found = fitted(x, x + noise)
    least_squares = torch.linalg.lstsq(x - x.mean(0), noise - noise.mean(0)).solution
    assert float((found.weight - torch.eye(12)).norm()) < 0.2 * float(least_squares.norm())


def test_channels_along_any_axis() -> None:
    found = AffineMap(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([0.0, 3.0]))
    image = torch.arange(8.0).reshape(1, 2, 2, 2)
    expected = torch.nn.functional.conv2d(image, found.weight[:, :, None, None], found.bias)
    assert torch.equal(found(image, 1), expected)


def test_values_that_are_not_finite() -> None:
    regression = RidgeRegression(2)
    assert not regression.finite
    regression.add(torch.ones(4, 2), torch.full((4, 2), torch.inf), torch.arange(4))
    assert not regression.finite
