"""numpy archives: zip archives of `.npy` files, read one member at a time, without pickles.

`numpy.lib.format` and NEP 1 define the format.
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
from archc.frozen_dataclass import frozen_dataclass
from archc.weights.dtype_conversion import ITEM_SIZE, name_of_numpy, numpy_dtype
from archc.weights.input_files import file_size, opened, quoted
from archc.weights.tensor import LazyTensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LARGEST_CALIBRATION = 400 << 20  # bytes of all arrays: 512 images of 3 × 224 × 224 take 308 MB
MOST_CALIBRATION_ARRAYS = 1_000
_SUFFIX = ".npy"
_ENCRYPTED = 0x1  # bit of a member's flags


@frozen_dataclass
class Archive:
    """An archive that the user names.

    Attributes:
        path: path of the file.
        kind: prefix of the codes of its diagnostics, such as `weights` in `weights-malformed`.
    """

    path: Path
    kind: str = "weights"

    @contextmanager
    def opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive; exceptions of zipfile, zlib and numpy in the context become diagnostics."""
        with opened(self.path) as stream:
            try:
                with zipfile.ZipFile(stream) as archive:
                    yield archive
            except EOFError:
                raise self.error("truncated", f"{self.title} is truncated within an array") from None
            except _DAMAGED as reason:
                why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
                raise self.malformed(why[0].lower() + why[1:]) from None

    @property
    def title(self) -> str:
        """Name in messages."""
        return quoted(str(self.path))

    def malformed(self, why: str) -> ArchcError:
        """Return the error for an invalid archive."""
        return self.error("malformed", f"{self.title} is not a valid numpy archive: {why}")

    def error(self, code: str, message: str, help: str | None = None) -> ArchcError:
        """Return an error with the code `KIND-CODE`."""
        return error(f"{self.kind}-{code}", message, help=help)


_DAMAGED = (
    zipfile.BadZipFile, zlib.error, ValueError, KeyError, NotImplementedError,
    # The header of an array is a Python literal, which numpy parses with `ast` and `tokenize`.
    SyntaxError, tokenize.TokenError, TypeError, MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class NpzTensor(LazyTensor):
    """One array of an archive, decompressed on demand."""

    archive: Archive
    member: str
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        with self.archive.opened() as archive:
            return self.read(archive)

    def read(self, archive: zipfile.ZipFile) -> npt.NDArray[Any]:
        """Read the array from its open archive."""
        import numpy as np

        with archive.open(self.member) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.shape != self.shape or name_of_numpy(array.dtype) != self.dtype:
            raise self.archive.malformed(f"the array {quoted(self.member)} has changed since its header was read")
        return array.astype(numpy_dtype(self.dtype), order="C", copy=False)


def read(path: Path | str, kind: str = "weights", most: int | None = None) -> dict[str, NpzTensor]:
    """Return the arrays of an archive by name, in the order of the archive; only headers are read.

    Args:
        kind: prefix of the codes of diagnostics.
        most: maximum number of arrays.

    Raises:
        ArchcError: `KIND-malformed`, `KIND-truncated`, `KIND-dtype` (also for arrays of Python objects, which are
            pickled), `KIND-too-large`, or an error of `file_size`.
    """
    source = Archive(Path(path), kind)
    file_size(source.path)
    tensors: dict[str, NpzTensor] = {}
    with source.opened() as archive:
        if most is not None and len(archive.infolist()) > most:
            raise source.error(
                "too-large", f"{source.title} has {len(archive.infolist()):,} arrays; the limit is {most:,}"
            )
        for info in archive.infolist():
            if not info.filename.endswith(_SUFFIX):
                raise source.malformed(f"the member {quoted(info.filename)} is not a `{_SUFFIX}` file")
            name = info.filename.removesuffix(_SUFFIX)
            if name in tensors:
                raise source.malformed(f"it has the array {quoted(name)} twice")
            shape, dtype = _header(source, archive, info)
            tensors[name] = NpzTensor(source, info.filename, shape, dtype)
    return tensors


def _header(source: Archive, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    import numpy as np

    name = quoted(info.filename)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise source.malformed(f"the member {name} is encrypted, or has a compression that numpy does not use")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:  # (3, 0) is for structured arrays with field names outside Latin-1
            raise source.malformed(f"the member {name} is a `{_SUFFIX}` file of version {version[0]}.{version[1]}")
        data_starts_at = stream.tell()
    if dtype.hasobject:
        raise source.error(
            "dtype",
            f"array {name} of {source.title} has pickled Python objects, which can run code when they are read",
            help="store arrays of numbers: `numpy.savez(file, name=array.astype('float32'))`",
        )
    known = name_of_numpy(dtype)
    if known is None:
        raise source.error(
            "dtype",
            f"array {name} of {source.title} has the dtype {quoted(str(dtype))}",
            help=f"archc reads {', '.join(ITEM_SIZE)}",
        )
    if any(extent < 0 for extent in shape) or data_starts_at + math.prod(shape) * dtype.itemsize != info.file_size:
        raise source.malformed(f"the size of array {name} does not fit its shape {list(shape)}")
    return shape, known


def load_npz_arrays(path: Path | str, *, limit: int = LARGEST_CALIBRATION) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of an archive of calibration data into memory.

    Args:
        limit: maximum number of bytes of all decompressed arrays (400 MiB).  It is checked before decompression,
            because a small archive can decompress to any size.

    Raises:
        ArchcError: `calibration-too-large`, or an error of `read` (`calibration-dtype`, …).
    """
    tensors = read(path, "calibration", MOST_CALIBRATION_ARRAYS)
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > limit:
        raise error(
            "calibration-too-large",
            f"the decompressed arrays of {quoted(str(path))} have {total} bytes; the limit is {limit}",
            help="a few hundred samples are enough: `numpy.savez(file, x=x[:512])`",
        )
    with Archive(Path(path), "calibration").opened() as archive:
        return {name: tensor.read(archive) for name, tensor in tensors.items()}
