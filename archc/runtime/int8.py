"""Layers that compute in int8, and the quantization of their operands.

A kernel of torch multiplies the integers if it is exact and faster than floating
point.  Otherwise the integers are multiplied in floating point.  A program that
`torch.export` or `torch.jit.trace` records always multiplies in floating point, since
it may run on another CPU.  A program of `torch.compile` multiplies integers if there is
a scale for each token; for other scales, the kernels need Python numbers.

archc writes this file beside programs with int8 layers, as `archc_int8.py`.
"""

import math
from collections.abc import Callable
from ctypes import c_float
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archc.runtime.keeping import Keeping, in_dynamo, recorded

__all__ = [
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
                self.held = self.signed().bitwise_xor_(-128).view(torch.uint8)
        return self.held

    def signed(self) -> Tensor:
        """The bytes q - 128."""
        if self.held.dtype == torch.uint8:
            return self.held.view(torch.int8).bitwise_xor(-128)
        # Adding a Python number takes twice as long as adding a tensor.
        return self.steps().add(ONE, alpha=self.scale.zero_point - 128).char()

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
        """Return whether integer kernels accept the scale."""
        return not isinstance(self.scale.size, Tensor)

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

    def signed(self) -> Tensor:
        """The steps as int8."""
        return self.held.char()

    def steps(self) -> Tensor:
        """The steps in floating point."""
        return self.held.to(self.scale.size.dtype)

    def fits(self) -> bool:
        """Return whether the program runs on this CPU or GPU."""
        if in_dynamo():
            return self.held.is_cpu and not torch.compiler.is_exporting()
        return not recorded()

    # if: stages
    def to(self, device: torch.device) -> "QuantizedTokens":
        """Move the steps and scales to a device."""
        size = self.scale.size.to(device)
        scale = Scale(size, self.scale.zero_point, fixed=False)
        return QuantizedTokens(self.signed().to(device), scale)


ONE = torch.ones((), device="cpu")


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
    low, high = torch.aminmax(F.pad(x.flatten(), (0, 1)))  # the range contains zero
    scale = ((high - low) / 255).clamp(min=1e-30)
    zero_point = (-low / scale).round().clamp(max=255)
    return scale, torch.where(scale.isfinite(), zero_point, 0.0)


class Int8Weight(Keeping):
    """Base of layers whose weight is stored as int8 with a scale."""

    if TYPE_CHECKING:
        weight: Tensor
        weight_scale: Tensor

    axis = 0  # axis of the weight along which scales differ

    def decoded(self) -> Tensor:
        """The cached weight in floating point."""
        return self.kept("decoded", self.decode)

    def decode(self) -> Tensor:
        """Compute the weight in floating point."""
        shape = [1] * self.weight.dim()
        shape[self.axis] = -1
        return self.weight * self.weight_scale.view(shape)


class DecodedWeight(Int8Weight):
    """Base of layers of `torch.nn` that store the weight as int8 and compute in floats.

    The next base of such a class is the layer of `torch.nn`, which gets the arguments.
    The scales differ along `axis` of the weight; None for a single scale.
    """

    def __init__(self, *args: Any, axis: int | None = 0, **options: Any):
        super().__init__(*args, **options)
        shape = self.weight.shape
        del self.weight
        scales = () if axis is None else (shape[axis],)
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(scales))
        self.axis = axis or 0


class Int8WeightLinear(DecodedWeight, nn.Linear):
    """`nn.Linear` with an int8 weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.decoded(), self.bias)


class Int8WeightEmbedding(DecodedWeight, nn.Embedding):
    """`nn.Embedding` with an int8 weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.decoded())


class DecodedConv(DecodedWeight):
    """Base of convolutions with an int8 weight."""

    if TYPE_CHECKING:
        bias: Tensor | None
        _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.decoded(), self.bias)


class Int8WeightConv1d(DecodedConv, nn.Conv1d):
    """`nn.Conv1d` with an int8 weight."""


class Int8WeightConv2d(DecodedConv, nn.Conv2d):
    """`nn.Conv2d` with an int8 weight."""


class Int8WeightConv3d(DecodedConv, nn.Conv3d):
    """`nn.Conv3d` with an int8 weight."""


class DecodedConvTranspose(DecodedWeight):
    """Base of transposed convolutions with an int8 weight."""

    function: Callable[..., Tensor]  # the transposed convolution of `F`

    def forward(self, x: Tensor) -> Tensor:
        names = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
        options = {name: getattr(self, name) for name in names}
        return type(self).function(x, self.decoded(), **options)


class Int8WeightConvTranspose1d(DecodedConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """`nn.ConvTranspose1d` with an int8 weight."""

    function = F.conv_transpose1d


class Int8WeightConvTranspose2d(DecodedConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """`nn.ConvTranspose2d` with an int8 weight."""

    function = F.conv_transpose2d


class Int8WeightConvTranspose3d(DecodedConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """`nn.ConvTranspose3d` with an int8 weight."""

    function = F.conv_transpose3d


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
        if held.is_cpu and MKLDNN and held.numel() * self.work > self.many * columns:
            packed = self.kept("packed", self.pack)
            terms = (*packed, self.shift(x.scale), *ending(unit, rounded, relu), "")
            qlinear = torch.ops.onednn.qlinear_pointwise
            return qlinear(x.integers(), x.scale.size, 0, *terms)
        weight, factor, rows, bias = self.kept(("sums", unit), lambda: self.sums(unit))
        y = product_of_bytes(x.signed(), weight)
        y.add_(rows, alpha=128 - x.scale.zero_point)  # weight @ (q - zero_point)
        return torch.addcmul(bias, y, factor, value=x.scale.size / unit.size)

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
