"""Widths of layers that kernels compute without idle vector lanes."""

from __future__ import annotations

VECTOR = 16
"""Number of f32 lanes in a vector of 512 bits, and of channels in a block of a convolution.

With such vectors, ONNX Runtime computes convolutions in blocks of 16 channels.  It takes a slower algorithm if the
operand has more channels than a block, but no whole number of blocks (measured by `benchmarks.pruned_widths` and
`benchmarks.digits`).
"""
HALF = 8
"""Width allowed below `VECTOR`: the lanes of a 256-bit vector."""


def is_aligned(width: int, multiple: int | None) -> bool:
    """Return whether a layer may be narrowed to this width.

    Args:
        multiple: the width is a multiple of this number; None for the default, which is 8 or a multiple of 16.
    """
    if multiple is None:
        return width % VECTOR == 0 or width == HALF
    return width % multiple == 0
