"""Quantized tensors, and the quantization of operands.

The runtime module `int8` imports this file, and its copies contain this code.
"""

import math
from ctypes import c_float
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.keeping import Keeping, in_dynamo, recorded

__all__ = [
    "OnGrid",
    "Quantize",
    "Quantized",
    "QuantizedTokens",
    "Scale",
    "pooled",
    "quantize",
    "quantize_tokens",
]


class Scale:
    """Scale and zero point of integers q in 0..255: x = size * (q - zero_point).

    Both are Python numbers, or tensors while torch records a program.

    `fixed` is True for a constant scale of the model.  A constant scale is the same
    object in all calls, so that it can be part of a cache key.
    """

    def __init__(self, size: Any, zero_point: Any, fixed: bool):
        self.size, self.zero_point = size, zero_point
        self.fixed = fixed


class Quantized:
    """A quantized tensor with its scale.

    `held` is either the bytes q or the steps q - zero_point in floating point.  Steps
    are neither rounded nor clamped before a layer reads them.
    """

    def __init__(self, held: Tensor, scale: Scale, relu: bool = False):
        self.held, self.scale = held, scale
        self.relu = relu  # if True, negative steps become zero
        self._signed: Tensor | None = None
        self._rows: Tensor | None = None

    def with_held(self, held: Tensor) -> "Quantized":
        """A tensor with the same scale, and with `held` as its bytes or steps."""
        return Quantized(held, self.scale, self.relu)

    def integers(self) -> Tensor:
        """The bytes q."""
        if self.held.dtype != torch.uint8:
            zero_point = self.scale.zero_point
            if isinstance(zero_point, Tensor):
                self.held = (self.steps() + zero_point).byte()
            else:  # PyTorch converts to int8 fast, but to uint8 slowly.
                self.held = self.new_signed().bitwise_xor_(-128).view(torch.uint8)
        return self.held

    def signed(self) -> Tensor:
        """The bytes q - 128, computed once for all layers that read them."""
        if self._signed is None:
            self._signed = self.new_signed()
        return self._signed

    def rows_and_ones(self) -> Tensor:
        """The bytes q - 128 as a matrix, with a last row of ones; computed once."""
        if self._rows is None:
            rows = self.new_signed().reshape(-1, self.held.shape[-1])
            self._rows = F.pad(rows, (0, 0, 0, 1), value=1)
        return self._rows

    def new_signed(self) -> Tensor:
        """The bytes q - 128, not cached."""
        if self.held.dtype == torch.uint8:
            return self.held.view(torch.int8).bitwise_xor(-128)
        lowest = self.scale.zero_point - 128
        if isinstance(lowest, Tensor):
            return (self.steps() + lowest).char()
        # Adding a Python number takes twice as long as adding a tensor.
        return self.steps().add(ONE, alpha=lowest).char()

    def steps(self) -> Tensor:
        """The steps q - zero_point in floating point."""
        zero_point = self.scale.zero_point
        if self.held.dtype == torch.uint8:
            return self.held.float().sub_(zero_point)
        low = zero_point * (self.relu - 1)  # zero after a `relu`
        return self.held.round_().clamp_(low, 255 - zero_point)

    def decoded(self) -> Tensor:
        """The numbers x in floating point."""
        return self.steps() * self.scale.size

    def fits(self) -> bool:
        """Return whether the program runs on this CPU or GPU."""
        return not isinstance(self.scale.size, Tensor) or compiled(self.held)

    def flatten(self, *axes: int) -> "Quantized":
        """Flatten axes, as `Tensor.flatten` does."""
        return self.with_held(self.held.flatten(*axes))

    # if: stages
    @property
    def device(self) -> torch.device:
        """The device of the integers."""
        return self.held.device

    # if: stages
    def to(self, device: torch.device) -> "Quantized":
        """Move the bytes to a device."""
        return self.with_held(self.integers().to(device))


