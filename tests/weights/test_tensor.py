"""Lazy tensors: declared shapes and dtypes, and elements and bytes when they are read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from archc.diagnostics import ArchcError
from archc.weights.dtype_conversion import ITEM_SIZE, name_of_numpy, numpy_dtype
from archc.weights.initializers import Normal
from archc.weights.tensor import (
    CHUNK_BYTES,
    ArrayTensor,
    ComputedTensor,
    FileTensor,
    InitializedTensor,
    LazyTensor,
    TransposedTensor,
)
from archc.weights.torch_state import TorchTensor


def bytes_of(tensor: LazyTensor) -> bytes:
    stream = io.BytesIO()
    tensor.write_to(stream)
    return stream.getvalue()


def every_kind(array: np.ndarray, folder: Path) -> list[LazyTensor]:
    """Return tensors of all classes and layouts with the same elements."""
    path = folder / "raw"
    path.write_bytes(b"\xff" * 3 + array.tobytes() + b"\xff" * 5)
    dtype = name_of_numpy(array.dtype)
    assert dtype is not None
    from_torch = torch.frombuffer(bytearray(array.tobytes()), dtype=getattr(torch, array.dtype.name))
    return [
        ArrayTensor(array),
        ArrayTensor(np.asfortranarray(array)),
        FileTensor(path, 3, array.shape, dtype),
        ComputedTensor(array.shape, dtype, lambda: array),
        TransposedTensor(ArrayTensor(np.ascontiguousarray(array.T))),
        TransposedTensor(TransposedTensor(ArrayTensor(array))),
        TorchTensor(from_torch.reshape(array.shape)),
        TorchTensor(from_torch.reshape(array.shape).T.contiguous().T),
    ]


@pytest.mark.parametrize("dtype", ITEM_SIZE)
def test_every_kind_gives_the_same_elements_and_bytes(dtype: str, tmp_path: Path) -> None:
    array = (np.arange(15) % 7).astype(numpy_dtype(dtype)).reshape(3, 5)
    for tensor in every_kind(array, tmp_path):
        assert (tensor.shape, tensor.dtype, tensor.size) == ((3, 5), dtype, 15)
        assert tensor.nbytes == array.nbytes
        assert tensor.numpy().dtype == array.dtype
        assert np.array_equal(tensor.numpy(), array)
        assert bytes_of(tensor) == array.tobytes()


def test_chunks_have_a_limited_size(tmp_path: Path) -> None:
    array = np.arange(CHUNK_BYTES // 4 * 2 + 5, dtype=np.float32).reshape(1, -1)  # one row is larger than a chunk
    for tensor in every_kind(array, tmp_path):
        chunks = list(tensor.chunks())
        assert len(chunks) == 3
        assert all(chunk.ndim == 1 and chunk.nbytes <= CHUNK_BYTES for chunk in chunks)
        assert np.array_equal(np.concatenate(chunks), array[0])


def test_bytes_are_little_endian_whatever_the_array_was() -> None:
    tensor = ArrayTensor(np.array([1, 258], dtype=">i4"))
    assert bytes_of(tensor) == bytes([1, 0, 0, 0, 2, 1, 0, 0])
    assert tensor.numpy().tolist() == [1, 258]


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    tensor = TorchTensor(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert tensor.dtype == "bf16"
    assert tensor.numpy().dtype == ml_dtypes.bfloat16
    assert tensor.numpy().astype(np.float32).tolist() == [1.5, -2.0]


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    for array in (np.array(2.5, np.float32), np.zeros((0, 3), np.float32)):
        path.write_bytes(array.tobytes())
        for tensor in (
            ArrayTensor(array),
            FileTensor(path, 0, array.shape, "f32"),
            ComputedTensor(array.shape, "f32", lambda array=array: array),  # type: ignore[misc]
            TorchTensor(torch.from_numpy(array)),
        ):
            assert tensor.numpy().shape == array.shape
            assert bytes_of(tensor) == array.tobytes()


def test_an_array_cannot_be_changed_through_its_tensor() -> None:
    array = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        ArrayTensor(array).numpy()[0] = 1


def test_a_computed_tensor_is_computed_each_time_and_its_type_is_checked() -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.ones((2, 2), np.float32)

    tensor = ComputedTensor((2, 2), "f32", compute)
    assert not calls
    tensor.numpy()
    tensor.numpy()
    assert len(calls) == 2
    for shape, dtype in (((4,), "f32"), ((2, 2), "f64")):
        with pytest.raises(ValueError, match="is computed as"):
            ComputedTensor(shape, dtype, compute).numpy()


def test_a_bool_of_an_odd_byte_is_true(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"\x00\x02\x01")
    assert bytes_of(FileTensor(path, 0, (3,), "bool")) == b"\x00\x01\x01"


def test_a_file_that_shrinks_after_its_header_was_read(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"\0" * 10)
    tensor = FileTensor(path, 0, (3,), "f32")
    for read in (tensor.numpy, lambda: bytes_of(tensor)):
        with pytest.raises(ArchcError) as caught:
            read()
        assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["weights-truncated"]


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")]
)
def test_torch_tensors_that_are_not_dense_numbers_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a tensor of"):
        TorchTensor(tensor)


def test_arrays_of_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="complex128"):
        ArrayTensor(np.zeros(2, complex))


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, archc.driver.output_folder;"
        "from archc.weights import tensor, scratch, load, match;"
        "print(sorted({'numpy', 'torch', 'onnx', 'ml_dtypes', 'safetensors', 'rich'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_initialized_tensor_streams_what_it_returns() -> None:
    tensor = InitializedTensor((1000, 700), "f32", Normal(), (7, "wte.weight"))
    assert bytes_of(tensor) == tensor.numpy().tobytes()
