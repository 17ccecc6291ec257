"""Storage formats of weights by the `format` option of `quant`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archc.types.storage import (
    F8E4M3,
    F8E5M2,
    Float8Storage,
    Int2,
    Int3,
    Int4,
    Int5,
    Int6,
    Int8,
    NarrowFloat,
    PackedIntegers,
    Storage,
)
from archc.types.tensor_type import DType

Array = npt.NDArray[Any]
Encoded = tuple[Storage, Mapping[str, Array]]
"""Storage of a weight, and its stored tensors by path."""

Format = Literal["int8", "int6", "int5", "int4", "int3", "int2", "f16", "bf16", "f8e4m3", "f8e5m2"]

PACKED: dict[str, type[PackedIntegers]] = {"int6": Int6, "int5": Int5, "int4": Int4, "int3": Int3, "int2": Int2}
"""Formats with several integers in a byte."""
FLOAT8: dict[str, type[Float8Storage]] = {"f8e4m3": F8E4M3, "f8e5m2": F8E5M2}
GROUP = 32
"""Default number of elements with a common scale."""
LEAST_SCALE = 2.0**-14
"""Smallest normal f16; smaller scales are stored as f32."""


def storage_of(
    name: Format, values: np.ndarray, axis: int | None, group: int | None = None, symmetric: bool = False
) -> Storage:
    """Storage of a weight in a format.

    Args:
        axis: axis of the channels, if the kernels of the layer need one.
        group: number of elements with a common scale, for packed integers.
    """
    if name in ("f16", "bf16"):
        return NarrowFloat(DType(name))
    if name in FLOAT8:
        return FLOAT8[name](axis or 0)
    if name == "int8":
        return Int8(axis)
    axis = axis or 0
    columns = values.size // max(1, values.shape[axis])
    width = GROUP if group is None else group
    storage = PACKED[name](axis, None if width >= columns else width, symmetric)
    return storage if _fits_f16(storage, values) else PACKED[name](axis, storage.group, symmetric, DType.f32)


def _fits_f16(storage: PackedIntegers, values: np.ndarray) -> bool:
    """Return whether f16 holds the scales without loss of precision."""
    grouped = storage.split(storage.rows(values))
    spans = np.maximum(grouped.max(2), 0) - np.minimum(grouped.min(2), 0)
    scales = spans[spans > 0] / (storage.levels - 1)
    return not scales.size or bool(scales.min() >= LEAST_SCALE and math.isfinite(np.float16(scales.max() * 2)))
