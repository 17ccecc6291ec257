"""Storage of f32 weights as f16 or bf16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np

NARROW = (DType.f16, DType.bf16)
"""The dtypes in which f32 weights can be stored."""


@frozen_dataclass
class NarrowFloat(Storage):
    """Floats of half the bytes, rounded to nearest; layers compute in f32.

    In the text, the format has the name of its dtype: `weight = f16`, `weight = bf16`.
    """

    dtype: DType = attribute(doc="f16 or bf16")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        return {path: (shape, self.dtype)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if self.dtype not in NARROW:
            return "weights are stored in f16, in bf16, or in their own dtype"
        return None if dtype is DType.f32 else f"`{self.dtype}` expects an f32 weight, got {dtype}"

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        import ml_dtypes
        import numpy as np

        with np.errstate(over="ignore"):
            return {path: values.astype(ml_dtypes.bfloat16 if self.dtype is DType.bf16 else np.float16)}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        values: np.ndarray = stored[path].astype(np.float32)
        return values

    @property
    def label(self) -> str:
        return self.dtype.value

    def __str__(self) -> str:
        return self.dtype.value
