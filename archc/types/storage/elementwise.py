"""Storage formats without rounding: dense, and masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class Dense(Storage):
    """One tensor with the values of the weight."""

    name: ClassVar[str] = "dense"
    elementwise: ClassVar[bool] = True


@frozen_dataclass
class Masked(Storage):
    """Values and a Boolean mask: w = values · mask.

    Masked elements are zero and get no gradient, so they remain zero in training.
    (Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", section 3.)
    """

    name: ClassVar[str] = "masked"
    elementwise: ClassVar[bool] = True

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        return {path: (shape, dtype), f"{path}_mask": (shape, DType.bool)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        return None if dtype.floating else f"`masked` expects a floating-point weight, got {dtype}"

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        return {path: values, f"{path}_mask": values != 0}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        values = stored[path]
        decoded: np.ndarray = np.where(stored[f"{path}_mask"], values, np.zeros((), values.dtype))
        return decoded
