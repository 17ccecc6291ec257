"""Temporary storage of the tensors that passes compute.

These tensors are too expensive to be recomputed at each use, and can together be as large as the model.  The first
tensors stay in memory.  Later tensors are written to a temporary file and memory-mapped.  The file has no name,
so the operating system deletes it when its last tensor is deleted, or at the end of the process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.weights.input_files import DISK_FULL
from archc.weights.tensor import ArrayTensor, LazyTensor, mapped

if TYPE_CHECKING:
    import numpy.typing as npt

HELD_BYTES = 32 << 20
"""Bytes of one `Scratch` that stay in memory; most models need no file."""

_FOLDER = "/var/tmp"  # for large temporary files; /tmp may be in memory


class Scratch:
    """Storage of tensors: the first `held` bytes in memory, the rest in one temporary file.

    The file is in the folder `TMPDIR`, by default in `/var/tmp` or the folder of the system for temporary files.  The
    space of deleted tensors is not reused, so each pass uses a new `Scratch`.
    """

    def __init__(self, held: int = HELD_BYTES):
        self._room = held
        self._file: IO[bytes] | None = None

    def keep(self, array: npt.ArrayLike) -> LazyTensor:
        """Return a tensor with the elements of an array, which must not be changed afterwards.

        Raises:
            ArchcError: the temporary file cannot be written (`scratch-not-writable`), or the disk is full
                (`scratch-full`).
            ValueError: archc does not support the dtype.
        """
        tensor = ArrayTensor(array)
        if tensor.nbytes <= self._room:
            self._room -= tensor.nbytes
            return tensor
        with _writing():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115  # closed with its last tensor
            offset = self._file.seek(0, os.SEEK_END)
            tensor.write_to(self._file)
            self._file.flush()
        return ScratchTensor(self._file, offset, tensor.shape, tensor.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class ScratchTensor(LazyTensor):
    """A tensor in the file of a `Scratch`, which is memory-mapped when it is read."""

    file: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        return mapped(self.file, self.offset, self.shape, self.dtype)


def _folder() -> str | None:
    """Return the folder for large temporary files; None for the default of `tempfile`."""
    return _FOLDER if "TMPDIR" not in os.environ and os.access(_FOLDER, os.W_OK) else None


@contextmanager
def _writing() -> Iterator[None]:
    """Convert errors of the operating system in the context to diagnostics."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in DISK_FULL
        raise error(
            "scratch-full" if full else "scratch-not-writable",
            f"the tensors of a pass cannot be written to a temporary file: {reason.strerror or reason}",
            help="set the environment variable `TMPDIR` to a folder with space for the whole model",
        ) from None
