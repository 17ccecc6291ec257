"""Tensor types: a dtype and a shape, whose sizes may be symbolic."""

from __future__ import annotations

import builtins
from enum import StrEnum

from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import SymbolicDim

MOST_AXES = 64
"""Maximum number of axes of one tensor, the limit of PyTorch's kernels and of NumPy."""


class DType(StrEnum):
    """An element type, by its name in the language."""

    f64 = "f64"
    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    i64 = "i64"
    i32 = "i32"
    i16 = "i16"
    i8 = "i8"
    u8 = "u8"
    bool = "bool"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return 1 if self is DType.bool else int(self.value.lstrip("bfiu")) // 8

    @property
    def floating(self) -> builtins.bool:
        """True for floating-point types."""
        return self.value in ("f64", "f32", "f16", "bf16")

    @property
    def integral(self) -> builtins.bool:
        """True for integer types, not for `bool`."""
        return not self.floating and self is not DType.bool

    @property
    def largest(self) -> int | float:
        """Largest finite value of an element."""
        if self in _SIGNIFICANT_BITS:
            precision, exponent = _SIGNIFICANT_BITS[self]
            return (2 - 2.0 ** (1 - precision)) * 2.0**exponent
        return 1 if self is DType.bool else 2 ** (8 * self.size - (self is not DType.u8)) - 1

    @property
    def smallest(self) -> int | float:
        """Lowest finite value of an element."""
        if self in (DType.bool, DType.u8):
            return 0
        return -self.largest - self.integral

    @property
    def torch(self) -> str:
        """Name in PyTorch: `float32`, `int64`."""
        return _TORCH[self.value]

    @property
    def onnx(self) -> str:
        """Name in ONNX's `TensorProto.DataType`: `FLOAT`, `INT64`."""
        return _ONNX[self.value]


class Float8(StrEnum):
    """A type of floats of 8 bits: only stored weights have it, and values of the graph do not."""

    e4m3 = "f8e4m3"
    e5m2 = "f8e5m2"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return 1

    @property
    def floating(self) -> builtins.bool:
        """True, as for the floating-point types of `DType`."""
        return True

    @property
    def largest(self) -> float:
        """Largest finite value of an element."""
        return 448.0 if self is Float8.e4m3 else 57344.0

    @property
    def torch(self) -> str:
        """Name in PyTorch and in `ml_dtypes`; `fn` means that there is a NaN, and no infinity."""
        return "float8_e4m3fn" if self is Float8.e4m3 else "float8_e5m2"

    @property
    def onnx(self) -> str:
        """Name in ONNX's `TensorProto.DataType`."""
        return "FLOAT8E4M3FN" if self is Float8.e4m3 else "FLOAT8E5M2"


StoredDType = DType | Float8
"""Element type of a stored tensor."""
STORED_DTYPES: tuple[StoredDType, ...] = (*DType, *Float8)


def stored_dtype(name: str) -> StoredDType:
    """Return the element type of a stored tensor by its name."""
    return DType(name) if name in DType.__members__ else Float8(name)


_SIGNIFICANT_BITS = {DType.f64: (53, 1023), DType.f32: (24, 127), DType.f16: (11, 15), DType.bf16: (8, 127)}
"""Bits of the significand, with the implicit leading bit, and the largest exponent (IEEE 754)."""

_TORCH = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "bool": "bool",
}

_ONNX = {
    "f64": "DOUBLE",
    "f32": "FLOAT",
    "f16": "FLOAT16",
    "bf16": "BFLOAT16",
    "i64": "INT64",
    "i32": "INT32",
    "i16": "INT16",
    "i8": "INT8",
    "u8": "UINT8",
    "bool": "BOOL",
}


@frozen_dataclass
class TensorType:
    """A dtype and a shape: `f32[N, 1, 28, 28]`."""

    dtype: DType
    shape: tuple[int | SymbolicDim, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(str(dim) for dim in self.shape)}]"
