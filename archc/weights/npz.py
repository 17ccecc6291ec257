"""numpy's archives: a zip of `.npy` files, read member by member, never unpickled.

The format: `numpy.lib.format` and NEP 1.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from archc.diagnostics import ArchcError, error
from archc.weights.dtypes import ITEM_SIZE, name_of_numpy, numpy_dtype
from archc.weights.files import opened, quoted, size_of
from archc.weights.tensor import LazyTensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SUFFIX = ".npy"
_ENCRYPTED = 0x1  # a bit of a member's flags


@dataclass(frozen=True, eq=False, repr=False)
class NpzTensor(LazyTensor):
    """One array of an archive, unpacked when asked for."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        import numpy as np

        with _member(self.path, self.member) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.shape != self.shape or name_of_numpy(array.dtype) != self.dtype:
            raise _malformed(self.path, f"its array {quoted(self.member)} has changed since its header was read")
        return array.astype(numpy_dtype(self.dtype), order="C", copy=False)


def read(path: Path | str) -> dict[str, LazyTensor]:
    """The arrays of an archive by name, in its order.  Only their headers are read.

    Raises `ArchcError`: `weights-malformed`, `weights-truncated`, `weights-dtype` (also for arrays of Python objects,
    which would have to be unpickled), and those of `size_of`.
    """
    path = Path(path)
    size_of(path)
    tensors: dict[str, LazyTensor] = {}
    with _archive(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(_SUFFIX):
                raise _malformed(path, f"its member {quoted(info.filename)} is no `{_SUFFIX}` file")
            name = info.filename.removesuffix(_SUFFIX)
            if name in tensors:
                raise _malformed(path, f"it holds {quoted(name)} twice")
            shape, dtype = _header(path, archive, info)
            tensors[name] = NpzTensor(path, info.filename, shape, dtype)
    return tensors


def _header(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    import numpy as np

    name = quoted(info.filename)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _malformed(path, f"its member {name} is encrypted, or packed as numpy does not pack")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:  # (3, 0) exists for structured arrays with field names beyond Latin-1
            raise _malformed(path, f"its member {name} is a `{_SUFFIX}` file of version {version[0]}.{version[1]}")
        data_starts_at = stream.tell()
    if dtype.hasobject:
        raise error(
            "weights-dtype",
            f"array {name} of {quoted(str(path))} holds Python objects, which are not unpickled",
            help="store arrays of numbers: `numpy.savez(file, name=array.astype('float32'))`",
        )
    known = name_of_numpy(dtype)
    if known is None:
        raise error(
            "weights-dtype",
            f"array {name} of {quoted(str(path))} is of dtype {quoted(str(dtype))}",
            help=f"archc reads {', '.join(ITEM_SIZE)}",
        )
    if any(extent < 0 for extent in shape) or data_starts_at + math.prod(shape) * dtype.itemsize != info.file_size:
        raise _malformed(path, f"its array {name} has not the size that its shape {list(shape)} asks for")
    return shape, known


def load_npz_arrays(path: Path | str, *, limit: int = 4 << 30) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of an archive in memory: calibration data.

    `limit` bounds their bytes together once unpacked (4 GiB), and is checked before anything is unpacked: a small
    archive can unpack to any size.  Raises `ArchcError`: `calibration-too-large`, and those of `read`.
    """
    tensors = read(path)
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > limit:
        raise error(
            "calibration-too-large",
            f"the arrays of {quoted(str(path))} take {total} bytes unpacked; {limit} is the most allowed",
            help="a few hundred samples are enough to calibrate with",
        )
    return {name: tensor.numpy() for name, tensor in tensors.items()}


_DAMAGED = (
    zipfile.BadZipFile, zlib.error, ValueError, KeyError, NotImplementedError,
    # numpy reads the header of an array, which is a Python literal, with `ast` and `tokenize`
    SyntaxError, tokenize.TokenError, TypeError, MemoryError, RecursionError,
)  # fmt: skip


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The opened archive; whatever zipfile, zlib and numpy find wrong in it becomes a diagnostic."""
    with opened(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                yield archive
        except EOFError:
            raise error("weights-truncated", f"{quoted(str(path))} is cut short within an array") from None
        except _DAMAGED as reason:
            why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
            raise _malformed(path, why[0].lower() + why[1:]) from None


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    with _archive(path) as archive, archive.open(name) as stream:
        yield stream


def _malformed(path: Path, why: str) -> ArchcError:
    return error("weights-malformed", f"{quoted(str(path))} is not a sound numpy archive: {why}")
