"""Quantization ranges of unsigned 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from archc.ops.quantize import LEAST_SCALE, Granularity

if TYPE_CHECKING:
    import torch

LARGEST = (2 - 2.0**-23) * 2.0**127
"""Largest float32."""
SMALLEST = 2.0**-126
"""Smallest normal float32; processors may flush smaller numbers to 0."""
LEVELS = 256
"""Number of unsigned 8-bit integers."""


class Rounding(Protocol):
    """Quantization of a tensor to unsigned 8-bit integers."""

    def rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize a tensor."""


@dataclass(frozen=True, slots=True)
class Range:
    """Quantization range of a value; it always contains 0, so that 0 has an exact integer."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        """Smallest range that contains both numbers and 0; an end is NaN if its number is NaN."""
        return cls(min(low, 0.0), max(high, 0.0))  # `min` and `max` return a NaN in the first argument

    @property
    def finite(self) -> bool:
        """Return whether both ends are finite in float32."""
        return max(abs(self.low), abs(self.high)) <= LARGEST  # False for a NaN

    @property
    def empty(self) -> bool:
        """Return whether only zeros were observed, so that there is no quantization range."""
        return self.low == self.high == 0

    def affine(self, levels: int = LEVELS) -> tuple[float, int]:
        """Scale and zero point of unsigned integers that cover the range: x ≈ scale · (q - zero_point).

        (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1.)
        """
        if self.empty:
            return 1.0, 0
        scale = max((self.high - self.low) / (levels - 1), SMALLEST)
        return scale, min(levels - 1, max(0, round(-self.low / scale)))

    def rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize a tensor."""
        scale, zero_point = self.affine()
        steps = (tensor / scale).round_().clamp_(-zero_point, LEVELS - 1 - zero_point)
        return steps.mul_(scale)


@dataclass(frozen=True, slots=True)
class DynamicRange:
    """Quantization range that follows from the data, as in a run with a single sample.

    Attributes:
        granularity: "tensor": a range for each sample, the first axis.  "token": a symmetric range for each position of
            all axes but the last.
    """

    granularity: Granularity

    def rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize a tensor."""
        if self.granularity == "token":
            scale = (tensor.abs().amax(-1, keepdim=True) / (LEVELS // 2 - 1)).clamp(min=LEAST_SCALE)
            return (tensor / scale).round_().mul_(scale)
        axes = tuple(range(1, tensor.ndim)) or (0,)
        low, high = tensor.amin(axes, keepdim=True).clamp(max=0), tensor.amax(axes, keepdim=True).clamp(min=0)
        scale = ((high - low) / (LEVELS - 1)).clamp(min=SMALLEST)
        zero_point = (-low / scale).round_()
        return (tensor / scale).round_().add_(zero_point).clamp_(0, LEVELS - 1).sub_(zero_point).mul_(scale)
