"""Storages: errors of decoded values are within the bounds of the storage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archc.types.storage import (
    F8E4M3,
    F8E5M2,
    STORAGES,
    Dense,
    Float8Storage,
    Int2,
    Int3,
    Int4,
    Int5,
    Int6,
    Int8,
    Masked,
    NarrowFloat,
    PackedIntegers,
    Weight,
)
from archc.types.storage.packed import pack, unpack
from archc.types.tensor_type import DType


@st.composite
def encoded(draw: st.DrawFn) -> tuple[Int8, np.ndarray, np.ndarray]:
    """Draw a storage, values, and the largest magnitude in the slice of each value."""
    kind = draw(st.sampled_from([np.float32, np.float16]))
    width = 32 if kind is np.float32 else 16
    largest = 2.0**100 if kind is np.float32 else 2.0**15
    elements = st.floats(-largest, largest, width=width) if draw(st.booleans()) else st.floats(-1, 1, width=width)
    values = draw(hnp.arrays(kind, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=elements))
    axis = draw(st.none() | st.integers(0, values.ndim - 1))
    others = None if axis is None else tuple(k for k in range(values.ndim) if k != axis)
    return Int8(axis), values, np.abs(values.astype(np.float64)).max(axis=others, keepdims=True)


@given(encoded())
def test_the_error_of_int8_is_at_most_half_a_step(case: tuple[Int8, np.ndarray, np.ndarray]) -> None:
    storage, values, largest = case
    stored = storage.encode("w", values)
    expected = storage.tensors("w", values.shape, DType.f32 if values.dtype == np.float32 else DType.f16)
    assert {path: array.shape for path, array in stored.items()} == {path: spec[0] for path, spec in expected.items()}
    assert stored["w"].dtype == np.int8 and stored["w"].min() >= -127
    decoded = storage.decode("w", stored, values.shape, DType.f32)
    assert decoded.dtype == values.dtype and decoded.shape == values.shape and np.isfinite(decoded).all()
    # Sum of half a step, the rounding errors of scale and product, and 127 times the smallest subnormal number.
    info = np.finfo(values.dtype)
    bound = largest / 127 / 2 + 2 * largest * float(info.eps) + 127 * float(info.smallest_subnormal)
    assert (np.abs(decoded.astype(np.float64) - values.astype(np.float64)) <= bound).all()


def test_the_largest_of_each_slice_is_kept() -> None:
    values = np.array([[1.0, -2.0], [100.0, 0.0], [0.0, 0.0]], np.float32)
    stored = Int8(axis=0).encode("w", values)
    assert stored["w"].tolist() == [[64, -127], [127, 0], [0, 0]]
    assert stored["w_scale"] == pytest.approx([2 / 127, 100 / 127, 100 / 127])  # a slice of zeros has the largest scale


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_no_integer_is_minus_128(dtype: type[np.floating]) -> None:
    """Integers stay within ±127 if rounding makes the scale too small, as for subnormal numbers."""
    values = np.array([-190, 190], dtype) * np.finfo(dtype).smallest_subnormal
    assert Int8().encode("w", values)["w"].tolist() == [-127, 127]


@pytest.mark.parametrize("value", [1e-45, 1e-40, 0.0])
def test_numbers_too_small_to_be_divided(value: float) -> None:
    values = np.full((2, 2), value, np.float32)
    storage = Int8(axis=0)
    with np.errstate(divide="raise", invalid="raise"):
        decoded = storage.decode("w", storage.encode("w", values), values.shape, DType.f32)
    assert np.abs(decoded - values).max() <= 127 * np.finfo(np.float32).smallest_subnormal


@pytest.mark.parametrize(
    ("axis", "shape", "dtype", "reason"),
    [
        (0, (4, 8), DType.f32, None),
        (1, (4, 8), DType.f16, None),
        (None, (), DType.f32, None),
        (2, (4, 8), DType.f32, "its axes are 0 to 1"),
        (-1, (4, 8), DType.f32, "its axes are 0 to 1"),
        (0, (), DType.f32, "it has no axes"),
        (0, (4, 8), DType.i64, "`int8` expects a floating-point weight, got i64"),
    ],
)
def test_types_that_int8_can_store(axis: int | None, shape: tuple[int, ...], dtype: DType, reason: str | None) -> None:
    assert Int8(axis).misfit(shape, dtype) == reason
    assert Dense().misfit(shape, dtype) is None


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(-1, 1, width=32)),
    hnp.arrays(np.bool_, (3, 4)),
)
def test_masked_elements_are_zero_for_any_stored_value(values: np.ndarray, mask: np.ndarray) -> None:
    values[0, 0] = np.nan
    mask[0, 0] = False
    decoded = Masked().decode("w", {"w": values, "w_mask": mask}, values.shape, DType.f32)
    assert decoded.dtype == np.float32
    assert np.array_equal(decoded[mask], values[mask]) and not decoded[~mask].any()
    again = Masked().encode("w", decoded)
    assert {name: array.dtype.name for name, array in again.items()} == {"w": "float32", "w_mask": "bool"}
    assert np.array_equal(Masked().decode("w", again, decoded.shape, DType.f32), decoded)


def test_only_floats_are_masked() -> None:
    assert Masked().misfit((4, 8), DType.f16) is None
    assert Masked().misfit((4, 8), DType.i64) == "`masked` expects a floating-point weight, got i64"


def test_bytes_and_sizes() -> None:
    weight = Weight("w", (4, 8), DType.f32)
    assert (weight.size, weight.nbytes, weight.tensors) == (32, 128, {"w": ((4, 8), DType.f32)})
    assert Weight("w", (4, 8), DType.f32, Int8(0)).nbytes == 32 + 4 * 4
    assert Weight("w", (4, 8), DType.f32, Int8()).nbytes == 32 + 4
    assert Weight("w", (4, 8), DType.f16, Masked()).nbytes == 32 * 3
    assert Weight("b", (), DType.bool).nbytes == 1


def test_storages_by_name_print_as_the_language() -> None:
    assert STORAGES["int8"] is Int8 and STORAGES["dense"] is Dense and STORAGES["masked"] is Masked
    shown = [str(storage) for storage in (Dense(), Masked(), Int8(), Int8(1))]
    assert shown == ["dense", "masked", "int8", "int8(axis = 1)"]


PACKED = (Int2, Int3, Int4, Int5, Int6)


@given(st.sampled_from(PACKED), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_packed_integers_are_unpacked(storage: type[PackedIntegers], count: int, seed: int) -> None:
    q = np.random.default_rng(seed).integers(0, 2**storage.bits, (3, count)).astype(np.uint8)
    packed = pack(q, storage.bits)
    assert np.array_equal(unpack(packed, count, storage.bits), q)
    # A plane of whole bytes wastes less than a byte.
    assert count * storage.bits / 8 <= packed.shape[1] < count * storage.bits / 8 + 2


@st.composite
def grouped(draw: st.DrawFn) -> tuple[PackedIntegers, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=7))
    values = draw(hnp.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)))
    kind = draw(st.sampled_from(PACKED))
    options = draw(st.tuples(st.integers(0, values.ndim - 1), st.none() | st.integers(1, 9), st.booleans()))
    return kind(*options, scale=draw(st.sampled_from([DType.f16, DType.f32]))), values


@given(grouped())
def test_the_error_of_packed_integers_is_at_most_a_step(case: tuple[PackedIntegers, np.ndarray]) -> None:
    storage, values = case
    stored = storage.encode("w", values)
    expected = storage.tensors("w", values.shape, DType.f32)
    assert {path: array.shape for path, array in stored.items()} == {path: spec[0] for path, spec in expected.items()}
    decoded = storage.decode("w", stored, values.shape, DType.f32)
    assert decoded.dtype == np.float32 and decoded.shape == values.shape
    rows = storage.split(storage.rows(values))
    error = np.abs(storage.split(storage.rows(decoded)) - rows)
    low, high = np.minimum(rows.min(2), 0), np.maximum(rows.max(2), 0)
    step = (
        np.maximum(high, -low) / (storage.levels // 2 - 1 or 0.5)
        if storage.symmetric
        else (high - low) / (storage.levels - 1)
    )
    # A step, since the zero point is rounded; the scale in f16 has a relative error of 2^-11 in each of the steps.
    assert (error <= (step * (1 + 2**-11 * storage.levels) + 2**-18)[:, :, None]).all()


def test_a_group_has_its_own_scale() -> None:
    values = np.array([[0, 1, 2, 3, 0, 100, 200, 300]], np.float32)
    stored = Int2(group=4).encode("w", values)
    assert stored["w_scale"].tolist() == [[1, 100]] and stored["w"].tolist() == [[0b11100100, 0b11100100]]
    assert np.array_equal(Int2(group=4).decode("w", stored, values.shape, DType.f32), values)


@pytest.mark.parametrize(
    ("storage", "shape", "dtype", "reason"),
    [
        (Int4(), (4, 8), DType.f32, None),
        (Int4(axis=2), (4, 8), DType.f32, "its axes are 0 to 1"),
        (Int4(group=0), (4, 8), DType.f32, "a group has at least 1 element, got 0"),
        (Int4(scale=DType.bf16), (4, 8), DType.f32, "scales are f16 or f32, got bf16"),
        (Int4(), (4, 8), DType.f16, "`int4` expects an f32 weight, got f16"),
        (F8E4M3(), (4, 8), DType.f32, None),
        (F8E4M3(), (4, 8), DType.f16, "`f8e4m3` expects an f32 weight, got f16"),
        (F8E5M2(axis=2), (4, 8), DType.f32, "its axes are 0 to 1"),
        (NarrowFloat(DType.f16), (), DType.f32, None),
        (NarrowFloat(DType.f16), (), DType.f64, "`f16` expects an f32 weight, got f64"),
        (NarrowFloat(DType.i8), (), DType.f32, "weights are stored in f16, in bf16, or in their own dtype"),
    ],
)
def test_types_that_narrow_formats_can_store(
    storage: PackedIntegers | NarrowFloat | Float8Storage, shape: tuple[int, ...], dtype: DType, reason: str | None
) -> None:
    assert storage.misfit(shape, dtype) == reason


@pytest.mark.parametrize(("dtype", "error"), [(DType.f16, 2**-11), (DType.bf16, 2**-8)])
def test_narrow_floats_are_rounded(dtype: DType, error: float) -> None:
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    storage = NarrowFloat(dtype)
    stored = storage.encode("w", values)
    decoded = storage.decode("w", stored, values.shape, DType.f32)
    assert stored["w"].itemsize == 2 and decoded.dtype == np.float32
    assert 0 < (np.abs(decoded - values) / np.abs(values)).max() <= error


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", [F8E4M3, F8E5M2])
def test_floats_of_8_bits_are_those_of_pytorch(kind: type[Float8Storage], axis: int) -> None:
    """Each channel is scaled such that its largest element becomes the largest float of the format."""
    values = (np.random.default_rng(0).normal(size=(5, 7)) * [[1e-3], [1], [0], [1e4], [1e-30]]).astype(np.float32)
    storage = kind(axis=axis)
    stored = storage.encode("w", values)
    dtype = getattr(torch, kind.dtype.torch)
    exact = torch.from_numpy(values).double()
    largest = exact.abs().amax(1 - axis, keepdim=True)
    scale = torch.where(largest > 0, largest / torch.finfo(dtype).max, 1.0)
    expected = (exact / scale).to(dtype).double() * scale
    decoded = storage.decode("w", stored, values.shape, DType.f32)
    assert stored["w"].itemsize == 1 and decoded.dtype == np.float32
    # A quotient near the middle between two floats may be rounded to either.
    step = 2.0**-3 if kind is F8E4M3 else 2.0**-2
    np.testing.assert_allclose(decoded, expected, rtol=step, atol=0)
    close = np.isclose(decoded, expected, rtol=1e-6, atol=0)
    assert close.mean() > 0.95
