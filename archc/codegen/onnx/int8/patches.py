"""A convolution and a max pool as one matrix product of im2col patches: sizes, indices and weights.

The module `stems` adds the ONNX nodes.

The positions in the window of a pool are its *phases*: a pool of 2×2 has four, such as the top left position.  The
convolution is split into one convolution for each phase.  The convolution of the top left phase computes only the
results at the top left of the windows: its stride is the original stride times the size of the window.  The pool is
the maximum over the phases.  The convolutions of all phases use the same patches of the image, with the kernel at
different offsets.  For a pool of 2×2 and a convolution of stride 1:

    y[i, j] = max over p, q < 2 of Σ w[k, l] · x[2i + p + k, 2j + q + l]
            = max over p, q of Σ w'[p, q][k, l] · x[2i + k, 2j + l],  w'[p, q][k, l] = w[k - p, l - q]

So the patches are gathered once, and one product multiplies them by the weights of all phases.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from archc.frozen_dataclass import frozen_dataclass

Array = np.ndarray[Any, Any]


@frozen_dataclass
class Along:
    """Convolution and pool along one axis.

    Args:
        extent: the size of the image, without padding.
        before, after: the padding.
        kernel, stride: the kernel size and the stride of the convolution.
        pool: the window of the pool, equal to its stride.
    """

    extent: int
    before: int
    after: int
    kernel: int
    stride: int
    pool: int

    @property
    def count(self) -> int:
        """Number of results of the pool, from full windows only."""
        places = (self.extent + self.before + self.after - self.kernel) // self.stride + 1
        return max(0, places // self.pool)

    @property
    def step(self) -> int:
        """Distance between the starts of two adjacent patches."""
        return self.stride * self.pool

    @property
    def size(self) -> int:
        """Size of a patch along this axis."""
        return self.stride * (self.pool - 1) + self.kernel


@frozen_dataclass
class Patches:
    """The patches of an image [N, C, H, W], and the weights of all phases.

    Args:
        channels: number of channels of the image.
        rows, columns: convolution and pool along H and W.
        multiple: the number of elements of a patch is a multiple of this number.  For this purpose, a patch can get
            additional columns, with zero weights.
    """

    channels: int
    rows: Along
    columns: Along
    multiple: int

    @property
    def count(self) -> int:
        """Number of patches of an image."""
        return self.rows.count * self.columns.count

    @property
    def phases(self) -> int:
        """Number of phases: the positions in the window of the pool."""
        return self.rows.pool * self.columns.pool

    @property
    def height(self) -> int:
        """Number of rows of a patch."""
        return self.rows.size

    @cached_property
    def width(self) -> int:
        """Number of columns of a patch."""
        of_a_column = self.channels * self.height
        each = self.multiple // math.gcd(of_a_column, self.multiple)
        return -(-self.columns.size // each) * each

    @property
    def size(self) -> int:
        """Number of elements of a patch."""
        return self.channels * self.height * self.width

    @cached_property
    def block(self) -> int:
        """Number of columns that are copied at once; every patch begins and ends at a multiple of this number."""
        return math.gcd(self.columns.step, self.width)

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Numbers of zeros before and after, for rows and columns; the padded image contains every patch."""
        rows, columns = self.rows, self.columns
        height, width = rows.before + rows.extent, columns.before + columns.extent
        below = max(0, (rows.count - 1) * rows.step + self.height - height)
        wide = max(width, (columns.count - 1) * columns.step + self.width)
        return (rows.before, below), (columns.before, -(-wide // self.block) * self.block - width)

    @property
    def blocks(self) -> int:
        """Number of blocks of columns in a row of the padded image."""
        _, (left, right) = self.padding
        return (left + self.columns.extent + right) // self.block

    @property
    def row_indices(self) -> Array:
        """The rows of each patch: [patches along H, rows of a patch]."""
        return np.arange(self.rows.count)[:, None] * self.rows.step + np.arange(self.height)

    @property
    def block_indices(self) -> Array:
        """The blocks of columns of each patch: [patches along W, blocks of a patch]."""
        first = np.arange(self.columns.count)[:, None] * (self.columns.step // self.block)
        return first + np.arange(self.width // self.block)

    def weights(self, kernel: Array) -> Array:
        """The weights of all phases: from a convolution's [O, C, h, w] to [phases · O, size of a patch].

        The elements of a patch are ordered by block, then by channel, row, and column within the block.
        """
        out, _, height, width = kernel.shape
        found = np.zeros((self.rows.pool, self.columns.pool, out, self.channels, self.height, self.width), kernel.dtype)
        for p in range(self.rows.pool):
            for q in range(self.columns.pool):
                top, left = p * self.rows.stride, q * self.columns.stride
                found[p, q, :, :, top : top + height, left : left + width] = kernel
        blocks = found.reshape(-1, self.channels, self.height, self.width // self.block, self.block)
        return blocks.transpose(0, 3, 1, 2, 4).reshape(self.phases * out, self.size)
