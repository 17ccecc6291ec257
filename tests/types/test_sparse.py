"""Storage `sparse`: a bitmask and the remaining elements, without loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archc.types.storage import Sparse, Weight
from archc.types.tensor_type import DType

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)


@given(
    hnp.arrays(st.sampled_from([np.float32, np.float16]), SHAPES, elements=st.floats(width=16)),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_kept_elements_are_restored_without_loss(values: np.ndarray, seed: int, share: float) -> None:
    kept = np.random.default_rng(seed).random(values.shape) < share
    storage, dtype = Sparse(int(kept.sum())), DType.f32 if values.dtype == np.float32 else DType.f16
    stored = storage.pack("w", values, kept)
    assert {path: (array.shape, array.dtype.name) for path, array in stored.items()} == {
        path: (shape, dtype.torch)  # numpy and PyTorch have the same names
        for path, (shape, dtype) in storage.tensors("w", values.shape, dtype).items()
    }
    decoded = storage.decode("w", stored, values.shape, dtype)
    assert decoded.tobytes() == np.where(kept, values, np.zeros((), values.dtype)).tobytes()


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)), st.floats(0, 1))
def test_the_largest_elements_are_encoded(values: np.ndarray, share: float) -> None:
    storage = Sparse(round(share * values.size))
    decoded = storage.decode("w", storage.encode("w", values), values.shape, DType.f32)
    magnitudes = np.sort(np.nan_to_num(np.abs(values.astype(np.float64)), nan=np.inf, posinf=np.inf).ravel())
    expected = magnitudes[values.size - storage.count :]
    found = np.nan_to_num(np.abs(decoded.astype(np.float64)), nan=np.inf, posinf=np.inf).ravel()
    assert np.array_equal(np.sort(found[found > 0]), expected[expected > 0])


def test_half_of_the_elements_take_53_percent_of_the_bytes() -> None:
    shape = (384, 1536)
    weight = Weight("w", shape, DType.f32, Sparse(math.prod(shape) // 2))
    assert weight.nbytes / (4 * math.prod(shape)) == pytest.approx(0.5 + 1 / 32)
    assert weight.parameters == math.prod(shape) // 2


def test_misfits() -> None:
    assert Sparse(8).misfit((2, 4), DType.f16) is None
    assert Sparse(9).misfit((2, 4), DType.f32) == "`count` must be from 0 to 8, the size of the weight"
    assert Sparse(1).misfit((2, 4), DType.i64) == "`sparse` expects a floating-point weight, got i64"
