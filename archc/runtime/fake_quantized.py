"""Layers with trainable weights that are rounded to integers in each call.

Quantization-aware training needs the error of quantized weights, and gradients.  Such a
layer computes with the values that its weight would have as integers, and trains the
weight in floats (fake quantization).  Scales follow from the weight in each call.

archc writes this file beside programs with such layers, as `archc_fake_quantized.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "FakeQuantizedConv1d",
    "FakeQuantizedConv2d",
    "FakeQuantizedConv3d",
    "FakeQuantizedConvTranspose1d",
    "FakeQuantizedConvTranspose2d",
    "FakeQuantizedConvTranspose3d",
    "FakeQuantizedEmbedding",
    "FakeQuantizedLinear",
    "fake_quantized",
]


def fake_quantized(
    weight: Tensor,
    bits: int,
    group: int | None = None,
    axis: int | None = 0,
    symmetric: bool = False,
    scale: torch.dtype = torch.float16,
) -> Tensor:
    """Round a weight to integers, with the gradient of the weight.

    Integers of 8 bits have one scale for each index of `axis`, or a single scale if
    `axis` is None.  Fewer bits have a scale, of dtype `scale`, and a zero point for
    each group of `group` consecutive elements of a channel; `axis` is that of the
    channels.
    """
    held = weight.detach()
    if bits == 8:
        rounded = rounded_to_int8(held, axis)
    else:
        channels = held.movedim(axis or 0, 0)
        rows = channels.reshape(len(channels), -1)
        rows = rounded_in_groups(rows, bits, group, symmetric, scale)
        rounded = rows.reshape(channels.shape).movedim(0, axis or 0)
    # The difference is zero: it has only a gradient (straight-through estimation).
    return rounded + (weight - held)


def rounded_to_int8(w: Tensor, axis: int | None) -> Tensor:
    """w = scale * q with q in -127..127, and scale = max|w| / 127."""
    others = [number for number in range(w.dim()) if number != axis]
    size = (w.abs().amax(others, keepdim=True) if others else w.abs()) / 127
    # The scale of a slice of zeros is arbitrary, but must not be zero.
    most = size.max()
    size = torch.where(size > 0, size, torch.where(most > 0, most, 1))
    return (w / size).round().clamp(-127, 127) * size


def rounded_in_groups(
    rows: Tensor, bits: int, group: int | None, symmetric: bool, scale: torch.dtype
) -> Tensor:
    """w = scale * (q - zero_point) with q in 0..2**bits - 1, for groups of each row."""
    columns = rows.shape[1]
    width = min(group or columns, columns)
    grouped = F.pad(rows, (0, -columns % width)).unflatten(1, (-1, width))
    low = grouped.amin(2, keepdim=True).clamp(max=0)
    high = grouped.amax(2, keepdim=True).clamp(min=0)
    last, middle = 2**bits - 1, 2 ** (bits - 1)
    if symmetric:
        size = torch.maximum(high / (last - middle), -low / middle)
    else:
        size = (high - low) / last
    info = torch.finfo(scale)
    kept = size.clamp(info.tiny * info.eps, info.max).to(scale).to(rows.dtype)
    size = torch.where(size > 0, kept, 1)
    zero_point = middle if symmetric else (-low / size).round().clamp(0, last)
    q = ((grouped / size).round() + zero_point).clamp(0, last)
    return ((q - zero_point) * size).flatten(1)[:, :columns]


class FakeQuantizedWeight(nn.Module):
    """Base of layers of `torch.nn` whose weight is rounded in each call.

    The layer of `torch.nn` gets the other arguments; see `fake_quantized` for the
    arguments of the format.
    """

    if TYPE_CHECKING:
        weight: Tensor

    def __init__(
        self,
        *args: Any,
        bits: int,
        group: int | None = None,
        axis: int | None = 0,
        symmetric: bool = False,
        scale: torch.dtype = torch.float16,
        **options: Any,
    ):
        super().__init__(*args, **options)
        self.format = (bits, group, axis, symmetric, scale)

    def rounded(self) -> Tensor:
        """The rounded weight."""
        return fake_quantized(self.weight, *self.format)


class FakeQuantizedLinear(FakeQuantizedWeight, nn.Linear):
    """`nn.Linear` with a weight that is rounded in each call."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.rounded(), self.bias)


class FakeQuantizedEmbedding(FakeQuantizedWeight, nn.Embedding):
    """`nn.Embedding` with a weight that is rounded in each call."""

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.rounded())


class FakeQuantizedConv(FakeQuantizedWeight):
    """Base of convolutions with a weight that is rounded in each call."""

    if TYPE_CHECKING:
        bias: Tensor | None
        _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.rounded(), self.bias)


class FakeQuantizedConv1d(FakeQuantizedConv, nn.Conv1d):
    """`nn.Conv1d` with a weight that is rounded in each call."""


class FakeQuantizedConv2d(FakeQuantizedConv, nn.Conv2d):
    """`nn.Conv2d` with a weight that is rounded in each call."""


class FakeQuantizedConv3d(FakeQuantizedConv, nn.Conv3d):
    """`nn.Conv3d` with a weight that is rounded in each call."""


class FakeQuantizedConvTranspose(FakeQuantizedWeight):
    """Base of transposed convolutions with a weight that is rounded in each call."""

    function: Callable[..., Tensor]  # the transposed convolution of `F`

    def forward(self, x: Tensor) -> Tensor:
        names = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
        options = {name: getattr(self, name) for name in names}
        return type(self).function(x, self.rounded(), **options)


class FakeQuantizedConvTranspose1d(FakeQuantizedConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """`nn.ConvTranspose1d` with a weight that is rounded in each call."""

    function = F.conv_transpose1d


class FakeQuantizedConvTranspose2d(FakeQuantizedConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """`nn.ConvTranspose2d` with a weight that is rounded in each call."""

    function = F.conv_transpose2d


class FakeQuantizedConvTranspose3d(FakeQuantizedConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """`nn.ConvTranspose3d` with a weight that is rounded in each call."""

    function = F.conv_transpose3d
