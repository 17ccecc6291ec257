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
BLOCK = 1 << 15
"""Number of elements of a weight that `find_grid` rounds at a time."""


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

    The range of each group is the share of its whole range that has the smallest error; all groups have the same share
    if they have one scale.

    Args:
        rows: the weight, [channels, columns].
        importance: factors of the squared errors of the columns, [columns] or [channels, columns]: the diagonal of the
            second moments of the operand.  None for the whole range of each group.
    """
    import torch

    grouped = storage.split(rows.numpy())
    low, high = np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0)
    width, limits = grouped.shape[2], storage.limits
    scale, zero_point = _affine(storage, low, high)
    if importance is not None:
        weights = storage.split(np.broadcast_to(importance.float().numpy(), rows.shape).copy())
        errors = _RoundingErrors(torch.from_numpy(grouped), torch.from_numpy(weights), limits)
        least = torch.full(low.shape, torch.inf)
        for share in CLIPPING:
            tried = _affine(storage, low * share, high * share)
            error = errors.of(*tried)
            if storage.single_scale:
                error = error.sum().expand_as(least)
            better = error < least
            least = least.where(~better, error)
            scale, zero_point = (old.where(~better, new) for new, old in zip(tried, (scale, zero_point)))
    return Grid(scale, zero_point, width, *limits)


def _affine(storage: Integers, low: Array, high: Array) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    scale, zero_point = (np.ascontiguousarray(each, np.float32) for each in storage.affine(low, high))
    return torch.from_numpy(scale), torch.from_numpy(zero_point)


class _RoundingErrors:
    """Weighted squared errors of the nearest representable values, for each group.

    The search computes them many times.  The groups are therefore the last axis, so that all operations run on
    contiguous vectors, and blocks of groups stay in the cache.

    Args:
        values, weights: the values and the factors of their squared errors, [channels, groups, width].
    """

    def __init__(self, values: torch.Tensor, weights: torch.Tensor, limits: tuple[int, int]):
        import torch

        count = max(1, BLOCK // max(1, values.shape[2]))
        values, weights = (each.flatten(0, 1) for each in (values, weights))
        self._blocks = [
            (value.T.contiguous(), weight.T.contiguous())
            for value, weight in zip(torch.split(values, count), torch.split(weights, count))
        ]
        self._count = count
        self._limits = limits

    def of(self, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
        """Errors of shape [channels, groups], for scales and zero points of this shape."""
        import torch

        low, high = (limit - zero_point.flatten() for limit in self._limits)
        ends = (torch.split(each, self._count) for each in (scale.flatten(), low, high))
        errors = []
        for (values, weights), step, least, most in zip(self._blocks, *ends):
            error = torch.div(values, step).round_().clamp_(least, most).mul_(step).sub_(values)
            errors.append(error.square_().mul_(weights).sum(0))
        return torch.cat(errors).reshape(scale.shape)
