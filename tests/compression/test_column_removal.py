"""Removal of columns: losses and refits agree with least-squares problems that numpy solves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from archc.compression.calibration.moments import Moments
from archc.compression.pruning.column_removal import DAMPING, ColumnRemoval, kept_columns_refitted

CHANNELS, COLUMNS, ROWS = 5, 12, 400
GENERATOR = np.random.default_rng(0)


def problem(groups: int = 1) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """A weight [groups * channels, columns], operands of each group, and a metric of the result."""
    operands = [
        GENERATOR.standard_normal((ROWS, COLUMNS)) @ GENERATOR.standard_normal((COLUMNS, COLUMNS))
        for _ in range(groups)
    ]
    root = GENERATOR.standard_normal((groups * CHANNELS, groups * CHANNELS))
    return GENERATOR.standard_normal((groups * CHANNELS, COLUMNS)), operands, root @ root.T


def moments(operand: np.ndarray) -> Moments:
    found = Moments(COLUMNS, 0, centred=False)
    found.add(torch.from_numpy(operand))
    return found


def removal(weight: np.ndarray, operands: list[np.ndarray], metric: np.ndarray) -> ColumnRemoval:
    return ColumnRemoval.of(torch.from_numpy(weight), [moments(each) for each in operands], torch.from_numpy(metric))


def least_loss(weight: np.ndarray, operands: list[np.ndarray], metric: np.ndarray, columns: list[int]) -> float:
    """Error of the best weight without some columns, by least squares; the damping adds rows."""
    kept, total = [k for k in range(COLUMNS) if k not in columns], 0.0
    for number, operand in enumerate(operands):
        own = slice(number * CHANNELS, (number + 1) * CHANNELS)
        rows = operand / np.sqrt(ROWS)
        damping = DAMPING * np.square(rows).sum() / COLUMNS
        rows = np.concatenate([rows, np.sqrt(damping) * np.eye(COLUMNS)])
        wanted = rows @ weight[own].T
        best = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        error = wanted - rows[:, kept] @ best
        total += float(np.trace(error @ metric[own, own] @ error.T))
    return total


@pytest.mark.parametrize("groups", [1, 3])
def test_a_loss_is_the_error_of_the_best_weight_without_the_columns(groups: int) -> None:
    weight, operands, metric = problem(groups)
    sets = torch.tensor([[0], [3], [7]])
    found = removal(weight, operands, metric).losses(sets)
    assert np.allclose(found, [least_loss(weight, operands, metric, own.tolist()) for own in sets])
    sets = torch.tensor([[0, 1, 5], [2, 3, 11]])
    found = removal(weight, operands, metric).losses(sets)
    assert np.allclose(found, [least_loss(weight, operands, metric, own.tolist()) for own in sets])


def test_losses_of_successive_removals_add_up() -> None:
    weight, operands, metric = problem()
    trial, total, gone = removal(weight, operands, metric), 0.0, []
    for columns in ([4], [0, 9], [2]):
        total += float(trial.losses(torch.tensor([columns]))[0])
        trial.remove(torch.tensor(columns))
        gone += columns
        assert total == pytest.approx(least_loss(weight, operands, metric, gone))
        assert not trial.weight[:, gone].any()


def test_a_part_has_the_same_losses() -> None:
    weight, operands, metric = problem()
    whole = removal(weight, operands, metric)
    part = whole.restricted(torch.tensor([8, 2, 5]))
    whole.remove(torch.tensor([2]))
    part.remove(torch.tensor([1]))
    assert torch.allclose(part.losses(torch.tensor([[0], [2]])), whole.losses(torch.tensor([[8], [5]])))


def test_removed_channels_have_no_loss() -> None:
    weight, operands, metric = problem()
    trial = removal(weight, operands, metric)
    trial.losses(torch.tensor([[0]]))
    trial.remove_rows(torch.tensor([1, 3]))
    kept = [0, 2, 4]
    expected = removal(weight[kept], operands, metric[np.ix_(kept, kept)])
    assert torch.allclose(trial.losses(torch.tensor([[0], [6]])), expected.losses(torch.tensor([[0], [6]])))


def test_columns_without_an_effect_cost_nothing() -> None:
    weight, operands, metric = problem()
    operands[0][:, 3] = 0
    weight[:, 5] = 0
    losses = removal(weight, operands, metric).losses(torch.arange(COLUMNS)[:, None])
    assert losses[3] == losses[5] == 0
    assert (losses > 0).sum() == COLUMNS - 2


def test_greedy_removal_is_almost_as_good_as_the_best_subset() -> None:
    ratios = []
    for _ in range(20):
        weight, operands, metric = problem()
        trial, total = removal(weight, operands, metric), 0.0
        left = [*range(6)]
        for _ in range(3):
            losses = trial.losses(torch.tensor(left)[:, None])
            total += float(losses.min())
            trial.remove(torch.tensor([left.pop(int(losses.argmin()))]))
        best = min(least_loss(weight, operands, metric, [*some]) for some in combinations(range(6), 3))
        ratios.append(total / best)
    assert min(ratios) >= 1 - 1e-9
    assert max(ratios) < 2 and np.mean(ratios) < 1.1


def test_a_refit_is_the_ridge_regression_on_the_columns_that_stay() -> None:
    weight, (operand,), _ = problem()
    targets = GENERATOR.standard_normal((ROWS, CHANNELS))
    found = Moments(COLUMNS, CHANNELS, centred=False, weight=torch.from_numpy(weight))
    found.add(torch.from_numpy(operand), torch.from_numpy(targets))
    kept = np.array([k not in (1, 6, 7) for k in range(COLUMNS)])
    ridge = 0.2
    values = kept_columns_refitted(found.refitted(), found, torch.from_numpy(kept), ridge)
    rows = operand[:, kept] / np.sqrt(ROWS)
    delta = ridge * np.square(operand).mean()
    rows = np.concatenate([rows, np.sqrt(delta) * np.eye(kept.sum())])
    wanted = np.concatenate([targets / np.sqrt(ROWS), np.sqrt(delta) * weight[:, kept].T])
    assert np.allclose(values[:, torch.from_numpy(kept)].T, np.linalg.lstsq(rows, wanted, rcond=None)[0])
    assert not values[:, torch.from_numpy(~kept)].any()
