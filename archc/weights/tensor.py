"""Tensors that are known by shape and dtype, and whose numbers are had only when somebody asks.

A model of many gigabytes is thus a small object.  What asks for the numbers reads one tensor at a time and
lets it go again, so that peak memory follows the largest tensor, not the model.
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
"""How much of a tensor is handled at a time where it is streamed."""


class ByteSink(Protocol):
    """Whatever bytes can be written to: a file, a socket's file, a hash in a coat."""

    def write(self, data: memoryview, /) -> object: ...


class LazyTensor(ABC):
    """A tensor whose shape and dtype are known and whose elements are had on demand.

    `shape` counts elements per axis; `dtype` is one of the names in `archc.weights.dtype_conversion.ITEM_SIZE`.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * ITEM_SIZE[self.dtype]

    @abstractmethod
    def numpy(self) -> npt.NDArray[Any]:
        """The elements, read or computed now.  The array may be a read-only view: copy it before writing to it."""

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """The elements in row-major order, as flat arrays of at most `CHUNK_BYTES`."""
        flat = self.numpy().reshape(-1)
        step = CHUNK_BYTES // ITEM_SIZE[self.dtype]
        for start in range(0, flat.size, step):
            yield flat[start : start + step]

    def write_to(self, stream: ByteSink) -> None:
        """Write the elements as raw bytes: row-major, little-endian, `nbytes` of them."""
        import numpy as np

        for chunk in self.chunks():
            stream.write(to_little_endian(np.ascontiguousarray(chunk)).data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}[{', '.join(map(str, self.shape))}])"


class ArrayTensor(LazyTensor):
    """A tensor that is in memory already.  Raises ValueError for a dtype that archc has no name for."""

    def __init__(self, array: npt.ArrayLike):
        import numpy as np

        given = np.asarray(array)
        dtype = name_of_numpy(given.dtype)
        if dtype is None:
            raise ValueError(f"no archc dtype stands for numpy's {given.dtype}")
        self._array: np.ndarray[Any, Any] = given.astype(given.dtype.newbyteorder("="), copy=False)
        self.shape = given.shape
        self.dtype = dtype

    def numpy(self) -> npt.NDArray[Any]:
        view = self._array.view()
        view.flags.writeable = False
        return view


def mapped(stream: IO[bytes], offset: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Row-major, little-endian elements from byte `offset` of a file on, as a read-only view of it.

    The view stays good when the file is closed.
    """
    import numpy as np

    size = math.prod(shape) * ITEM_SIZE[dtype]
    if size == 0:  # an empty stretch cannot be mapped
        return np.empty(shape, numpy_dtype(dtype))
    raw = np.memmap(stream, dtype=np.uint8, mode="r", offset=offset, shape=(size,))
    return from_little_endian(np.asarray(raw), dtype).reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class FileTensor(LazyTensor):
    """A stretch of a file: row-major, little-endian elements from byte `offset` on.  Mapped, not copied, when read.

    Reading raises `ArchcError` (`weights-truncated`) where the file has become too short since it was looked at.
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
        # Plain reads: pages of a mapping would count as this process's memory until they are dropped.
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
            f"{quoted(str(self.path))} ends before byte {self.offset + self.nbytes}, where a tensor of it ends",
            notes=["the file was longer when its header was read: something wrote to it meanwhile"],
        )


@dataclass(frozen=True, eq=False, repr=False)
class InitializedTensor(LazyTensor):
    """The weights of a fresh layer, drawn when asked for.

    `seed_key` is the seed and the path of the weight.  The numbers depend on these two and on nothing else:
    neither on the order in which tensors are asked for nor on which others there are.
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
    """What a pass makes of other tensors: computed anew by `function` whenever it is asked for, and never kept.

    Raises ValueError where the function returns another shape or dtype than was promised.
    """

    shape: tuple[int, ...]
    dtype: str
    function: Callable[[], npt.NDArray[Any]] = field(repr=False)

    def numpy(self) -> npt.NDArray[Any]:
        array = self.function()
        if array.shape != self.shape or name_of_numpy(array.dtype) != self.dtype:
            raise ValueError(f"{self!r} was computed as {array.dtype} of shape {array.shape}")
        return array


class Weights(Mapping[str, LazyTensor]):
    """Path to tensor (`blocks.3.attn.query.weight`), in the order of insertion.

    Only names and tensors that are yet to be read are held here, so that a pass that replaces one touches no other.
    """

    def __init__(self, tensors: Mapping[str, LazyTensor] | None = None):
        self._tensors: dict[str, LazyTensor] = dict(tensors or {})

    def __getitem__(self, path: str) -> LazyTensor:
        return self._tensors[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def set(self, path: str, tensor: LazyTensor) -> None:
        """Put a tensor at a path: at the end if the path is new, else in the place of the one that stood there."""
        self._tensors[path] = tensor

    def remove(self, path: str) -> LazyTensor:
        """Take a tensor out and return it.  Raises KeyError for an unknown path."""
        return self._tensors.pop(path)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def __repr__(self) -> str:
        return f"Weights({len(self)} tensors, {self.nbytes} bytes)"
