"""Pruning of matrices, compared with magnitudes, least squares and all masks of small matrices."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.compression.calibration.inverse_factor import DAMPING
from archc.compression.calibration.sequential import LayerProblem
from archc.compression.pruning import sparsity
from archc.compression.pruning.pruned_matrix import DataMethod, pruner
from archc.compression.pruning.sparse_gpt import prune_matrix, refit_kept
from archc.compression.pruning.sparsity import KeptPattern, RemovedShare, Sparsity
from tests.compression.test_gptq import loss, problem

SPARSITIES: list[Sparsity] = [RemovedShare(0.5), RemovedShare(0.7), KeptPattern(2, 4), KeptPattern(1, 3)]


def all_left(rows: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(rows, dtype=torch.bool)


def damped(hessian: torch.Tensor) -> torch.Tensor:
    return hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)


def fitted(target: torch.Tensor, hessian: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Least-squares solution for a mask, row by row: w_K = (H_KK)⁻¹ (H t)_K."""
    found = torch.zeros_like(target, dtype=torch.float64)
    for row, (values, mask) in enumerate(zip(target.double(), kept)):
        inner = hessian[mask][:, mask]
        found[row, mask] = torch.linalg.solve(inner, (hessian @ values)[mask])
    return found


@pytest.mark.parametrize("width", [5, 128])
def test_without_correlation_the_smallest_elements_of_each_block_go(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparsity, "BLOCK", width)
    rows, _ = problem(0, channels=6, columns=20)
    identity = torch.eye(20, dtype=torch.float64)
    values, kept = prune_matrix(rows, identity, RemovedShare(0.5), all_left(rows))
    for start in range(0, 20, width):
        magnitudes = rows[:, start : start + width].abs().flatten()
        smallest = magnitudes <= magnitudes.sort().values[len(magnitudes) // 2 - 1]
        assert torch.equal(kept[:, start : start + width].flatten(), ~smallest)
    assert torch.allclose(values, rows * kept, atol=1e-6)


def test_without_correlation_the_largest_elements_of_each_group_stay() -> None:
    rows, _ = problem(0, channels=6, columns=20)
    diagonal = torch.rand(20, dtype=torch.float64) + 0.5
    values, kept = prune_matrix(rows, diagonal.diag(), KeptPattern(2, 4), all_left(rows))
    scores = (rows.square() * (diagonal + DAMPING * diagonal.mean()).float()).view(6, 5, 4)
    least = scores.sort(dim=2).values[:, :, 2:3]
    assert torch.equal(kept.view(6, 5, 4), scores >= least)
    assert torch.allclose(values, rows * kept, atol=1e-6)


@pytest.mark.parametrize("chosen", SPARSITIES, ids=str)
def test_the_error_is_far_below_that_of_magnitudes(chosen: Sparsity) -> None:
    ratios = []
    for seed in range(8):
        rows, hessian = problem(seed)
        values, kept = prune_matrix(rows, hessian, chosen, all_left(rows))
        plain = chosen.kept_of_rows(rows.abs(), all_left(rows))
        assert not values[~kept].any() and abs(int(kept.sum() - plain.sum())) <= len(rows)
        ratios.append(loss(values - rows, hessian) / loss(rows * plain - rows, hessian))
    assert np.median(ratios) < 0.35 and max(ratios) < 0.7


@pytest.mark.parametrize("chosen", SPARSITIES, ids=str)
def test_the_values_are_the_least_squares_solution_for_the_mask(chosen: Sparsity) -> None:
    rows, hessian = problem(0, columns=12)
    values, kept = prune_matrix(rows, hessian, chosen, all_left(rows))
    assert torch.allclose(values.double(), fitted(rows, damped(hessian), kept), atol=2e-3)


def test_the_refit_does_not_depend_on_the_first_values() -> None:
    rows, hessian = problem(1, columns=12)
    kept = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    for start in (rows * kept, torch.zeros_like(rows)):
        assert torch.allclose(
            refit_kept(rows, hessian, kept, start).double(), fitted(rows, damped(hessian), kept), atol=2e-3
        )


def test_the_mask_is_near_the_best_one() -> None:
    """Compare with all 2:4 masks of a row of eight elements, each with its least-squares solution."""
    groups = list(combinations(range(4), 2))
    excess = []
    for seed in range(20):
        rows, hessian = problem(seed, channels=1, columns=8, rank=3)
        values, _ = prune_matrix(rows, hessian, KeptPattern(2, 4), all_left(rows))
        losses = []
        for first, second in product(groups, groups):
            kept = torch.zeros(1, 8, dtype=torch.bool)
            kept[0, [*first, *(4 + place for place in second)]] = True
            losses.append(loss(fitted(rows, damped(hessian), kept) - rows, damped(hessian)))
        found = loss(values - rows, damped(hessian))
        assert found >= min(losses) * (1 - 1e-4)
        excess.append(found / min(losses))
    assert np.median(excess) < 1.5


def test_important_channels_keep_more_elements() -> None:
    rows, hessian = problem(0)
    importance = torch.tensor([100.0, 1, 1, 1, 1, 1])
    _, kept = prune_matrix(rows, hessian, RemovedShare(0.5), all_left(rows), importance)
    assert kept[0].sum() > 20 and kept.sum() == rows.numel() // 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.floats(0, 1), st.integers(1, 9))
def test_masks_have_the_asked_number_of_elements(seed: int, columns: int, share: float, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsity, "BLOCK", width)
        rows, hessian = problem(seed, channels=3, columns=columns)
        left = torch.rand(rows.shape, generator=torch.Generator().manual_seed(seed)) < 0.8
        values, kept = prune_matrix(rows * left, hessian, RemovedShare(share), left)
    count = int(left.sum())
    assert not (kept & ~left).any() and not values[~kept].any() and values.isfinite().all()
    assert kept.sum() == count - round(share * count)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_patterns_hold_exactly(seed: int, columns: int, count: int, more: int) -> None:
    rows, hessian = problem(seed, channels=3, columns=columns)
    pattern = KeptPattern(count, count + more)
    values, kept = prune_matrix(rows, hessian, pattern, all_left(rows))
    assert torch.equal(values != 0, kept)
    for group in torch.split(kept, pattern.of, dim=1):
        assert (group.sum(1) == min(count, group.shape[1])).all()


def test_columns_without_data_are_pruned_by_magnitude() -> None:
    rows, _ = problem(0)
    values, kept = prune_matrix(rows, torch.zeros(24, 24, dtype=torch.float64), RemovedShare(0.5), all_left(rows))
    assert torch.equal(values, rows * kept)
    assert rows.abs()[~kept].max() <= rows.abs()[kept].min()


@pytest.mark.parametrize("method", ["sparsegpt", "wanda"])
def test_without_finite_operands_the_smallest_elements_of_each_row_go(method: DataMethod) -> None:
    rows, _ = problem(0, channels=4, columns=12)
    weight = rows.reshape(4, 3, 2, 2).numpy()
    problem_of = LayerProblem("w", weight, None, (), None)
    found = pruner(method, RemovedShare(0.5), np.ones(weight.shape, bool))(problem_of)
    assert found.values is None and not found.result.by_data
    kept = found.result.kept.reshape(4, 12)
    assert np.array_equal(found.result.values, weight * found.result.kept)
    for row, mask in zip(rows.abs().numpy(), kept):
        assert mask.sum() == 6 and row[~mask].max() < row[mask].min()
