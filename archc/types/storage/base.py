"""Base class of the storage formats of weights.

A layer computes with the decoded values.  The text of a layer names the format (`weight = int8(axis = 0)`).  A format
defines the stored tensors.  The first stored tensor has the path of the weight, and the others have this path with a
suffix (`fc1.weight`, `fc1.weight_scale`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import arguments_text
from archc.types.tensor_type import DType, StoredDType

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]
Stored = Mapping[str, "np.ndarray"]
"""The stored tensors of a weight by path."""

STORAGES: dict[str, type[Storage]] = {}
"""Storage formats by their names in the language.

Subclasses of `Storage` are registered automatically.
"""


@frozen_dataclass
class Storage:
    """A storage format of weights; the fields are its options."""

    name: ClassVar[str] = ""
    type_phrase: ClassVar[str] = "a storage format, such as `int8(axis = 0)`"
    """Description of the type of an attribute, for diagnostics."""
    elementwise: ClassVar[bool] = False
    """True if every stored tensor has the shape of the weight, and values are stored without rounding.

    A slice of the weight is then the same slice of each stored tensor.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if cls.name:  # a base of formats has no name
            STORAGES[cls.name] = cls

    @property
    def label(self) -> str:
        """Name of the format without its options, for pictures and class names."""
        return self.name

    def tensors(self, path: str, shape: Shape, dtype: DType) -> dict[str, tuple[Shape, StoredDType]]:
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

    def decode(self, path: str, stored: Stored, shape: Shape, dtype: DType) -> np.ndarray:
        """Return the values that layers compute with, from the stored tensors by path."""
        return stored[path]

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name
