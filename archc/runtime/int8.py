"""Layers that compute in int8, and the quantization of their operands.

A kernel of torch multiplies the integers if it is exact and faster than floating
point.  Otherwise the integers are multiplied in floating point.  A program that
`torch.export` or `torch.jit.trace` records always multiplies in floating point, since
it may run on another CPU.  A program of `torch.compile` multiplies the integers of
linear layers on a CPU, with `_int_mm`: oneDNN's kernels need scales as Python numbers,
and a program cannot keep a packed weight.

archc writes this file beside programs with int8 layers, as `archc_int8.py`.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime.encoded import EncodedWeights
from archc.runtime.keeping import Keeping, in_dynamo
from archc.runtime.quantized import (
    OnGrid,
    Quantize,
    Quantized,
    QuantizedTokens,
    Scale,
    pooled,
    quantize,
    quantize_tokens,
)
from archc.runtime.weight_only import (
    Int8Weight,
    Int8WeightConv1d,
    Int8WeightConv2d,
    Int8WeightConv3d,
    Int8WeightConvTranspose1d,
    Int8WeightConvTranspose2d,
    Int8WeightConvTranspose3d,
    Int8WeightEmbedding,
    Int8WeightLinear,
)

__all__ = [
    "EncodedWeights",
    "Int8Conv2d",
    "Int8Linear",
    "Int8Weight",
    "Int8WeightConv1d",
    "Int8WeightConv2d",
    "Int8WeightConv3d",
    "Int8WeightConvTranspose1d",
    "Int8WeightConvTranspose2d",
    "Int8WeightConvTranspose3d",
    "Int8WeightEmbedding",
    "Int8WeightLinear",
    "Keeping",
    "OnGrid",
    "Quantize",
    "Quantized",
    "QuantizedTokens",
    "pooled",
    "quantize",
    "quantize_tokens",
]


class Int8Layer(Int8Weight):
    """A layer that multiplies integers.

    With `to`, the layer also quantizes its result, optionally after a `relu`.  Integer
    kernels have a high call overhead.  A layer with less work than `least`, or without
    an exact kernel, multiplies the integers in floating point.  Integer kernels
    and floating point cache different forms of the weight; the floating-point form
    takes four times the bytes.
    """

    if TYPE_CHECKING:
        bias: Tensor | None
        work: float

        def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            """The layer in floating point."""

        def in_integers(
            self, x: Quantized, unit: Scale, rounded: bool, relu: bool
        ) -> Any:
            """The result in units of `unit` from an integer kernel; quantized if `rounded`."""

    least: float  # minimum MACs for an integer kernel, measured on one core
    fewest = 1  # `pays` assumes at least this number of elements in an operand

    def __init__(self, *shape: int, bias: bool, per_channel: bool):
        super().__init__()
        scales = shape[:1] if per_channel else ()
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(scales))
        if bias:
            self.register_buffer("bias", torch.zeros(shape[0]))
        else:
            self.bias = None

    def forward(
        self, x: Quantized, to: Quantize | None = None, relu: bool = False
    ) -> Any:
        """The result as a tensor; with `to`, quantized."""
        unit = ONES if to is None else to.grid()
        if self.pays(x):
            y = self.in_integers(x, unit, to is not None, relu)
        else:
            y = self.in_floats(x, unit)
        return y if to is None else Quantized(y, unit, relu)

    def pays(self, x: Quantized) -> bool:
        """Return whether an integer kernel is exact and faster for this operand."""
        if not x.fits() or x.held.is_cpu and not EXACT:
            return False
        if self._buffers["weight_scale"].dtype is not torch.float32:
            return False  # the kernels have scales of 32 bits
        return max(x.held.numel(), self.fewest) * self.work >= self.least

    def in_floats(self, x: Quantized, unit: Scale) -> Tensor:
        """The result in units of `unit`, computed in floating point."""
        numbers, scale = (x.steps(), x.scale) if x.scale.fixed else (x.decoded(), ONES)
        terms = self.kept((scale, unit), lambda: self.terms(scale, unit))
        return self.product(numbers, *terms)

    def terms(self, scale: Scale, unit: Scale) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in floats, for steps of `scale` and results in `unit`."""
        bias = None if self.bias is None else self.bias / unit.size
        return self.decode() * (scale.size / unit.size), bias

    def rows(self) -> Tensor:
        """The sum of each row of the weight's integers."""
        return self.weight.flatten(1).sum(1, dtype=torch.int32)

    def shift(self, scale: Scale) -> Tensor:
        """The result for bytes q that are all zero."""

        def make() -> Tensor:
            zero = -scale.size * scale.zero_point
            shift = self.kept("rows", self.rows) * self.weight_scale * zero
            return shift if self.bias is None else shift.add_(self.bias)

        return self.kept(("shift", scale), make) if scale.fixed else make()

    def scales(self) -> tuple[Tensor, Tensor]:
        """The scale and the zero point of each row, as oneDNN takes them."""
        rows = len(self.weight)
        zeros = torch.zeros(rows, dtype=torch.int64)
        return self.weight_scale.expand(rows).contiguous(), zeros


