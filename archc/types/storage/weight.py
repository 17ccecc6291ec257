"""A weight: the shape, dtype and storage of a tensor that a layer owns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from archc.frozen_dataclass import frozen_dataclass
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.storage.elementwise import Dense
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class Weight:
    """A tensor that a layer owns: a parameter, or a buffer if `trainable` is False.

    Attributes:
        path: name in the text, the state dict, the safetensors file and the ONNX initializers.
        shape, dtype: shape and dtype of the decoded values.
        initializer: distribution of new values; see `archc.weights.initializers`.
    """

    path: str
    shape: Shape
    dtype: DType
    storage: Storage = Dense()
    trainable: bool = True
    initializer: Any = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def parameters(self) -> int:
        """Number of trainable elements; 0 for a buffer."""
        return self.storage.parameters(self.shape) if self.trainable else 0

    @property
    def tensors(self) -> dict[str, tuple[Shape, StoredDType]]:
        """Shape and dtype of the stored tensors by path."""
        return self.storage.tensors(self.path, self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(dtype.size * math.prod(shape) for shape, dtype in self.tensors.values())

    def decode(self, stored: Stored) -> np.ndarray:
        """Return the values that layers compute with, from the stored tensors by path."""
        return self.storage.decode(self.path, stored, self.shape, self.dtype)