class QuantizedTokens(Quantized):
    """A tensor quantized with a scale for each position of all axes but the last.

    `held` has the steps as int8 or as rounded numbers in floating point.
    """

    def new_signed(self) -> Tensor:
        """The steps as int8."""
        return self.held.char()

    def steps(self) -> Tensor:
        """The steps in floating point."""
        return self.held.to(self.scale.size.dtype)

    def fits(self) -> bool:
        """Return whether the program runs on this CPU or GPU."""
        return not recorded() or compiled(self.held)

    # if: stages
    def to(self, device: torch.device) -> "QuantizedTokens":
        """Move the steps and scales to a device."""
        size = self.scale.size.to(device)
        scale = Scale(size, self.scale.zero_point, fixed=False)
        return QuantizedTokens(self.signed().to(device), scale)


ONE = torch.ones((), device="cpu")


def compiled(x: Tensor) -> bool:
    """Return whether `torch.compile` records a program for this CPU."""
    return in_dynamo() and x.is_cpu and not torch.compiler.is_exporting()


def pooled(
    x: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Any:
    """Max pooling of a tensor or of the integers of a quantized tensor."""
    numbers = x if isinstance(x, Tensor) else x.held
    stride = stride or kernel_size
    if numbers.dtype != torch.uint8:
        y = F.max_pool2d(numbers, kernel_size, stride, padding, dilation, ceil_mode)
        return y if numbers is x else x.with_held(y)
    window = [
        [size, size] if isinstance(size, int) else list(size)
        for size in (kernel_size, stride, padding, dilation)
    ]
    return x.with_held(torch.ops.quantized.max_pool2d(numbers, *window, ceil_mode))


class Grid(Keeping):
    """A constant scale and zero point."""

    if TYPE_CHECKING:
        scale: Tensor
        zero_point: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))

    def grid(self) -> Scale:
        """The cached scale, the same object in every call."""
        return self.kept("grid", self.read)

    def read(self) -> Scale:
        """The scale from the buffers."""
        if recorded():
            return Scale(self.scale, self.zero_point.float(), fixed=True)
        return Scale(float(self.scale), int(self.zero_point), fixed=True)


class OnGrid(Grid):
    """The scale of integers that another module quantized."""

    def forward(self, q: Tensor) -> Quantized:
        """The quantized tensor of bytes q."""
        return Quantized(q, self.grid())


class Quantize(Grid):
    """Quantization with a constant scale."""

    def forward(self, x: Tensor) -> Quantized:
        """q = round(x / scale) + zero_point, clamped to 0..255; ties round to even."""
        # Reading `self.scale` would take a microsecond, as long as the division.
        return Quantized(x / self._buffers["scale"], self.grid())


def quantize(x: Tensor) -> Quantized:
    """Quantize with a scale that spans the range of x and zero."""
    size, zero_point = recorded_range_of(x) if recorded() else range_of(x)
    return Quantized(x / size, Scale(size, zero_point, fixed=False))


def quantize_tokens(x: Tensor) -> QuantizedTokens:
    """Quantize with a symmetric range for each position of all axes but the last."""
    least = max(1e-30, torch.finfo(x.dtype).tiny)  # 1e-30 is zero in float16
    size = (x.abs().amax(-1, keepdim=True) / 127).clamp(min=least)
    return QuantizedTokens((x / size).round(), Scale(size, 0, fixed=False))


def range_of(x: Tensor) -> tuple[float, int]:
    """Scale and zero point that span the range of x and zero."""
    # Python numbers, since an operation on tensors takes as long as a small layer.
    low, high = (end.item() for end in torch.aminmax(x)) if x.numel() else (0.0, 0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    # Each result is rounded to float32, as ONNX Runtime computes it.
    scale = max(c_float(c_float(high - low).value / 255).value, 1e-30)
    known = math.isfinite(scale)
    return scale, min(round(c_float(-low / scale).value), 255) if known else 0


def recorded_range_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """The range of x as `range_of` computes it, in tensors."""
    # The padding is the zero that the range contains.
    if in_dynamo():
        # `torch.compile` fuses a reduction of the last axis with the computation of x.
        # Of a padded tensor, it would compute each element once for `low` and `high`.
        low = F.pad(x.amin(-1).flatten(), (0, 1)).amin()
        high = F.pad(x.amax(-1).flatten(), (0, 1)).amax()
    else:
        low, high = torch.aminmax(F.pad(x.flatten(), (0, 1)))
    scale = ((high - low) / 255).clamp(min=1e-30)
    zero_point = (-low / scale).round().clamp(max=255)
    return scale, torch.where(scale.isfinite(), zero_point, 0.0)