ONES = Scale(1.0, 0, fixed=True)
MKLDNN = torch.backends.mkldnn.is_available()


def adds_exactly() -> bool:
    """Return whether the CPU's int8 kernels add products without saturation.

    CPUs without VNNI add pairs of products in 16 bits, and the sums saturate.
    """
    most = torch.full((64, 64), 127, dtype=torch.int8, device="cpu")
    exact = (torch._int_mm(most, most.t()) == 64 * 127**2).all()
    if MKLDNN:  # oneDNN's kernels may saturate even if `_int_mm` does not
        packed = torch.ops.onednn.qlinear_prepack(most, None)
        ones = torch.ones(64, device="cpu")
        zeros = torch.zeros(64, dtype=torch.int64, device="cpu")
        end = (None, 1.0, 0, torch.float32, "none", [], "")  # type: ignore[var-annotated]
        qlinear = torch.ops.onednn.qlinear_pointwise
        for q in (most, torch.full((64, 64), 255, dtype=torch.uint8, device="cpu")):
            sums = qlinear(q, 1.0, 0, packed, ones, zeros, *end)
            exact &= (sums == 64 * 127 * int(q[0, 0])).all()
    return bool(exact)


EXACT = adds_exactly()


def ending(unit: Scale, rounded: bool, relu: bool) -> tuple:
    """The epilogue arguments of oneDNN's operators."""
    kind, end = torch.uint8 if rounded else torch.float32, "relu" if relu else "none"
    return unit.size, unit.zero_point, kind, end, []


def product_of_bytes(q: Tensor, weight: Tensor) -> Tensor:
    """The int32 product q @ weight.T, for an operand q of any rank."""
    if q.dim() != 2:
        y = product_of_bytes(q.reshape(-1, q.shape[-1]), weight)
        return y.view(*q.shape[:-1], len(weight))
    rows = len(q)
    if in_dynamo():  # the program may run with any number of rows
        return torch._int_mm(q, weight.t())
    if q.is_cuda and rows < 17:  # cuBLAS needs more than 16 rows
        return torch._int_mm(F.pad(q, (0, 0, 0, 17 - rows)), weight.t())[:rows]
    if q.is_cuda or rows > 8:
        return torch._int_mm(q, weight.t())
    # `weight @ q.T` takes half the time of `q @ weight.T` if q has few rows.
    return torch._int_mm(weight, q.t()).t().contiguous()


