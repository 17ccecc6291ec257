"""Base of storage formats with integers: the weight as a matrix with groups that have a common scale."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.storage.base import Shape, Storage

if TYPE_CHECKING:
    import numpy as np


@frozen_dataclass
class Integers(Storage):
    """Base of formats that store w ≈ scale · (q - zero_point) with integers q.

    A method that chooses the integers, such as GPTQ, takes a weight as a matrix of shape [channels, columns] (`rows`),
    finds a range for each group of a row (`split`), and stores the integers (`pack`).
    """

    type_phrase: ClassVar[str] = "a format of integers, such as `int8(axis = 0)`"
    """Description of the type of an attribute, for diagnostics."""

    if TYPE_CHECKING:
        axis: Any

    @property
    @abstractmethod
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer q."""

    @property
    def single_scale(self) -> bool:
        """True if all channels have one scale."""
        return False

    @abstractmethod
    def width(self, shape: Shape) -> int:
        """Return the number of elements of a group, except for a shorter last one."""

    @abstractmethod
    def split(self, rows: np.ndarray) -> np.ndarray:
        """Reshape [channels, columns] to [channels, groups, width]; a shorter last group ends with zeros."""

    @abstractmethod
    def affine(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scales, in their stored dtype, and zero points, as f32, of ranges from `low` <= 0 to `high` >= 0.

        Args:
            low, high: ends of the range of each group, of shape [channels, groups].
        """

    @abstractmethod
    def pack(
        self, path: str, q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, shape: Shape
    ) -> dict[str, np.ndarray]:
        """Stored tensors.

        Args:
            q: integers of shape [channels, columns].
            scale, zero_point: of shape [channels, groups].
            shape: the shape of the weight.
        """

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Reshape a weight to [channels, columns]."""
        import numpy as np

        axis = self.axis or 0
        return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)

    def from_rows(self, rows: np.ndarray, shape: Shape) -> np.ndarray:
        """Reshape [channels, columns] to the shape of a weight."""
        import numpy as np

        channels = self.axis or 0
        others = tuple(extent for axis, extent in enumerate(shape) if axis != channels)
        return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[channels], *others), 0, channels))
