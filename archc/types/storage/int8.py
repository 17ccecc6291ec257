"""Storage of weights as signed bytes with scales."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Stored
from archc.types.storage.integers import Integers
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class Int8(Integers):
    """Symmetric signed integers: w ≈ scale · q with q in -127..127 and scale = max|w| / 127.

    Each slice along `axis` has a scale; without `axis` the weight has a single scale.
    (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1, with zero point 0.)
    """

    name: ClassVar[str] = "int8"
    axis: int | None = attribute(None, doc="one scale for each slice along this axis; without it a single scale")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        scales = () if self.axis is None else (shape[self.axis],)
        return {path: (shape, DType.i8), f"{path}_scale": (scales, dtype)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if not dtype.floating:
            return f"`int8` expects a floating-point weight, got {dtype}"
        if self.axis is not None and not 0 <= self.axis < len(shape):
            return f"its axes are 0 to {len(shape) - 1}" if shape else "it has no axes"
        return None

    def encode(self, path: str, values: np.ndarray, least: np.ndarray | float = 0.0) -> dict[str, np.ndarray]:
        """Quantize the values of a weight, with scales that are at least `least`.

        A slice of zeros gets the scale `least`, or the largest scale of all slices if `least` is 0.

        Args:
            least: lower bound on the scales, a number or an array with a number for each slice.
        """
        import numpy as np

        others = tuple(k for k in range(values.ndim) if k != self.axis)
        largest = np.abs(values).max(axis=others if self.axis is not None else None, initial=0)
        scale = np.maximum(np.asarray(largest / 127, values.dtype), np.asarray(least, values.dtype))
        # The values are divided by the scale, so the scale must not be 0.  It is 0 for a slice of zeros,
        # and for tiny values, because max|w| / 127 underflows.
        other = scale.max(initial=0)
        scale = np.where(scale > 0, scale, np.asarray(other if other > 0 else 1, values.dtype))
        quantized = np.clip(np.rint(values / self._spread(scale, values.ndim)), -127, 127).astype(np.int8)
        return {path: quantized, f"{path}_scale": scale}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        quantized, scale = stored[path], stored[f"{path}_scale"]
        # A product of arrays without axes is no array.
        return np.asarray(quantized.astype(scale.dtype) * self._spread(scale, quantized.ndim))

    @property
    def limits(self) -> tuple[int, int]:
        return -127, 127

    @property
    def single_scale(self) -> bool:
        return self.axis is None

    def width(self, shape: Shape) -> int:
        return max(1, math.prod(shape) // max(1, shape[self.axis or 0]))

    def split(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, None, :]

    def affine(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        largest = np.maximum(high, -low)
        if self.axis is None:
            largest = np.broadcast_to(largest.max(initial=0), largest.shape)
        scale = np.asarray(largest / 127, np.float32)
        other = scale.max(initial=0)
        scale = np.where(scale > 0, scale, np.float32(other if other > 0 else 1))
        return scale, np.zeros(scale.shape, np.float32)

    def pack(
        self, path: str, q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, shape: Shape
    ) -> dict[str, np.ndarray]:
        import numpy as np

        stored = scale[:, 0] if self.axis is not None else scale.reshape(-1)[0]
        return {path: self.from_rows(q.astype(np.int8), shape), f"{path}_scale": np.asarray(stored)}

    def _spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        if self.axis is None:
            return scale
        return scale.reshape([-1 if k == self.axis else 1 for k in range(rank)])
