"""Modules with weights that are stored in another format, and decoded to f32.

The runtime modules of int8 and packed layers import this file; the copies of their
code in or beside programs contain it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.keeping import Keeping

__all__ = ["EncodedWeights"]


class EncodedWeights(Keeping):
    """A module with weights that are stored as f16, bf16 or f8, or as packed integers.

    The subclass `PackedWeights` decodes packed integers.
    """

    cached = True  # if False, weights are decoded in each call

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._axes: dict[str, int] = {}

    def add_narrow(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        axis: int | None = None,
    ) -> None:
        """Add a weight of f16, bf16 or f8; with `axis`, its slices have scales."""
        self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        if axis is not None:
            self.register_buffer(f"{name}_scale", torch.ones(shape[axis]))
            self._axes[name] = axis

    def floats(self, name: str) -> Tensor:
        """The decoded weight."""
        if not self.cached:
            return self.decode_weight(name)
        return self.kept(name, lambda: self.decode_weight(name))

    def decode_weight(self, name: str) -> Tensor:
        """Decode a weight."""
        values = self._buffers[name].float()
        axis = self._axes.get(name)
        if axis is None:
            return values
        sizes = [-1 if other == axis else 1 for other in range(values.ndim)]
        return values * self._buffers[f"{name}_scale"].view(sizes)

    def floats_at(self, name: str, rows: Tensor) -> Tensor:
        """Rows of a decoded weight; the other rows are not decoded."""
        if name in self._axes:
            return F.embedding(rows, self.floats(name))
        return F.embedding(rows, self._buffers[name]).float()
