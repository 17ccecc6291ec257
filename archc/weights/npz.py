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
from typing import TYPE_CHECKING, Any

from archc.diagnostics import ArchcError, error
from archc.weights.dtype_conversion import ITEM_SIZE, name_of_numpy, numpy_dtype
from archc.weights.input_files import file_size, opened, quoted
from archc.weights.tensor import LazyTensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LARGEST_CALIBRATION = 400 << 20  # bytes of all arrays: 512 images of 3 × 224 × 224 take 308 MB
MOST_CALIBRATION_ARRAYS = 1_000
_SUFFIX = ".npy"
_ENCRYPTED = 0x1  # a bit of a member's flags


@dataclass(frozen=True)
class Archive:
    """An archive that the user named.

    Attributes:
        kind: what it is read for, with which the codes of its diagnostics begin: `weights-malformed`.
    """

    path: Path
    kind: str = "weights"

    @contextmanager
    def opened(self) -> Iterator[zipfile.ZipFile]:
        """The opened archive; whatever zipfile, zlib and numpy find wrong in it becomes a diagnostic."""
        with opened(self.path) as stream:
            try:
                with zipfile.ZipFile(stream) as archive:
                    yield archive
            except EOFError:
                raise self.error("truncated", f"{self.title} is cut short within an array") from None
            except _DAMAGED as reason:
                why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
                raise self.malformed(why[0].lower() + why[1:]) from None

    @property
    def title(self) -> str:
        """What messages call it."""
        return quoted(str(self.path))

    def malformed(self, why: str) -> ArchcError:
        return self.error("malformed", f"{self.title} is not a sound numpy archive: {why}")

    def error(self, code: str, message: str, help: str | None = None) -> ArchcError:
        return error(f"{self.kind}-{code}", message, help=help)


_DAMAGED = (
    zipfile.BadZipFile, zlib.error, ValueError, KeyError, NotImplementedError,
    # numpy reads the header of an array, which is a Python literal, with `ast` and `tokenize`
    SyntaxError, tokenize.TokenError, TypeError, MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class NpzTensor(LazyTensor):
    """One array of an archive, unpacked when asked for."""

    archive: Archive
    member: str
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        with self.archive.opened() as archive:
            return self.read(archive)

    def read(self, archive: zipfile.ZipFile) -> npt.NDArray[Any]:
        """Read the array from its archive, which must be open."""
        import numpy as np

        with archive.open(self.member) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.shape != self.shape or name_of_numpy(array.dtype) != self.dtype:
            raise self.archive.malformed(f"its array {quoted(self.member)} has changed since its header was read")
        return array.astype(numpy_dtype(self.dtype), order="C", copy=False)


def read(path: Path | str, kind: str = "weights", most: int | None = None) -> dict[str, NpzTensor]:
    """The arrays of an archive by name, in its order.  Only their headers are read.

    Args:
        most: the largest number of arrays (`KIND-too-large`).

    Raises `ArchcError`, with codes that begin with `kind`: `weights-malformed`, `weights-truncated`, `weights-dtype`
    (also for arrays of Python objects, which would have to be unpickled), and those of `file_size`.
    """
    source = Archive(Path(path), kind)
    file_size(source.path)
    tensors: dict[str, NpzTensor] = {}
    with source.opened() as archive:
        if most is not None and len(archive.infolist()) > most:
            raise source.error(
                "too-large", f"{source.title} holds {len(archive.infolist()):,} arrays; {most:,} are the most allowed"
            )
        for info in archive.infolist():
            if not info.filename.endswith(_SUFFIX):
                raise source.malformed(f"its member {quoted(info.filename)} is no `{_SUFFIX}` file")
            name = info.filename.removesuffix(_SUFFIX)
            if name in tensors:
                raise source.malformed(f"it holds {quoted(name)} twice")
            shape, dtype = _header(source, archive, info)
            tensors[name] = NpzTensor(source, info.filename, shape, dtype)
    return tensors


def _header(source: Archive, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    import numpy as np

    name = quoted(info.filename)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise source.malformed(f"its member {name} is encrypted, or packed as numpy does not pack")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:  # (3, 0) exists for structured arrays with field names beyond Latin-1
            raise source.malformed(f"its member {name} is a `{_SUFFIX}` file of version {version[0]}.{version[1]}")
        data_starts_at = stream.tell()
    if dtype.hasobject:
        raise source.error(
            "dtype",
            f"array {name} of {source.title} holds Python objects, which are not unpickled",
            help="store arrays of numbers: `numpy.savez(file, name=array.astype('float32'))`",
        )
    known = name_of_numpy(dtype)
    if known is None:
        raise source.error(
            "dtype",
            f"array {name} of {source.title} is of dtype {quoted(str(dtype))}",
            help=f"archc reads {', '.join(ITEM_SIZE)}",
        )
    if any(extent < 0 for extent in shape) or data_starts_at + math.prod(shape) * dtype.itemsize != info.file_size:
        raise source.malformed(f"its array {name} has not the size that its shape {list(shape)} asks for")
    return shape, known


def load_npz_arrays(path: Path | str, *, limit: int = LARGEST_CALIBRATION) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of an archive in memory: calibration data.

    `limit` bounds their bytes together once unpacked (400 MiB), and is checked before anything is unpacked: a small
    archive can unpack to any size.  Raises `ArchcError`: `calibration-too-large`, and as `read` (`calibration-dtype`).
    """
    tensors = read(path, "calibration", MOST_CALIBRATION_ARRAYS)
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > limit:
        raise error(
            "calibration-too-large",
            f"the arrays of {quoted(str(path))} take {total} bytes unpacked; {limit} is the most allowed",
            help="some hundred samples are enough: `numpy.savez(file, x=x[:512])`",
        )
    with Archive(Path(path), "calibration").opened() as archive:
        return {name: tensor.read(archive) for name, tensor in tensors.items()}
