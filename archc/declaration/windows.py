"""Sliding windows over spatial axes: the arithmetic that convolutions and pooling share."""

from __future__ import annotations

from typing import Any

from archc.declaration.base import Operator, OperatorError
from archc.declaration.checks import bad_attribute
from archc.types.dims import floor_divide
from archc.types.extent_solver import Extent

SpatialSizes = int | tuple[int, ...]
"""One number for all spatial axes, or one for each."""

LARGEST_SIZE = 2**31 - 1  # some kernels of PyTorch and ONNX Runtime have 32-bit sizes


def per_axis(sizes: SpatialSizes, rank: int) -> tuple[int, ...]:
    """The numbers for `rank` spatial axes, one for each axis."""
    return (sizes,) * rank if isinstance(sizes, int) else sizes


def check_sizes(op: Operator, rank: int, least: int, *names: str) -> None:
    """Check that the named attributes have a number of at least `least` for each spatial axis.

    Raises:
        OperatorError: a number is too small or too large, or the count is wrong (`bad-attribute`).
    """
    for name in names:
        sizes: SpatialSizes | None = getattr(op, name)
        if sizes is None:
            continue
        if isinstance(sizes, tuple) and len(sizes) != rank:
            count = "one number" if rank == 1 else f"one number, or {rank} of them"
            raise bad_attribute(op, name, count)
        given = per_axis(sizes, rank)
        if not all(least <= size <= LARGEST_SIZE for size in given):
            too_small = least == 1 and min(given) < 1
            raise bad_attribute(op, name, "positive" if too_small else f"from {least} to {LARGEST_SIZE}")


def window_span(kernel: int, dilation: int) -> int:
    """Extent of a window with kernel size k and dilation d: d(k - 1) + 1."""
    return dilation * (kernel - 1) + 1


def window_count(extent: Extent, span: int, stride: int, padding: int) -> Extent:
    """Number of windows: ⌊(L + P - span) / s⌋ + 1, for extent L, stride s and total padding P."""
    return floor_divide(extent + padding - span, stride) + 1


def end_padding(span: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Padding after an axis such that `window_count` agrees with PyTorch.

    Let L be the extent, p the padding before the axis, and s the stride.  In `ceil_mode`, PyTorch takes
    ⌈(L + 2p - span) / s⌉ + 1 windows, but at most ⌈(L + p) / s⌉ windows: it drops a last window that starts at or
    beyond L + p.  Because ⌈a / s⌉ = ⌊(a + s - 1) / s⌋, `window_count` is

    - ⌈(L + 2p - span) / s⌉ + 1 for a padding of p + s - 1 after the axis;
    - ⌈(L + p) / s⌉ for a padding of span - 1 after the axis.

    Args:
        padding: the padding before the axis.
    """
    return min(padding + stride, span) - 1 if ceil_mode else padding


def check_window(op: Operator, count: Extent, extent: Extent, span: int, padding: int, axis: str) -> None:
    """Check that at least one window fits into an axis.

    Raises:
        OperatorError: the axis is smaller than the window (`shape-mismatch`).
    """
    if isinstance(count, int) and count < 1:
        padded = f" and a padding of {padding}" if padding else ""
        raise OperatorError(
            "shape-mismatch",
            f"`{op.name}` expects at least {span} elements along `{axis}`, got {extent}{padded}",
            operand=0,
            attribute="kernel_size",
            help="use a smaller `kernel_size`, or more `padding`",
        )


def onnx_window(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[tuple[int, ...], tuple[int, ...]],
    dilations: tuple[int, ...],
    groups: int = 1,
) -> dict[str, Any]:
    """ONNX attributes of a sliding window; an attribute that has its default on all axes is omitted.

    Args:
        pads: the padding before and after each axis; ONNX lists the starts of all axes, then the ends.
    """
    options: dict[str, Any] = {"kernel_shape": list(kernel)}
    if any(stride != 1 for stride in strides):
        options["strides"] = list(strides)
    if any(pads[0]) or any(pads[1]):
        options["pads"] = [*pads[0], *pads[1]]
    if any(dilation != 1 for dilation in dilations):
        options["dilations"] = list(dilations)
    if groups != 1:
        options["group"] = groups
    return options
