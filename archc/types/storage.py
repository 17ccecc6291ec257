"""Storage formats of weights: dense, masked, 8-bit integers with scales, low-rank factors.

A layer computes with the decoded values.  The text of a layer names the format (`weight = int8(axis = 0)`).  A format
defines the stored tensors.  The first stored tensor has the path of the weight, and the others have this path with a
suffix (`fc1.weight`, `fc1.weight_scale`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import arguments_text, attribute
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]

STORAGES: dict[str, type[Storage]] = {}
"""Storage formats by their names in the language.

Subclasses of `Storage` are registered automatically.
"""


@frozen_dataclass
class Storage:
    """A storage format of weights; the fields are its options."""

    name: ClassVar[str] = ""
    elementwise: ClassVar[bool] = False
    """True if every stored tensor has the shape of the weight, and values are stored without rounding.

    A slice of the weight is then the same slice of each stored tensor.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        STORAGES[cls.name] = cls

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
        """Return shape and dtype of the stored tensors by path, with the weight's own path first."""
        return {path: (shape, dtype)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        """Return the reason that a weight of this type cannot be stored in this format, or None."""
        return None

    def parameters(self, shape: Shape) -> int:
        """Return the number of trainable elements of a weight of this shape."""
        return math.prod(shape)

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the stored tensors for the values of a weight, by path as in `tensors`."""
        return {path: values}

    def decode(self, path: str, stored: dict[str, np.ndarray]) -> np.ndarray:
        """Return the values that layers compute with, from the stored tensors by path."""
        return stored[path]

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name


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

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
        return {path: (shape, dtype), f"{path}_mask": (shape, DType.bool)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        return None if dtype.floating else f"`masked` expects a floating-point weight, got {dtype}"

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        return {path: values, f"{path}_mask": values != 0}

    def decode(self, path: str, stored: dict[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        values = stored[path]
        decoded: np.ndarray = np.where(stored[f"{path}_mask"], values, np.zeros((), values.dtype))
        return decoded


@frozen_dataclass
class Int8(Storage):
    """Symmetric signed integers: w ≈ scale · q with q in -127..127 and scale = max|w| / 127.

    Each slice along `axis` has a scale; without `axis` the weight has a single scale.
    (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1, with zero point 0.)
    """

    name: ClassVar[str] = "int8"
    axis: int | None = attribute(None, doc="one scale for each slice along this axis; without it a single scale")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
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

    def decode(self, path: str, stored: dict[str, np.ndarray]) -> np.ndarray:
        quantized, scale = stored[path], stored[f"{path}_scale"]
        values: np.ndarray = quantized.astype(scale.dtype) * self._spread(scale, quantized.ndim)
        return values

    def _spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        if self.axis is None:
            return scale
        return scale.reshape([-1 if k == self.axis else 1 for k in range(rank)])


@frozen_dataclass
class LowRankStorage(Storage):
    """Two factors of a matrix: w = left · right, where w is reshaped to [first axis, all other axes].

    The factors are stored and trained, and layers compute with their product.  The left factor has the weight's path.
    (Denil et al. 2013, "Predicting Parameters in Deep Learning".)
    """

    name: ClassVar[str] = "low_rank"
    rank: int = attribute(doc="columns of the left factor, and rows of the right one")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
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

    def decode(self, path: str, stored: dict[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        left, right = stored[path], stored[f"{path}_right"]
        product = np.tensordot(left.astype(np.float64), right.astype(np.float64), 1)
        return product.astype(left.dtype)


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
    def tensors(self) -> dict[str, tuple[Shape, DType]]:
        """Shape and dtype of the stored tensors by path."""
        return self.storage.tensors(self.path, self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(dtype.size * math.prod(shape) for shape, dtype in self.tensors.values())
