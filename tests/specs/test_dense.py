"""Dense specs, compared with torch.nn; linear regression, compared with its closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import archc
from archc.analysis.cost import cost
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from tests.specs.dense import perceptron
from tests.specs.siblings import SPECS
from tests.specs.twins import assert_same_gradients, twins

SIZES = {"mlp": [784, 1024, 1024, 10], "large_model": [784, 1200, 1200, 10], "small_model": [784, 800, 800, 10]}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Linear regression --------------------------------------------------------------------------------------------


def points(features: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the data of the course, y = 2x + noise; for more features, y = 2x₁ + 3x₂ + … + noise."""
    noise = np.random.default_rng(0)
    x = noise.uniform(-1, 1, (200, features))
    return x, x @ np.arange(2.0, 2 + features)[:, None] + noise.normal(0, 0.3, (200, 1))


def least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute (XᵀX)⁻¹ Xᵀy, where X has a column of ones: the slopes and the intercept."""
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    result: NDArray[np.float64] = np.linalg.solve(ones.T @ ones, ones.T @ y)[:, 0]
    return result


@pytest.mark.parametrize("features", [1, 3])
def test_a_trained_line_is_that_of_least_squares(features: int, tmp_path: Path) -> None:
    compiled = archc.compile(SPECS / "linear_regression.arch", values={"features": features})
    compiled.write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / "linear_regression.py").load().double().train()
    x, y = points(features)
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.mse_loss(module(inputs), wanted).backward()
        optimizer.step()
    found = torch.cat([module.line.weight[0], module.line.bias]).detach().numpy()
    np.testing.assert_allclose(found, least_squares(x, y), rtol=1e-9)
    # The result is near the true slopes, but not equal, since the data are noisy.
    np.testing.assert_allclose(found, [*np.arange(2.0, 2 + features), 0], atol=0.15)
    assert np.abs(found[0] - 2) > 1e-4


def test_the_programs_compute_the_line_of_their_weights(tmp_path: Path) -> None:
    x, y = points()
    slope, height = least_squares(x, y).astype(np.float32)
    np.savez(tmp_path / "line.npz", **{"line.weight": np.array([[slope]]), "line.bias": np.array([height])})
    compiled = archc.compile(SPECS / "linear_regression.arch", weights=tmp_path / "line.npz")
    compiled.write(tmp_path / "out", emit=("torch", "onnx"))
    module = load_module(tmp_path / "out" / "linear_regression.py").load()
    for batch in (1, 200):
        given = x[:batch].astype(np.float32)
        expected = float(slope) * given.astype(np.float64) + float(height)
        with torch.no_grad():
            found = module(torch.from_numpy(given)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        (array,) = onnx.run(tmp_path / "out" / "linear_regression.onnx", {"x": given}).values()
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


# Perceptrons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "depth"), [("mlp", 1), ("mlp", 2), ("mlp", 5), ("large_model", 3), ("small_model", 3)]
)
def test_a_perceptron_of_any_depth_is_that_of_torch(spec: str, depth: int, tmp_path: Path) -> None:
    values = {"features": 20, "width": 24, "depth": depth, "classes": 5}
    reference = perceptron([20, *[24] * depth, 5], 0.5 if spec == "large_model" else 0.0)
    both = twins(SPECS / f"{spec}.arch", values, reference, [random(4, 20)], tmp_path)
    for batch in (4, 2):
        both.agree(random(batch, 20, seed=batch))


def test_the_gradients_of_a_perceptron_are_those_of_torch(tmp_path: Path) -> None:
    values = {"features": 20, "width": 24, "depth": 3, "classes": 5}
    both = twins(SPECS / "mlp.arch", values, perceptron([20, 24, 24, 24, 5]), [random(4, 20)], tmp_path)
    labels = torch.arange(6) % 5
    assert_same_gradients(both, [random(6, 20, seed=1)], lambda logits: nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("spec", SIZES)
def test_a_perceptron_has_as_many_parameters_as_that_of_torch(spec: str) -> None:
    expected = sum(parameter.numel() for parameter in perceptron(SIZES[spec]).parameters())
    assert cost(archc.parse(SPECS / f"{spec}.arch")).parameters == expected
