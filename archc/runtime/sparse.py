"""Modules with weights that are stored as a bitmask and the elements that are not masked.

A layer caches its decoded weights until a stored tensor changes.

archc writes this file beside programs with such layers, as `archc_sparse.py`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.packed import PackedWeights

__all__ = ["SparseWeights"]


class SparseWeights(PackedWeights):
    """A module with sparse weights, and possibly with other encoded weights."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add_sparse(
        self,
        name: str,
        shape: tuple[int, ...],
        count: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Add a weight of `count` elements and a mask with a bit for each element."""
        self.register_buffer(name, torch.zeros(count, dtype=dtype))
        mask = torch.zeros(-(-math.prod(shape) // 8), dtype=torch.uint8)
        self.register_buffer(f"{name}_mask", mask)
        self._shapes[name] = tuple(shape)

    def decode_weight(self, name: str) -> Tensor:
        shape = self._shapes.get(name)
        if shape is None:
            return super().decode_weight(name)
        values = self._buffers[name]
        bits = torch.arange(8, dtype=torch.uint8, device=values.device)
        mask = (self._buffers[f"{name}_mask"][:, None] >> bits) & 1
        mask = mask.flatten()[: math.prod(shape)].view(shape).bool()
        return values.new_zeros(shape).masked_scatter(mask, values)

    def floats_at(self, name: str, rows: Tensor) -> Tensor:
        if name in self._shapes:
            return F.embedding(rows, self.floats(name))
        return super().floats_at(name, rows)
