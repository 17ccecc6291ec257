"""Lazy tensors, whose elements are read or computed on demand, and the weights of a graph.

Shape and dtype are always in memory, the elements are not.  Users of the elements read one tensor at a time and free
it, so peak memory depends on the largest tensor, not on the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from archc.diagnostics import ArchcError, error
from archc.weights.dtype_conversion import ITEM_SIZE, from_little_endian, name_of_numpy, numpy_dtype, to_little_endian
from archc.weights.initializers import Initializer, generator
from archc.weights.input_files import file_size, opened, quoted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK_BYTES = 4 << 20
"""Bytes of one chunk of a streamed tensor."""


class ByteSink(Protocol):
    """An object to which bytes can be written, such as a file."""

    def write(self, data: memoryview, /) -> object:
        """Write bytes."""


class LazyTensor(ABC):
    """A tensor with a known shape and dtype, whose elements are read or computed on demand.

    `dtype` is one of the names in `archc.weights.dtype_conversion.ITEM_SIZE`.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * ITEM_SIZE[self.dtype]

    @abstractmethod
    def numpy(self) -> npt.NDArray[Any]:
        """Read or compute the elements; the array may be a read-only view."""

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the elements in row-major order, in flat arrays of at most `CHUNK_BYTES`."""
        yield from _pieces(self.numpy().reshape(-1))

    def write_to(self, stream: ByteSink) -> None:
        """Write the elements as `nbytes` raw bytes, row-major and little-endian."""
        import numpy as np

        for chunk in self.chunks():
            stream.write(to_little_endian(np.ascontiguousarray(chunk)).data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}[{', '.join(map(str, self.shape))}])"


def _pieces(flat: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    step = CHUNK_BYTES // flat.itemsize
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


class ArrayTensor(LazyTensor):
    """A tensor in memory.

    Raises:
        ValueError: archc does not support the dtype.
    """

    def __init__(self, array: npt.ArrayLike):
        import numpy as np

        given = np.asarray(array)
        dtype = name_of_numpy(given.dtype)
        if dtype is None:
            raise ValueError(f"archc does not support numpy's dtype {given.dtype}")
        self._array: np.ndarray[Any, Any] = given.astype(given.dtype.newbyteorder("="), copy=False)
        self.shape = given.shape
        self.dtype = dtype

    def numpy(self) -> npt.NDArray[Any]:
        view = self._array.view()
        view.flags.writeable = False
        return view


def mapped(stream: IO[bytes], offset: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return a read-only view of row-major, little-endian elements in a file, beginning at byte `offset`.

    The view remains valid after the file is closed.
    """
    import numpy as np

    size = math.prod(shape) * ITEM_SIZE[dtype]
    if size == 0:  # an empty range cannot be mapped
        return np.empty(shape, numpy_dtype(dtype))
    raw = np.memmap(stream, dtype=np.uint8, mode="r", offset=offset, shape=(size,))
    return from_little_endian(np.asarray(raw), dtype).reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class FileTensor(LazyTensor):
    """A memory-mapped tensor in a file: row-major, little-endian elements from byte `offset` on.

    Reading raises `ArchcError` (`weights-truncated`) if the file has become too short since its header was read.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def numpy(self) -> npt.NDArray[Any]:
        if self.nbytes and file_size(self.path) < self.offset + self.nbytes:
            raise self._truncated()
        with opened(self.path) as stream:
            return mapped(stream, self.offset, self.shape, self.dtype)

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        # Read, not mapped: the pages of a mapping count as memory of the process until the kernel drops them.
        import numpy as np

        left = self.nbytes
        with opened(self.path) as stream:
            stream.seek(self.offset)
            while left:
                data = stream.read(min(left, CHUNK_BYTES))
                if len(data) % ITEM_SIZE[self.dtype] or not data:
                    raise self._truncated()
                left -= len(data)
                yield from_little_endian(np.frombuffer(data, np.uint8), self.dtype)

    def _truncated(self) -> ArchcError:
        return error(
            "weights-truncated",
            f"{quoted(str(self.path))} ends before byte {self.offset + self.nbytes}, the end of a tensor in it",
            notes=["the file has become shorter since its header was read"],
        )


@dataclass(frozen=True, eq=False, repr=False)
class InitializedTensor(LazyTensor):
    """A new weight, drawn from its initializer on demand.

    `seed_key` is the seed and the path of the weight.  The numbers depend only on this key.
    """

    shape: tuple[int, ...]
    dtype: str
    initializer: Initializer
    seed_key: tuple[int, str]

    def numpy(self) -> npt.NDArray[Any]:
        return self.initializer.sample(self.shape, self.dtype, generator(*self.seed_key))

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        return self.initializer.chunks(self.size, self.dtype, generator(*self.seed_key))


@dataclass(frozen=True, eq=False, repr=False)
class ComputedTensor(LazyTensor):
    """A tensor that `function` computes from other tensors at each use.

    `numpy` raises ValueError if the function returns a wrong shape or dtype.
    """

    shape: tuple[int, ...]
    dtype: str
    function: Callable[[], npt.NDArray[Any]] = field(repr=False)

    def numpy(self) -> npt.NDArray[Any]:
        array = self.function()
        if array.shape != self.shape or name_of_numpy(array.dtype) != self.dtype:
            raise ValueError(f"{self!r} is computed as {array.dtype} of shape {array.shape}")
        return array


class TransposedTensor(LazyTensor):
    """The transpose of a matrix; chunks are transposed one at a time, so the whole matrix is never copied."""

    def __init__(self, matrix: LazyTensor):
        self._matrix = matrix
        rows, columns = matrix.shape
        self.shape = (columns, rows)
        self.dtype = matrix.dtype

    def numpy(self) -> npt.NDArray[Any]:
        return self._matrix.numpy().T

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        transposed = self.numpy()
        step = max(CHUNK_BYTES // max(transposed[:1].nbytes, 1), 1)
        for start in range(0, len(transposed), step):
            yield from _pieces(transposed[start : start + step].reshape(-1))


class Weights(Mapping[str, LazyTensor]):
    """The stored tensors of a graph by path (`blocks.3.attn.query.weight`), in the order of insertion."""

    def __init__(self, tensors: Mapping[str, LazyTensor] | None = None):
        self._tensors: dict[str, LazyTensor] = dict(tensors or {})

    def __getitem__(self, path: str) -> LazyTensor:
        return self._tensors[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def set(self, path: str, tensor: LazyTensor) -> None:
        """Set the tensor of a path; a new path is inserted at the end."""
        self._tensors[path] = tensor

    def remove(self, path: str) -> LazyTensor:
        """Remove a tensor and return it.

        Raises:
            KeyError: the path is unknown.
        """
        return self._tensors.pop(path)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def __repr__(self) -> str:
        return f"Weights({len(self)} tensors, {self.nbytes} bytes)"
