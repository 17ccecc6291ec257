"""Storage of f32 weights as floats of 8 bits, with a scale for each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.tensor_type import DType, Float8, StoredDType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class Float8Storage(Storage):
    """Floats of 8 bits q with a scale for each slice along an axis: w ≈ scale · q.

    The largest element of a slice becomes the largest float of the format (Micikevicius et al. 2022, "FP8 Formats for
    Deep Learning").  Layers compute in f32.
    """

    dtype: ClassVar[Float8]

    axis: int = attribute(0, doc="axis of the channels, each with a scale")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        return {path: (shape, self.dtype), f"{path}_scale": ((shape[self.axis],), DType.f32)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if dtype is not DType.f32:
            return f"`{self.name}` expects an f32 weight, got {dtype}"
        if not 0 <= self.axis < len(shape):
            return f"its axes are 0 to {len(shape) - 1}" if shape else "it has no axes"
        return None

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        import ml_dtypes
        import numpy as np

        others = tuple(axis for axis in range(values.ndim) if axis != self.axis)
        scale = np.abs(values).max(axis=others, initial=0) / np.float32(self.dtype.largest)
        scale = np.where(scale > 0, scale, np.float32(1))
        # A quotient above the largest float, by rounding, would become a NaN.
        steps = np.clip(values / self._spread(scale, values.ndim), -self.dtype.largest, self.dtype.largest)
        return {path: steps.astype(getattr(ml_dtypes, self.dtype.torch)), f"{path}_scale": scale}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        values: np.ndarray = stored[path].astype(np.float32)
        values *= self._spread(stored[f"{path}_scale"], values.ndim)
        return values

    def _spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        """Reshape the scales such that they multiply the slices of a weight."""
        return scale.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])


@frozen_dataclass
class F8E4M3(Float8Storage):
    """Floats with 4 bits of exponent and 3 of significand, up to 448."""

    name: ClassVar[str] = "f8e4m3"
    dtype: ClassVar[Float8] = Float8.e4m3


@frozen_dataclass
class F8E5M2(Float8Storage):
    """Floats with 5 bits of exponent and 2 of significand, up to 57,344."""

    name: ClassVar[str] = "f8e5m2"
    dtype: ClassVar[Float8] = Float8.e5m2
