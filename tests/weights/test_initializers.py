"""Fresh weights: their distribution is that of PyTorch, and their values depend only on seed and path."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archc.weights.dtype_conversion import numpy_dtype
from archc.weights.initializers import (
    ConstantInitializer,
    Initializer,
    KaimingUniform,
    Normal,
    OnesInitializer,
    Uniform,
    UniformFanIn,
    XavierUniform,
    ZerosInitializer,
    generator,
)
from archc.weights.tensor import InitializedTensor

EVERY_INITIALIZER: list[Initializer] = [
    KaimingUniform(64),
    UniformFanIn(64),
    XavierUniform(64, 32),
    Uniform(-2.0, 3.0),
    Normal(1.0, 0.5),
    ConstantInitializer(0.25),
    ZerosInitializer(),
    OnesInitializer(),
]


def sample(initializer: Initializer, shape: tuple[int, ...], path: str = "w", seed: int = 0) -> np.ndarray:
    return InitializedTensor(shape, "f32", initializer, (seed, path)).numpy()


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (torch.nn.Linear(300, 400), 300),
        (torch.nn.Conv2d(16, 800, 5), 16 * 25),
        (torch.nn.Conv2d(32, 2000, 3, groups=4), 8 * 9),
        (torch.nn.Conv1d(24, 2000, 7), 24 * 7),
    ],
)
def test_layers_are_initialized_within_the_bounds_and_with_the_spread_of_pytorch(
    layer: torch.nn.Module, fan_in: int
) -> None:
    torch.manual_seed(0)
    layer.reset_parameters()
    for name, initializer in (("weight", KaimingUniform(fan_in)), ("bias", UniformFanIn(fan_in))):
        theirs = getattr(layer, name).detach().numpy()
        ours = sample(initializer, theirs.shape, name)
        assert ours.dtype == theirs.dtype
        # The largest of n uniform random numbers is below their bound by about 1/n of it, in both samples.
        slack = 12 / theirs.size
        assert ours.max() == pytest.approx(theirs.max(), rel=slack)
        assert ours.min() == pytest.approx(theirs.min(), rel=slack)
        assert ours.std() == pytest.approx(theirs.std(), rel=4 / math.sqrt(theirs.size))
        assert abs(ours.mean()) < 5 * theirs.std() / math.sqrt(theirs.size)


def test_embedding_and_attention_are_spread_as_those_of_pytorch() -> None:
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(500, 200).weight.detach().numpy()
    assert sample(Normal(), (500, 200)).std() == pytest.approx(embedding.std(), rel=0.02)
    projection = torch.nn.MultiheadAttention(128, 4).in_proj_weight.detach().numpy()
    ours = sample(XavierUniform(fan_in=128, fan_out=384), (384, 128))
    assert ours.max() == pytest.approx(projection.max(), rel=1e-3)
    assert ours.std() == pytest.approx(projection.std(), rel=0.02)


@pytest.mark.parametrize("a", [0.0, 0.2, math.sqrt(5)])
def test_kaiming_bound_follows_the_slope(a: float) -> None:
    theirs = torch.nn.init.kaiming_uniform_(torch.empty(400, 100), a=a).abs().max().item()
    assert np.abs(sample(KaimingUniform(fan_in=100, a=a), (400, 100))).max() == pytest.approx(theirs, rel=1e-3)


def test_a_normal_has_the_shares_of_a_normal_distribution() -> None:
    values = sample(Normal(1.0, 2.0), (200_000,))
    for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert np.mean(np.abs(values - 1) < 2 * deviations) == pytest.approx(share, abs=0.005)


@given(st.permutations(["a.weight", "a.bias", "b.weight", "b.bias"]), st.integers(0, 2**64))
def test_numbers_do_not_depend_on_the_order_of_asking(order: list[str], seed: int) -> None:
    tensors = {path: InitializedTensor((3, 5), "f32", Uniform(0, 1), (seed, path)) for path in sorted(order)}
    in_order = {path: tensor.numpy() for path, tensor in tensors.items()}
    for path in order:
        assert np.array_equal(tensors[path].numpy(), in_order[path])


def test_paths_and_seeds_give_unrelated_numbers() -> None:
    drawn = [sample(Normal(), (4000,), path, seed) for path in ("h.1.w", "h.11.w") for seed in (0, 1, -1)]
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 0.08


def test_numbers_are_pinned() -> None:
    """Weights for a given seed are the same in every version of archc."""
    assert sample(Uniform(0, 1), (3,), "fc.weight", 0).tolist() == pytest.approx(
        [0.21465313, 0.73435313, 0.21100855], abs=1e-7
    )
    assert sample(Normal(), (3,), "fc.weight", 0).tolist() == pytest.approx(
        [0.5558606, -1.1726692, 0.4904488], abs=1e-6
    )


@pytest.mark.parametrize("initializer", EVERY_INITIALIZER, ids=repr)
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
def test_every_dtype_holds_the_rounded_float32_numbers(initializer: Initializer, dtype: str) -> None:
    full = initializer.sample((50, 3), "f32", generator(0, "w"))
    other = initializer.sample((50, 3), dtype, generator(0, "w"))
    assert other.dtype == numpy_dtype(dtype)
    assert np.array_equal(other, full.astype(numpy_dtype(dtype)))


@pytest.mark.parametrize("initializer", EVERY_INITIALIZER, ids=repr)
def test_chunks_join_to_the_sample(initializer: Initializer) -> None:
    count = 300_001
    joined = np.concatenate(list(initializer.chunks(count, "f32", generator(3, "w"))))
    assert np.array_equal(joined, initializer.sample((count,), "f32", generator(3, "w")))


def test_constants_are_exact_and_empty_weights_are_allowed() -> None:
    assert ConstantInitializer(2**40 + 1).sample((2,), "i64", generator(0, "w")).tolist() == [2**40 + 1] * 2
    assert OnesInitializer().sample((), "i64", generator(0, "w")).tolist() == 1
    assert not ZerosInitializer().sample((3,), "f32", generator(0, "w")).any()
    assert sample(KaimingUniform(fan_in=0), (4, 0)).shape == (4, 0)
    assert not sample(UniformFanIn(fan_in=0), (4,)).any()
