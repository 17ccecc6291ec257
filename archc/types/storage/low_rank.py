"""Storage of weights as two low-rank factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class LowRankStorage(Storage):
    """Two factors of a matrix: w = left · right, where w is reshaped to [first axis, all other axes].

    The factors are stored and trained, and layers compute with their product.  The left factor has the weight's path.
    (Denil et al. 2013, "Predicting Parameters in Deep Learning".)
    """

    name: ClassVar[str] = "low_rank"
    rank: int = attribute(doc="columns of the left factor, and rows of the right one")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        return {path: ((shape[0], self.rank), dtype), f"{path}_right": ((self.rank, *shape[1:]), dtype)}

    def parameters(self, shape: Shape) -> int:
        return self.rank * (shape[0] + math.prod(shape[1:]))

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if not dtype.floating:
            return f"`low_rank` expects a floating-point weight, got {dtype}"
        if len(shape) < 2:
            return "it has fewer than two axes"
        most = min(shape[0], math.prod(shape[1:]))
        return None if 1 <= self.rank <= most else f"`rank` must be from 1 to {most}"

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        import numpy as np

        left, scales, right = np.linalg.svd(values.reshape(len(values), -1).astype(np.float64), full_matrices=False)
        root = np.sqrt(scales[: self.rank])
        factors = left[:, : self.rank] * root, (right[: self.rank].T * root).T.reshape(self.rank, *values.shape[1:])
        return {path: factors[0].astype(values.dtype), f"{path}_right": factors[1].astype(values.dtype)}

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        left, right = stored[path], stored[f"{path}_right"]
        product = np.tensordot(left.astype(np.float64), right.astype(np.float64), 1)
        return product.astype(left.dtype)
