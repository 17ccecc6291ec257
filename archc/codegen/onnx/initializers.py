"""The initializers of an ONNX model (stored weights and constants), and unique names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

from archc.types.tensor_type import DType, StoredDType, stored_dtype
from archc.weights.dtype_conversion import name_of_numpy, numpy_dtype, to_little_endian
from archc.weights.tensor import LazyTensor, TransposedTensor

Fill = Callable[[TensorProto, LazyTensor], None]
"""Function that stores the elements of a tensor, or a reference to a file, in a `TensorProto`."""

ALIGNMENT = 4096
"""Divisor of the offsets of tensors in a data file, so that each tensor can be mapped into memory."""

_LONGEST_NAME = 24  # characters; a constant with a longer text is named after its type


CONSTANT = "constant"
"""Beginning of the names of constants whose use says nothing about them."""

TRANSPOSED = "/T"
"""End of the names of transposed weights."""


def path_of(name: str) -> str:
    """The path of the weight that an initializer has, as stored or transposed."""
    return name.removesuffix(TRANSPOSED)


def is_constant(name: str) -> bool:
    """Return whether an initializer is a constant, and not a weight."""
    return "/" in path_of(name)


def onnx_dtype(dtype: StoredDType) -> int:
    """The number of an element type in ONNX."""
    return int(TensorProto.DataType.Value(dtype.onnx))


def embed(proto: TensorProto, tensor: LazyTensor) -> None:
    """A `Fill` that stores the elements in the model."""
    proto.raw_data = raw_bytes(tensor.numpy())


def raw_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """The elements in the byte order of ONNX: row-major, little-endian."""
    return to_little_endian(np.ascontiguousarray(array).reshape(-1)).tobytes()


class Initializers:
    """The initializers of one graph, without duplicates.

    Args:
        graph: the message that receives them.
        names: the names in use.

    Attributes:
        constants: each constant by name, with the text of its value.
    """

    def __init__(self, graph: onnx.GraphProto, names: UniqueNames):
        self._graph, self._names = graph, names
        self._stored: dict[str, tuple[TensorProto, LazyTensor]] = {}
        self._constants: dict[tuple[int, tuple[int, ...], bytes], str] = {}
        self.constants: dict[str, tuple[TensorProto, str]] = {}
        self._dtypes: dict[str, StoredDType] = {}

    def __contains__(self, name: str) -> bool:
        """Return whether a stored weight has this name."""
        return name in self._stored

    def dtype_of(self, name: str) -> StoredDType | None:
        """The dtype of an initializer; None for any other name."""
        return self._dtypes.get(name)

    def stored(self, path: str, tensor: LazyTensor) -> str:
        """Add the tensor of a stored weight on first use; return its name, which is its path.

        `fill` sets the elements.
        """
        if path not in self._stored:
            self._stored[path] = self._new(path, stored_dtype(tensor.dtype), tensor.shape), tensor
        return path

    def transpose(self, path: str, name: str) -> None:
        """Replace a stored matrix by its transpose, under another name."""
        proto, tensor = self._stored.pop(path)
        self._stored[name] = proto, TransposedTensor(tensor)
        self._dtypes[name] = self._dtypes.pop(path)
        proto.name = name
        proto.dims[:] = reversed(proto.dims)

    def fill(self, fill: Fill) -> None:
        """Set the elements of all stored weights, one weight after the other."""
        for proto, tensor in self._stored.values():
            fill(proto, tensor)

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """Add a constant on first use: a number, a nested list, or an array; return its name.

        The name is temporary; see `archc.codegen.onnx.constant_names`.
        """
        if dtype is None:
            dtype = _dtype_of(value)
        array = np.asarray(value).astype(numpy_dtype(dtype.value))
        raw = raw_bytes(array)
        key = (onnx_dtype(dtype), array.shape, raw)
        if key not in self._constants:
            text = str(array.tolist()).replace(" ", "")
            text = text if len(text) <= _LONGEST_NAME else f"{dtype}[{','.join(map(str, array.shape))}]"
            name = self._constants[key] = self._names.unique(f"{CONSTANT}/{text}")
            tensor = self._new(name, dtype, array.shape)
            tensor.raw_data = raw
            self.constants[name] = tensor, text
        return self._constants[key]

    def derived(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Add a tensor that is computed from stored weights, and return its name.

        Args:
            name: an unused name.
        """
        dtype = name_of_numpy(array.dtype)
        assert dtype is not None, "numpy arrays of archc's dtypes"
        self._new(name, DType(dtype), array.shape).raw_data = raw_bytes(array)
        return name

    def _new(self, name: str, dtype: StoredDType, shape: tuple[int, ...]) -> TensorProto:
        self._dtypes[name] = dtype
        proto: TensorProto = self._graph.initializer.add(name=name, data_type=onnx_dtype(dtype), dims=shape)
        return proto


def _dtype_of(value: Any) -> DType:
    if isinstance(value, list) and not value:  # an empty list is the shape of a scalar
        return DType.i64
    kind = np.asarray(value).dtype.kind
    return {"b": DType.bool, "i": DType.i64, "u": DType.i64}.get(kind, DType.f32)


class UniqueNames:
    """The names in use in one namespace; duplicates of `x` become `x_1`, `x_2`, …."""

    def __init__(self, taken: Iterable[str] = ()):
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """Return the name, with a number if it is in use, and mark it as used."""
        name = wanted
        while name in self._taken:
            number = self._next.get(wanted, 1)
            self._next[wanted] = number + 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


SMALL = 1024
"""Maximum size, in bytes, of tensors that are embedded even if larger ones are external data.

Model viewers show embedded tensors, such as scales and biases.
"""


def external(location: str, offsets: Mapping[str, tuple[int, int]]) -> Fill:
    """A `Fill` that refers to a file.

    Args:
        location: the path of the file relative to the folder of the model.
        offsets: offset and length in bytes of each stored tensor.
    """

    def fill(proto: TensorProto, tensor: LazyTensor) -> None:
        if tensor.nbytes <= SMALL:
            embed(proto, tensor)
            return
        offset, length = offsets[proto.name]
        if length != tensor.nbytes:
            raise ValueError(f"`{proto.name}` has {tensor.nbytes} bytes, but the file has {length}")
        _refer(proto, location, offset, length)

    return fill


def written_to(stream: BinaryIO, location: str) -> Fill:
    """A `Fill` that writes elements to the end of a data file, one tensor after the other.

    Args:
        stream: the data file.
        location: the path of the file relative to the folder of the model.
    """

    def fill(proto: TensorProto, tensor: LazyTensor) -> None:
        if tensor.nbytes <= SMALL:
            embed(proto, tensor)
            return
        stream.write(bytes(-stream.tell() % ALIGNMENT))
        _refer(proto, location, stream.tell(), tensor.nbytes)
        tensor.write_to(stream)

    return fill


def data_file(model: Path) -> Path:
    """The data file of a model that has its large weights in a file of its own."""
    return model.with_name(f"{model.name}.data")


def _refer(proto: TensorProto, location: str, offset: int, length: int) -> None:
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        proto.external_data.add(key=key, value=value)
