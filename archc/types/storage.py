"""How a weight is stored: dense, with a mask, or as integers with a scale.

A layer computes with what the storage decodes to.  A storage is named in the text (`weight = int8(axis = 0)`)
and knows which tensors it consists of; the first keeps the weight's own path, the others hang a suffix on it
(`fc1.weight`, `fc1.weight_scale`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from archc.types.attributes import arguments_text, attribute
from archc.types.frozen_dataclass import frozen_dataclass
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]

STORAGES: dict[str, type[Storage]] = {}
"""All storages by their names in the language; subclasses of `Storage` enter themselves."""


@frozen_dataclass
class Storage:
    """One way to store a weight; the fields are the options."""

    name: ClassVar[str] = ""
    elementwise: ClassVar[bool] = False
    """Whether every stored tensor has an element for each of the weight, and the numbers are floats as they are.

    Then a slice of the weight is the same slice of its tensors, and no pass loses anything by changing the numbers.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        STORAGES[cls.name] = cls

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
        """The stored tensors of a weight: path to shape and dtype, the weight's own path first."""
        return {path: (shape, dtype)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        """Why no weight of this type can be stored so; None where it can."""
        return None

    def parameters(self, shape: Shape) -> int:
        """Number of trainable elements that a weight of this shape has."""
        return math.prod(shape)

    def encode(self, path: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """The stored tensors for a weight's values, of whatever shape; keys as in `tensors`."""
        return {path: values}

    def decode(self, path: str, stored: dict[str, np.ndarray]) -> np.ndarray:
        """The values that layers compute with."""
        return stored[path]

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name


@frozen_dataclass
class Dense(Storage):
    """Every element as it is."""

    name: ClassVar[str] = "dense"
    elementwise: ClassVar[bool] = True


@frozen_dataclass
class Masked(Storage):
    """Every element as it is, beside a mask: w = values · mask, so that what is masked is zero and stays zero.

    No gradient reaches a masked element, whatever the optimizer does with the rest.
    (Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", section 3.)
    """

    name: ClassVar[str] = "masked"
    elementwise: ClassVar[bool] = True

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
        return {path: (shape, dtype), f"{path}_mask": (shape, DType.bool)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        return None if dtype.floating else f"only floating-point weights are masked, and this one is {dtype}"

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

    One scale for each slice along `axis`, or a single one where `axis` is left out.
    (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1, with zero point 0.)
    """

    name: ClassVar[str] = "int8"
    axis: int | None = attribute(None, doc="one scale for each slice along this axis; without it a single scale")

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, DType]]:
        scales = () if self.axis is None else (shape[self.axis],)
        return {path: (shape, DType.i8), f"{path}_scale": (scales, dtype)}

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        if not dtype.floating:
            return f"only floating-point weights have a scale, and this one is {dtype}"
        if self.axis is not None and not 0 <= self.axis < len(shape):
            return f"its axes are 0 to {len(shape) - 1}" if shape else "it has no axes"
        return None

    def encode(self, path: str, values: np.ndarray, least: np.ndarray | float = 0.0) -> dict[str, np.ndarray]:
        """Quantize as `Storage.encode`, with no scale below `least`, a number or one for each slice.

        A slice of zeros has the scale `least`, or if that is 0 the largest scale of all slices: every scale is exact.
        """
        import numpy as np

        others = tuple(k for k in range(values.ndim) if k != self.axis)
        largest = np.abs(values).max(axis=others if self.axis is not None else None, initial=0)
        scale = np.maximum(np.asarray(largest / 127, values.dtype), np.asarray(least, values.dtype))
        # A scale of 0 cannot divide.  It also results where a 127th of the largest number underflows.
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
    """Two factors of a matrix: w = left · right, with w taken as its first axis against all others.

    The factors are stored and trained; layers compute with their product.  The left one has the weight's own path.
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
            return f"only floating-point weights have factors, and this one is {dtype}"
        if len(shape) < 2:
            return "it has fewer than two axes"
        most = min(shape[0], math.prod(shape[1:]))
        return None if 1 <= self.rank <= most else f"its rank is from 1 to {most}"

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
    """A tensor that a layer owns: a parameter, or a buffer where `trainable` is False.

    Attributes:
        path: its name in the text, the state dict, the safetensors file and the ONNX initializers.
        shape, dtype: what layers compute with, whatever the storage.
        initializer: how a fresh one is made; see `archc.weights.initializers`.
    """

    path: str
    shape: Shape
    dtype: DType
    storage: Storage = Dense()
    trainable: bool = True
    initializer: Any = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def parameters(self) -> int:
        """The number of trainable elements; 0 for a buffer."""
        return self.storage.parameters(self.shape) if self.trainable else 0

    @property
    def tensors(self) -> dict[str, tuple[Shape, DType]]:
        """The tensors that are stored for it: path to shape and dtype."""
        return self.storage.tensors(self.path, self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored for it."""
        return sum(dtype.size * math.prod(shape) for shape, dtype in self.tensors.values())
