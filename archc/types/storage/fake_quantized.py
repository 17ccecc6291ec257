"""Storage of trainable weights as floats that are rounded to integers in each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute
from archc.types.storage.base import Shape, Storage, Stored
from archc.types.storage.integers import Integers
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class FakeQuantized(Storage):
    """Floats that are rounded in each run to the values that a format of integers stores.

    Scales and zero points follow from the current floats.  In training, the gradient of the rounded weight is the
    gradient of the floats: a straight-through gradient.
    (Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons", section 4.)
    """

    name: ClassVar[str] = "fake_quantized"
    format: Integers = attribute(doc="format of the integers, such as `int8(axis = 0)`")

    @property
    def label(self) -> str:
        return f"fake_{self.format.name}"

    def misfit(self, shape: Shape, dtype: DType) -> str | None:
        return self.format.misfit(shape, dtype)

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        return self.format.decode(path, self.format.encode(path, stored[path]), shape, dtype)