class Int8Linear(Int8Layer):
    """A linear layer on quantized operands."""

    if TYPE_CHECKING:
        work: int

    least = 600_000
    many = 32_000  # number of results above which oneDNN is faster than `_int_mm`

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        per_channel: bool = True,
    ):
        super().__init__(out_features, in_features, bias=bias, per_channel=per_channel)
        self.work = out_features  # MACs for each element of the operand
        # Reading the weight takes as long as multiplying six rows of an operand.
        self.fewest = 6 * in_features

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def in_integers(self, x: Quantized, unit: Scale, rounded: bool, relu: bool) -> Any:
        held, columns = x.held, x.held.shape[-1]
        fits = held.is_cuda and not (self.work % 8 or columns % 8)
        if not (fits or held.is_cpu):
            return self.in_floats(x, unit)
        if isinstance(x, QuantizedTokens):
            return self.of_tokens(x, unit)
        if in_dynamo():
            return self.in_graph(x, unit)
        if held.is_cpu and MKLDNN and held.numel() * self.work > self.many * columns:
            packed = self.kept("packed", self.pack)
            terms = (*packed, self.shift(x.scale), *ending(unit, rounded, relu), "")
            qlinear = torch.ops.onednn.qlinear_pointwise
            return qlinear(x.integers(), x.scale.size, 0, *terms)
        weight, factor, rows, bias = self.kept(("sums", unit), lambda: self.sums(unit))
        y = product_of_bytes(x.signed(), weight)
        y.add_(rows, alpha=128 - x.scale.zero_point)  # weight @ (q - zero_point)
        return torch.addcmul(bias, y, factor, value=x.scale.size / unit.size)

    def in_graph(self, x: Quantized, unit: Scale) -> Tensor:
        """The result in units of `unit`, for scales that are tensors."""
        # The row of ones gives the sums of the rows of the weight.  A program caches
        # nothing, and summing takes longer than the product of a short sequence.
        y = product_of_bytes(x.rows_and_ones(), self.weight)
        y = y[:-1] + y[-1:] * (128 - x.scale.zero_point).int()
        y = y.view(*x.held.shape[:-1], len(self.weight))
        size, bias = x.scale.size, self.bias
        if unit is not ONES:
            size = size / unit.size
            bias = None if bias is None else bias / unit.size
        y = y * (self.weight_scale * size)
        return y if bias is None else y + bias

    def of_tokens(self, x: QuantizedTokens, unit: Scale) -> Tensor:
        """The result in units of `unit`, for an operand with a scale for each token."""
        q, size = x.signed(), x.scale.size
        if unit is not ONES:
            size = size / unit.size
        results = q.numel() // q.shape[-1] * self.work
        if q.is_cpu and MKLDNN and not in_dynamo() and results > self.many:
            packed = self.kept("packed", self.pack)
            end = (None, 1.0, 0, torch.float32, "none", [], "")  # type: ignore[var-annotated]
            y = torch.ops.onednn.qlinear_pointwise(q, 1.0, 0, *packed, *end)
        else:
            y = product_of_bytes(q, self.weight) * self.weight_scale
        if self.bias is None:
            return y * size
        bias = self.bias if unit is ONES else self.bias / unit.size
        return torch.addcmul(bias, y, size)

    def sums(self, unit: Scale) -> tuple[Tensor, ...]:
        """Weight, its scale, the sums of its rows, and the bias divided by `unit`."""
        bias = torch.zeros(()) if self.bias is None else self.bias / unit.size
        return self.weight, self.weight_scale, self.rows(), bias.to(self.weight.device)

    def pack(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weight in oneDNN's layout, its scales and zero points."""
        return torch.ops.onednn.qlinear_prepack(self.weight, None), *self.scales()


class Int8Conv2d(Int8Layer):
    """A convolution on quantized operands."""

    least = 4_000_000

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        per_channel: bool = True,
    ):
        kernel, self.stride, self.padding, self.dilation = (
            [size, size] if isinstance(size, int) else list(size)
            for size in (kernel_size, stride, padding, dilation)
        )
        shape = (out_channels, in_channels // groups, *kernel)
        super().__init__(*shape, bias=bias, per_channel=per_channel)
        self.groups = groups
        results = out_channels / in_channels / math.prod(self.stride)
        # MACs for each operand element; the overhead of a result counts as 32 MACs.
        self.work = results * (math.prod(shape[1:]) + 32)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        steps = (self.stride, self.padding, self.dilation, self.groups)
        return F.conv2d(x, weight, bias, *steps)

    def in_integers(self, x: Quantized, unit: Scale, rounded: bool, relu: bool) -> Any:
        if not (x.held.is_cpu and MKLDNN) or isinstance(x, QuantizedTokens):
            return self.in_floats(x, unit)
        if in_dynamo():  # PyTorch 2.13 cannot record `qconv_prepack`
            return self.in_floats(x, unit)
        q, padding = x.integers(), self.padding
        if x.scale.zero_point and any(padding):
            # The kernel pads with q = 0, but x = 0 is q = zero_point.  With the zero
            # point as argument, the kernel would convert the weight in each call.
            (h, w), padding = padding, [0, 0]
            q = F.pad(q, (w, w, h, h), value=x.scale.zero_point)
        steps = (self.stride, padding, self.dilation, self.groups)
        form = ("packed", *padding)
        packed = self.kept(form, lambda: self.pack(steps, list(q.shape)))
        terms = (*packed, self.shift(x.scale), *steps, *ending(unit, rounded, relu))
        qconv = torch.ops.onednn.qconv_pointwise
        return qconv(q, x.scale.size, 0, *terms, None)

    def pack(self, steps: tuple, shape: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Weight in oneDNN's layout for images of `shape`; scales and zero points."""
        # Without `shape`, each call may have to convert the weight to another layout.
        scales, zeros = self.scales()
        pack = torch.ops.onednn.qconv_prepack
        return pack(self.weight, scales, 1.0, 0, *steps, shape), scales, zeros
