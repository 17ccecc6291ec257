"""Modules with weights that are stored in another format, and decoded to f32.

The runtime modules of int8 and packed layers import this file; the copies of their
code in or beside programs contain it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.keeping import Keeping

__all__ = ["EncodedWeights"]


class EncodedWeights(Keeping):
    """A module with weights that are stored as f16 or bf16, or as packed integers.

    The subclass `PackedWeights` decodes packed integers.
    """

    cached = True  # if False, weights are decoded in each call

    def add_narrow(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Add a weight of f16 or bf16."""
        self.register_buffer(name, torch.zeros(shape, dtype=dtype))

    def floats(self, name: str) -> Tensor:
        """The decoded weight."""
        if not self.cached:
            return self.decode_weight(name)
        return self.kept(name, lambda: self.decode_weight(name))

    def decode_weight(self, name: str) -> Tensor:
        """Decode a weight."""
        return self._buffers[name].float()

    def floats_at(self, name: str, rows: Tensor) -> Tensor:
        """Rows of a decoded weight; the other rows are not decoded."""
        return F.embedding(rows, self._buffers[name]).float()
