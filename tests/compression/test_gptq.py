"""GPTQ and grids: less error than rounding, and grids with the values that storages decode."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.compression.quantization.gptq import quantize_matrix
from archc.compression.quantization.grids import CLIPPING, Grid, find_grid
from archc.types.storage import Int2, Int3, Int4, Int5, Int6, Int8, Integers
from archc.types.tensor_type import DType

STORAGES = [
    *(Int2(group=8), Int3(group=5), Int4(), Int4(group=4, symmetric=True), Int5(group=3), Int6(), Int8(0), Int8()),
]


def problem(seed: int, channels: int = 6, columns: int = 24, rank: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and the second moments of a correlated operand."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, columns, generator=generator)
    rows = torch.randn(200, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    rows += 0.1 * torch.randn(200, columns, generator=generator)
    return weight, (rows.T @ rows).double() / len(rows)


def loss(error: torch.Tensor, hessian: torch.Tensor) -> float:
    return float(((error.double() @ hessian) * error).sum())


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_the_error_of_the_product_falls(storage: Integers) -> None:
    ratios = []
    for seed in range(8):
        weight, hessian = problem(seed)
        grid = find_grid(storage, weight, hessian.diagonal())
        nearest, compensated = grid.nearest(weight), quantize_matrix(weight, hessian, grid)
        assert compensated.min() >= grid.low and compensated.max() <= grid.high
        ratios.append(loss(grid.values(compensated) - weight, hessian) / loss(grid.values(nearest) - weight, hessian))
    assert np.median(ratios) < 0.6 and max(ratios) < 1.1


def test_without_correlation_gptq_rounds_to_nearest() -> None:
    weight, _ = problem(0)
    grid = find_grid(Int4(group=8), weight)
    diagonal = torch.diag(torch.rand(24, dtype=torch.float64) + 0.5)
    assert torch.equal(quantize_matrix(weight, diagonal, grid), grid.nearest(weight))


def test_gptq_is_near_the_best_integers() -> None:
    """Compare with brute force over all integers of a row of five elements."""
    excess = []
    for seed in range(20):
        weight, hessian = problem(seed, channels=1, columns=5, rank=2)
        grid = find_grid(Int2(), weight, hessian.diagonal())
        tried = torch.tensor(list(product(range(4), repeat=5)), dtype=torch.float32)
        best = min(loss(grid.values(q[None]) - weight, hessian) for q in tried)
        found = loss(grid.values(quantize_matrix(weight, hessian, grid)) - weight, hessian)
        assert found >= best * (1 - 1e-6)
        excess.append(found / best)
    assert np.median(excess) < 2


def test_columns_without_data_are_rounded() -> None:
    weight, hessian = problem(0)
    hessian[:, 3] = hessian[3] = 0
    grid = find_grid(Int4(group=8), weight, hessian.diagonal())
    q = quantize_matrix(weight, hessian, grid)
    assert torch.isfinite(q).all()
    zeros = quantize_matrix(weight, torch.zeros_like(hessian), grid)
    assert torch.equal(zeros, grid.nearest(weight))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STORAGES), st.integers(0, 10_000))
def test_a_grid_has_the_values_that_its_storage_decodes(storage: Integers, seed: int) -> None:
    weight, hessian = problem(seed, columns=19)
    grid = find_grid(storage, weight, hessian.diagonal())
    q = grid.nearest(weight)
    stored = storage.pack("w", q.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), (6, 19))
    assert {path: array.shape for path, array in stored.items()} == {
        path: shape for path, (shape, _) in storage.tensors("w", (6, 19), DType.f32).items()
    }
    decoded = storage.decode("w", stored, (6, 19), DType.f32)
    assert np.array_equal(decoded, grid.values(q).numpy())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STORAGES), st.integers(0, 10_000))
def test_clipping_never_increases_the_weighted_error(storage: Integers, seed: int) -> None:
    weight, hessian = problem(seed)
    importance = hessian.diagonal()

    def error(grid: Grid) -> float:
        return float(((grid.values(grid.nearest(weight)) - weight).square() @ importance.float()).sum())

    assert error(find_grid(storage, weight, importance)) <= error(find_grid(storage, weight)) * (1 + 1e-5)


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_the_clipped_range_has_the_smallest_error_of_all_shares(
    storage: Integers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archc.compression.quantization.grids.BLOCK", 64)  # several blocks, and a shorter last one
    weight, hessian = problem(3, channels=7, columns=19)
    values, weights = (
        storage.split(each) for each in (weight.numpy(), hessian.diagonal().float().expand(7, -1).numpy().copy())
    )
    low, high = np.minimum(values.min(2), 0), np.maximum(values.max(2), 0)
    errors = []
    for share in CLIPPING:
        scale, zero_point = (each.astype(np.float32)[:, :, None] for each in storage.affine(low * share, high * share))
        q = np.clip(np.rint(values / scale) + zero_point, *storage.limits)
        errors.append((np.square((q - zero_point) * scale - values, dtype=np.float64) * weights).sum(2))
    grid = find_grid(storage, weight, hessian.diagonal())
    error = (grid.values(grid.nearest(weight)) - weight).numpy() ** 2 * hessian.diagonal().numpy()
    found = storage.split(error).sum(2)
    if storage.single_scale:
        found, errors = found.sum(), [each.sum() for each in errors]
    assert found == pytest.approx(np.min(errors, axis=0), rel=1e-3)


@pytest.mark.parametrize("factor", [1e-90, 1e90])
def test_the_integers_do_not_depend_on_the_unit_of_the_operand(factor: float) -> None:
    weight, hessian = problem(0)
    grid = find_grid(Int4(group=8), weight)
    scaled = hessian * factor
    assert torch.equal(quantize_matrix(weight, scaled, grid), quantize_matrix(weight, hessian, grid))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_moments_that_are_not_finite_give_the_nearest_integers(wrong: float) -> None:
    weight, hessian = problem(0)
    grid = find_grid(Int4(group=8), weight)
    hessian[3, 4] = hessian[4, 3] = wrong
    assert torch.equal(quantize_matrix(weight, hessian, grid), grid.nearest(weight))
