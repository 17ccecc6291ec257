"""Scratch: tensors that passes computed, in memory or in a temporary file without a name."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from archc.diagnostics import ArchcError
from archc.weights.dtype_conversion import ITEM_SIZE, numpy_dtype
from archc.weights.scratch import HELD_BYTES, Scratch, ScratchTensor
from archc.weights.tensor import ArrayTensor


def arrays(dtype: str) -> list[np.ndarray[Any, Any]]:
    """Return arrays of several shapes: plain, without axes, without elements, and transposed."""
    numbers = (np.arange(24) % 7).astype(numpy_dtype(dtype))
    return [numbers, numbers[:1].reshape(()), numbers[:0].reshape(0, 3), numbers.reshape(2, 3, 4).T]


@pytest.mark.parametrize("dtype", ITEM_SIZE)
def test_a_file_gives_back_what_it_was_given(dtype: str) -> None:
    scratch = Scratch(held=-1)
    kept = [scratch.keep(array) for array in arrays(dtype)]
    for tensor, array in zip(kept, arrays(dtype), strict=True):
        assert isinstance(tensor, ScratchTensor)
        assert (tensor.shape, tensor.dtype) == (array.shape, dtype)
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_the_first_bytes_stay_in_memory() -> None:
    scratch = Scratch(held=100)
    kept = [scratch.keep(np.zeros(size, np.uint8)) for size in (60, 50, 40, 1)]
    assert [type(tensor) for tensor in kept] == [ArrayTensor, ScratchTensor, ArrayTensor, ScratchTensor]


def test_small_models_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("no file is needed for so little")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert Scratch().keep(np.zeros(HELD_BYTES, np.uint8)).nbytes == HELD_BYTES


def test_the_file_has_no_name_and_is_removed_with_its_last_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # `tempfile` caches the folder here
    first, second = map(Scratch(held=0).keep, (np.arange(5), np.arange(7)))
    assert isinstance(first, ScratchTensor) and isinstance(second, ScratchTensor)
    assert list(tmp_path.iterdir()) == []
    file = weakref.ref(first.file)
    read = second.numpy()
    del first
    assert file() is not None
    del second
    assert file() is None
    np.testing.assert_array_equal(read, np.arange(7))  # the array outlives the file


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> IO[bytes]:
        return open("/dev/full", "w+b")  # `TemporaryFile` has the same mode

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ArchcError, match="No space left on device") as failure:
        Scratch(held=0).keep(np.zeros(5))
    assert [diagnostic.code for diagnostic in failure.value.diagnostics] == ["scratch-full"]


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "set")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    with pytest.raises(ArchcError, match="No such file or directory") as failure:
        Scratch(held=0).keep(np.zeros(5))
    assert [diagnostic.code for diagnostic in failure.value.diagnostics] == ["scratch-not-writable"]
