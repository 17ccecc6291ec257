"""Storage of weights as two low-rank factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.storage.elementwise import Dense
from archc.types.storage.float8 import Float8Storage
from archc.types.storage.integers import Integers
from archc.types.storage.narrow_float import NarrowFloat
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np

FACTOR_FORMATS = Integers | NarrowFloat | Float8Storage
"""The formats in which factors can be stored."""


@frozen_dataclass
class LowRankStorage(Storage):
    """Two factors of a matrix: w = left · right, where w is reshaped to [first axis, all other axes].

    The factors are stored and trained, and layers compute with their product.  The left factor has the weight's path.
    With a `format`, both factors are stored in this format, and are not trained.
    (Denil et al. 2013, "Predicting Parameters in Deep Learning".)
    """

    name: ClassVar[str] = "low_rank"
    rank: int = attribute(doc="columns of the left factor, and rows of the right one")
    format: Storage | None = attribute(
        None, doc="format of both factors, such as `int8(axis = 0)`; by default, they are stored as floats"
    )

    @property
    def of_factors(self) -> Storage:
        """The storage of each factor."""
        return self.format or Dense()

    def factors(self, path: str, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the left and the right factor, by path."""
        return {path: (shape[0], self.rank), f"{path}_right": (self.rank, *shape[1:])}

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
        factors = self.factors(path, shape).items()
        stored = (self.of_factors.tensors(name, own, dtype) for name, own in factors)
        return {name: tensor for each in stored for name, tensor in each.items()}

    def parameters(self, shape: Shape) -> int:
        return self.rank * (shape[0] + math.prod(shape[1:]))

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if not dtype.floating:
            return f"`low_rank` expects a floating-point weight, got {dtype}"
        if len(shape) < 2:
            return "it has fewer than two axes"
        most = min(shape[0], math.prod(shape[1:]))
        if not 1 <= self.rank <= most:
            return f"`rank` must be from 1 to {most}"
        if not isinstance(self.format, FACTOR_FORMATS | None):
            return f"its factors can be integers or narrow floats, such as `int8(axis = 0)`, not `{self.format}`"
        misfits = (self.of_factors.misfit(own, dtype) for own in self.factors("", shape).values())
        return next((reason for reason in misfits if reason is not None), None)

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        import numpy as np

        left, scales, right = np.linalg.svd(values.reshape(len(values), -1).astype(np.float64), full_matrices=False)
        root = np.sqrt(scales[: self.rank])
        factors = left[:, : self.rank] * root, (right[: self.rank].T * root).T.reshape(self.rank, *values.shape[1:])
        return self.encode_factors(path, factors[0].astype(values.dtype), factors[1].astype(values.dtype))

    def encode_factors(self, path: str, left: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
        """Return the stored tensors for two factors with the shapes of `factors`."""
        return {**self.of_factors.encode(path, left), **self.of_factors.encode(f"{path}_right", right)}

    def decode_factors(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
        """Return the left and the right factor."""
        left, right = (
            self.of_factors.decode(name, stored, own, dtype) for name, own in self.factors(path, shape).items()
        )
        return left, right

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        import numpy as np

        left, right = self.decode_factors(path, stored, shape, dtype)
        product = np.tensordot(left.astype(np.float64), right.astype(np.float64), 1)
        return product.astype(left.dtype)
