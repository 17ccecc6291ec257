"""Conversion of dtypes, arrays, tensors and bytes between archc, numpy and PyTorch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from archc.types.tensor_type import STORED_DTYPES, DType, Float8

if TYPE_CHECKING:
    import numpy as np
    import torch

ITEM_SIZE = {dtype.value: dtype.size for dtype in STORED_DTYPES}
"""Bytes of one element, by dtype name."""

FLOATS = frozenset(dtype.value for dtype in DType if dtype.floating)
"""Names of the floating-point dtypes of values."""

_NUMPY_NAME = {dtype.value: dtype.torch for dtype in STORED_DTYPES}  # numpy and PyTorch have the same names
_OF_ML_DTYPES = ("bf16", *(dtype.value for dtype in Float8))
_NAME_OF_NUMPY = {numpy_name: name for name, numpy_name in _NUMPY_NAME.items()}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype of a name, in native byte order; those of bf16 and f8 are in `ml_dtypes`."""
    import numpy as np

    if name in _OF_ML_DTYPES:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _NUMPY_NAME[name]))
        return found
    return np.dtype(_NUMPY_NAME[name])


def name_of_numpy(dtype: np.dtype[Any]) -> str | None:
    """Return the name of a numpy dtype of either byte order, or None for an unsupported dtype."""
    return _NAME_OF_NUMPY.get(dtype.name)


def is_finite(array: np.ndarray[Any, Any]) -> bool:
    """Return True if an array of any dtype contains no NaN and no infinity."""
    import numpy as np

    floating = name_of_numpy(array.dtype) in (*FLOATS, *Float8)
    return not floating or bool(np.isfinite(array).all())


def to_torch(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Convert an array to a tensor; they share memory if the array is writeable.

    PyTorch rejects arrays of `ml_dtypes`, so their bits are reinterpreted.
    """
    import torch

    if not array.flags.writeable:
        array = array.copy()
    name = name_of_numpy(array.dtype)
    if name in _OF_ML_DTYPES:
        bits = torch.from_numpy(array.view(f"i{ITEM_SIZE[name]}"))
        return bits.view(getattr(torch, _NUMPY_NAME[name]))
    return torch.from_numpy(array)


def from_torch(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Convert a tensor on any device to an array; they share memory if possible."""
    import torch

    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    for name in _OF_ML_DTYPES:
        if dense.dtype is getattr(torch, _NUMPY_NAME[name]):
            bits = torch.int16 if ITEM_SIZE[name] == 2 else torch.int8
            return dense.view(bits).numpy().view(numpy_dtype(name))
    array: np.ndarray[Any, Any] = dense.numpy()
    return array


def to_little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the little-endian bytes of a contiguous flat array as a `uint8` array; a view if possible."""
    import numpy as np

    if sys.byteorder == "big":
        array = array.view(f"=u{array.itemsize}").byteswap()
    return array.view(np.uint8)


def from_little_endian(raw: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Return a flat array of a dtype from little-endian bytes in a `uint8` array; a view if possible.

    In a `bool` array, every byte except 0 becomes 1 (true): numpy has undefined behaviour for bytes above 1.
    """
    if name == "bool":
        return raw.astype(bool)
    if sys.byteorder == "big":
        raw = raw.view(f"=u{ITEM_SIZE[name]}").byteswap()
    return raw.view(numpy_dtype(name))
