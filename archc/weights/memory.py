"""Weights and calibration data from arrays or tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archc.weights.dtypes import from_torch, name_of_numpy
from archc.weights.tensor import ArrayTensor, LazyTensor

if TYPE_CHECKING:
    import numpy as np


def tensors_of(given: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Copy numpy arrays or PyTorch tensors, so that later changes to them do not change a compiled model.

    Raises:
        TypeError: a name is not a string, a value is neither an array nor a tensor, or archc lacks its dtype.
    """
    return {name: ArrayTensor(array.copy()) for name, array in arrays_of(given, "weights").items()}


def arrays_of(given: Mapping[str, Any], argument: str) -> dict[str, np.ndarray]:
    """Convert numpy arrays or PyTorch tensors, by name, to numpy arrays.

    Args:
        argument: the name of the caller's argument, for messages.

    Raises:
        TypeError: as `tensors_of`.
    """
    import numpy as np

    arrays = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"`{argument}` takes arrays by name, and {name!r} is no string")
        try:
            array = from_torch(value) if _is_torch(value) else value
        except (NotImplementedError, RuntimeError, TypeError) as reason:
            raise TypeError(f"`{argument}` takes dense tensors with values, and {name!r} {_problem(value)}") from reason
        if not isinstance(array, np.ndarray | np.generic):
            raise TypeError(
                f"`{argument}` takes numpy arrays or torch tensors by name, and {name!r} is {type(value).__name__}"
            )
        arrays[name] = np.asarray(array)
        if name_of_numpy(arrays[name].dtype) is None:
            raise TypeError(f"`{argument}`: archc has no dtype for the {arrays[name].dtype} of {name!r}")
    return arrays


def _problem(tensor: Any) -> str:
    """Clause on a PyTorch tensor that numpy cannot take."""
    if tensor.is_meta:
        return "is on the device `meta`, which holds no values"
    if str(tensor.layout) != "torch.strided":
        return f"is {tensor.layout}: call `.to_dense()`"
    if tensor.is_quantized:
        return f"is {tensor.dtype}: call `.dequantize()`"
    return f"is {tensor.dtype}, which archc has no dtype for: call `.float()`"


def _is_torch(value: Any) -> bool:
    """Return whether a value is a PyTorch tensor, without importing PyTorch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach") and hasattr(value, "shape")
