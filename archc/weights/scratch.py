"""Room on the disk for the tensors that passes make.

What a pass computes costs too much to be computed whenever somebody asks, and all of it together is as large as the
model.  So the first of it stays in memory, and what comes after goes into a temporary file, from where it is read like
the weights of any other file.  That file has no name: it is gone when the last of its tensors is, or when the process
ends, however it ends.
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
"""How much of what goes into one scratch stays in memory: most models need no file at all."""

_FOLDER = "/var/tmp"  # for large temporary files; what is in /tmp may well be in memory


class Scratch:
    """Keeps tensors: the first `held` bytes of them in memory, all others in one temporary file.

    The file is in the folder that `TMPDIR` names; without that in `/var/tmp`, or wherever the system has such files.
    Its bytes are not used again: who makes several generations of tensors takes a scratch for each.
    """

    def __init__(self, held: int = HELD_BYTES):
        self._room = held
        self._file: IO[bytes] | None = None

    def keep(self, array: npt.ArrayLike) -> LazyTensor:
        """A tensor with the elements of an array, which must not be written to afterwards.

        Raises:
            ArchcError: no temporary file can be made (`scratch-not-writable`), or its disk is full (`scratch-full`).
            ValueError: archc has no name for the dtype.
        """
        tensor = ArrayTensor(array)
        if tensor.nbytes <= self._room:
            self._room -= tensor.nbytes
            return tensor
        with _writing():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115  # its tensors close it
            offset = self._file.seek(0, os.SEEK_END)
            tensor.write_to(self._file)
            self._file.flush()
        return ScratchTensor(self._file, offset, tensor.shape, tensor.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class ScratchTensor(LazyTensor):
    """A stretch of a scratch's file, which lives as long as one of its tensors does.  Mapped, not copied, when read."""

    file: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        return mapped(self.file, self.offset, self.shape, self.dtype)


def _folder() -> str | None:
    """Where to put large temporary files; None for where Python puts all of them."""
    return _FOLDER if "TMPDIR" not in os.environ and os.access(_FOLDER, os.W_OK) else None


@contextmanager
def _writing() -> Iterator[None]:
    """Whatever the system refuses becomes a diagnostic."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in DISK_FULL
        raise error(
            "scratch-full" if full else "scratch-not-writable",
            f"the tensors that a pass made do not fit into a temporary file: {reason.strerror or reason}",
            help="let the variable `TMPDIR` name a folder with room for the whole model",
        ) from None
