"""Grids: the integers of a weight matrix, with the scale and the zero point of each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archc.frozen_dataclass import frozen_by_identity
from archc.types.storage import Integers

if TYPE_CHECKING:
    import torch

    Array = np.ndarray

CLIPPING = tuple(1 - 0.05 * step for step in range(13))
"""Shares of a group's range that `find_grid` tries, from the whole range down to 40 %."""


@frozen_by_identity
class Grid:
    """The representable values of a weight matrix: scale · (q - zero_point), with `low` <= q <= `high`.

    Attributes:
        scale, zero_point: of shape [channels, groups], f32.
        width: number of columns in a group.
    """

    scale: torch.Tensor
    zero_point: torch.Tensor
    width: int
    low: int
    high: int

    def column(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and zero point of a column, each of shape [channels]."""
        group = number // self.width
        return self.scale[:, group], self.zero_point[:, group]

    def of_channels(self, first: int, count: int) -> Grid:
        """The grid of some channels."""
        scale, zero_point = (each[first : first + count] for each in (self.scale, self.zero_point))
        return Grid(scale, zero_point, self.width, self.low, self.high)

    def nearest(self, rows: torch.Tensor) -> torch.Tensor:
        """Integers of the representable values that are nearest to the values of a matrix [channels, columns]."""
        scale, zero_point = self._spread(rows.shape[1])
        return (rows / scale).round().add(zero_point).clamp(self.low, self.high)

    def values(self, q: torch.Tensor) -> torch.Tensor:
        """The values of integers of shape [channels, columns]."""
        scale, zero_point = self._spread(q.shape[1])
        return (q - zero_point) * scale

    def _spread(self, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        scale, zero_point = (
            each.repeat_interleave(self.width, 1)[:, :columns] for each in (self.scale, self.zero_point)
        )
        return scale, zero_point


def find_grid(storage: Integers, rows: torch.Tensor, importance: torch.Tensor | None = None) -> Grid:
    """The grid of a weight matrix, with clipped ranges.

    The range of each group is the share of its whole range that has the smallest error.

    Args:
        rows: the weight, [channels, columns].
        importance: factors of the squared errors of the columns, [columns] or [channels, columns]: the diagonal of the
            second moments of the operand.  None for the whole range of each group.
    """
    import torch

    grouped = storage.split(rows.numpy())
    low, high = np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0)
    width, limits = grouped.shape[2], storage.limits
    scale, zero_point = storage.affine(low, high)
    if importance is not None:
        factors = storage.split(np.broadcast_to(importance.float().numpy(), rows.shape).copy())
        least = np.full(low.shape, np.inf, np.float32)
        for share in CLIPPING:
            tried = storage.affine(low * share, high * share)
            error = (_rounding_error(grouped, *tried, limits) * factors).sum(2)
            better = error < least
            least = np.where(better, error, least)
            scale, zero_point = (np.where(better, new, old) for new, old in zip(tried, (scale, zero_point)))
    ends = torch.from_numpy(np.asarray(scale, np.float32)), torch.from_numpy(np.asarray(zero_point, np.float32))
    return Grid(*ends, width, *limits)


def _rounding_error(values: Array, scale: Array, zero_point: Array, limits: tuple[int, int]) -> Array:
    """Squared errors of the nearest representable values, of shape [channels, groups, width]."""
    scale, zero_point = scale.astype(np.float32)[:, :, None], zero_point[:, :, None]
    q = np.clip(np.rint(values / scale) + zero_point, *limits)
    error: Array = np.square((q - zero_point) * scale - values)
    return error
