"""SmoothQuant: scales by the formula of the paper, and strengths chosen by the error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from archc.compression.quantization.histograms import Batches
from archc.compression.quantization.smoothing import STRENGTHS, best_smoothings, smoothing_scales
from tests.passes.graphs import mlp


def batches_of(data: np.ndarray, size: int) -> Batches:
    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(data), size):
            yield {"x": torch.from_numpy(data[start : start + size])}

    return batches


def with_outliers(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Normal data with a few channels that are 30 times as large."""
    data = np.random.default_rng(seed).standard_normal((rows, width))
    data[:, :3] *= 30
    return data.astype(np.float32)


def weight_of(outputs: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((outputs, width)).astype(np.float32)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_scales_follow_the_formula_up_to_a_factor(strength: float) -> None:
    x, w = torch.tensor([1.0, 4.0, 100.0]), torch.tensor([2.0, 0.5, 1.0])
    expected = np.array([x**strength / w ** (1 - strength) for x, w in [(1, 2), (4, 0.5), (100, 1)]])
    np.testing.assert_allclose(smoothing_scales(x, w, strength), expected / expected.max(), rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_channels_of_zeros_have_scale_1(strength: float) -> None:
    x, w = torch.tensor([1.0, 0.0, 3.0, 0.0]), torch.tensor([2.0, 0.5, 0.0, 0.0])
    assert smoothing_scales(x, w, strength)[[1, 2, 3]].tolist() == [1, 1, 1]
    assert smoothing_scales(x * 0, w, strength).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("rows", "batch"), [(2048, 2048), (2048, 512)])
def test_outliers_in_channels_are_moved_into_the_weight(rows: int, batch: int) -> None:
    data, weight = with_outliers(rows, 32), weight_of(16, 32)
    graph = mlp(32, 16, weights={"fc1.weight": weight})
    (x,) = graph.inputs
    (found,) = best_smoothings(graph, {x: [torch.from_numpy(weight)]}, batches_of(data, batch)).values()
    assert found.strength in STRENGTHS and found.error < found.error_before / 2
    # The error as the formula of an int8 layer gives it, on all data.
    assert error(data, weight, found.scales.numpy()) < error(data, weight, np.ones(32)) / 3


def test_strengths_are_measured_on_other_rows_than_those_of_their_ranges() -> None:
    """With few rows, the ranges are too narrow for other rows, and 32 channels saturate, not 3."""
    data, weight = with_outliers(32, 32), weight_of(16, 32)
    graph = mlp(32, 16, weights={"fc1.weight": weight})
    (found,) = best_smoothings(graph, {graph.inputs[0]: [torch.from_numpy(weight)]}, batches_of(data, 32)).values()
    assert found.error > found.error_before
    assert error(data, weight, found.scales.numpy()) < error(data, weight, np.ones(32))


def error(data: np.ndarray, weight: np.ndarray, scales: np.ndarray) -> float:
    """Relative squared error of an int8 layer with smoothing, by an independent formula."""
    x, w = data.astype(np.float64) / scales, weight.astype(np.float64) * scales
    step, steps = (x.max() - x.min()) / 255, np.abs(w).max(1, keepdims=True) / 127
    found = (np.rint(x / step) * step) @ (np.rint(w / steps) * steps).T
    expected = data.astype(np.float64) @ weight.T
    return float(np.square(found - expected).sum() / np.square(expected).sum())


def test_layers_of_one_operand_share_their_scales() -> None:
    data, narrow, wide = with_outliers(64, 32), weight_of(16, 32), weight_of(8, 32, seed=2) * 5
    graph = mlp(32, 16)
    (x,) = graph.inputs
    weights = [torch.from_numpy(narrow), torch.from_numpy(wide)]
    found = best_smoothings(graph, {x: weights}, batches_of(data, 64))[x]
    largest = np.maximum(np.abs(narrow).max(0), np.abs(wide).max(0))
    expected = smoothing_scales(torch.from_numpy(np.abs(data).max(0)), torch.from_numpy(largest), found.strength)
    torch.testing.assert_close(found.scales, expected)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_operands_that_are_not_finite_are_left_out(broken: float) -> None:
    data, weight = with_outliers(64, 32), weight_of(16, 32)
    data[40, 3] = broken
    graph = mlp(32, 16)
    (x,) = graph.inputs
    assert best_smoothings(graph, {x: [torch.from_numpy(weight)]}, batches_of(data, 32)) == {}
