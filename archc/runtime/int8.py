"""Layers that compute in int8, and the quantization of their operands.

A kernel of torch multiplies the integers if it is exact and faster than floating
point.  Otherwise the integers are multiplied in floating point.

archc writes this file beside programs with int8 layers, as `archc_int8.py`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from ctypes import c_float
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Grid",
    "Int8Conv2d",
    "Int8Layer",
    "Int8Linear",
    "Int8Weight",
    "Keeping",
    "Line",
    "OnGrid",
    "Quantize",
    "Quantized",
    "Scale",
    "fixed_line",
    "pooled",
    "quantize",
    "ranged_line",
]


class Scale:
    """Scale and zero point of integers q in 0..255: x = size * (q - zero_point).

    `fixed` is True for a constant scale of the model.  A constant scale is the same
    object in all calls, so that it can be part of a cache key.
    """

    def __init__(self, size: float, zero_point: int, fixed: bool):
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
            # PyTorch converts to int8 fast, but to uint8 slowly.
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
        low = 0 if self.relu else -zero_point
        return self.held.round_().clamp_(low, 255 - zero_point)

    def decoded(self) -> Tensor:
        """The numbers x in floating point."""
        return self.steps() * self.scale.size

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


class Keeping(nn.Module):
    """A module that caches values computed from its buffers until a buffer changes."""

    if TYPE_CHECKING:
        _buffers: dict[str, Tensor]  # type: ignore[assignment]

    def __init__(self):
        super().__init__()
        self._forms: dict[Any, Any] = {}
        self._seen: list[tuple[str, Tensor, int | None]] = []

    def kept(self, form: Any, make: Callable[[], Any]) -> Any:
        """The cached value of key `form`, computed by `make` if it is missing."""
        buffers = self._buffers
        for name, buffer, version in self._seen:  # runs in every call of a layer
            now = buffers[name]
            if now is not buffer or version is not None and now._version != version:
                self._forms = {}
                break
        forms = self._forms
        if form not in forms:
            if not forms:
                self._seen = [(name, b, version_of(b)) for name, b in buffers.items()]
            with torch.inference_mode(False), torch.no_grad():
                forms[form] = make()
        return forms[form]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_forms": {}, "_seen": []}  # the cache is not copied


def version_of(buffer: Tensor) -> int | None:
    """The number of changes to a buffer; None for tensors made in inference mode."""
    return None if buffer.is_inference() else buffer._version


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
    size, zero_point = range_of(x)
    return Quantized(x / size, Scale(size, zero_point, fixed=False))


def range_of(x: Tensor) -> tuple[float, int]:
    """Scale and zero point that span the range of x and zero."""
    # Python numbers, since an operation on tensors takes as long as a small layer.
    low, high = (end.item() for end in torch.aminmax(x)) if x.numel() else (0.0, 0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    # Each result is rounded to float32, as ONNX Runtime computes it.
    scale = max(c_float(c_float(high - low).value / 255).value, 1e-30)
    known = math.isfinite(scale)
    return scale, min(round(c_float(-low / scale).value), 255) if known else 0


class Int8Weight(Keeping):
    """Base of layers whose weight is stored as int8 with a scale."""

    if TYPE_CHECKING:
        weight: Tensor
        weight_scale: Tensor

    axis = 0  # axis of the weight along which scales differ

    def decoded(self) -> Tensor:
        """The weight in floating point."""
        return self.kept("decoded", self.decode)

    def decode(self) -> Tensor:
        """Compute the weight in floating point."""
        shape = [1] * self.weight.dim()
        shape[self.axis] = -1
        return self.weight * self.weight_scale.view(shape)


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
        if self.pays(x.held):
            y = self.in_integers(x, unit, to is not None, relu)
        else:
            y = self.in_floats(x, unit)
        return y if to is None else Quantized(y, unit, relu)

    def pays(self, x: Tensor) -> bool:
        """Return whether an integer kernel is exact and faster for this operand."""
        units = max(x.numel(), self.fewest) * self.work
        return units >= self.least and (EXACT or not x.is_cpu)

    def in_floats(self, x: Quantized, unit: Scale) -> Tensor:
        """The result in units of `unit`, computed in floating point."""
        numbers, scale = (x.steps(), x.scale) if x.scale.fixed else (x.decoded(), ONES)
        return self.product(numbers, *self.terms(scale, unit))

    def terms(self, scale: Scale, unit: Scale) -> tuple[Tensor, Tensor | None]:
        """The cached weight and bias for operands in `scale` and results in `unit`."""
        form = ("floats", scale, unit)
        return self.kept(form, lambda: self.scaled(scale.size / unit.size, unit.size))

    def scaled(self, scale: float, unit: float) -> tuple[Tensor, Tensor | None]:
        """The decoded weight times `scale`, and the bias divided by `unit`."""
        bias = None if self.bias is None else self.bias / unit
        return self.decode() * scale, bias

    def sums(self, scale: Scale, origin: int, unit: Scale) -> tuple[Tensor, ...]:
        """Weight, factor and shift in factor * (weight @ (q - origin)) + shift."""

        def make() -> tuple[Tensor, ...]:
            rows = self.kept("rows", self.sums_of_rows)
            step = scale.size / unit.size
            shift = rows * (step * (origin - scale.zero_point))
            if self.bias is not None:
                shift.add_(self.bias, alpha=1 / unit.size)
            return self.weight, self.weight_scale * step, shift

        form = ("sums", scale, origin, unit)
        return self.kept(form, make) if scale.fixed else make()

    def sums_of_rows(self) -> Tensor:
        """The sum of each row of the decoded weight."""
        return self.weight_scale * self.weight.flatten(1).sum(1)

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
        q = torch.full((64, 64), 255, dtype=torch.uint8, device="cpu")
        packed = torch.ops.onednn.qlinear_prepack(most, None)
        ones = torch.ones(64, device="cpu")
        zeros = torch.zeros(64, dtype=torch.int64, device="cpu")
        end = (None, 1.0, 0, torch.float32, "none", [], "")  # type: ignore[var-annotated]
        sums = torch.ops.onednn.qlinear_pointwise(q, 1.0, 0, packed, ones, zeros, *end)
        exact &= (sums == 64 * 127 * 255).all()
    return bool(exact)


EXACT = adds_exactly()


def ending(unit: Scale, rounded: bool, relu: bool) -> tuple:
    """The epilogue arguments of oneDNN's operators."""
    kind, end = torch.uint8 if rounded else torch.float32, "relu" if relu else "none"
    return unit.size, unit.zero_point, kind, end, []


def product_of_bytes(q: Tensor, weight: Tensor) -> Tensor:
    """The int32 product q @ weight.T."""
    rows = len(q)
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
        # if: Line
        self.line: Line | None = None  # the line that ends in this layer

    # if: Line
    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "line": None}

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def in_integers(self, x: Quantized, unit: Scale, rounded: bool, relu: bool) -> Any:
        held, results = x.held, self.work
        *batch, columns = held.shape
        many = held.numel() * results > self.many * columns
        if held.is_cpu and MKLDNN and many:
            packed = self.kept("packed", self.pack)
            shift = self.sums(x.scale, 0, ONES)[-1]
            end = ending(unit, rounded, relu)
            return torch.ops.onednn.qlinear_pointwise(
                x.integers(), x.scale.size, 0, *packed, shift, *end, ""
            )
        fits = held.is_cuda and not (results % 8 or columns % 8)
        if not (fits or held.is_cpu):
            return self.in_floats(x, unit)
        q = x.signed().reshape(-1, columns)
        # if: quantize
        if not x.scale.fixed:
            form = ("rows", unit)
            weight, factor, rows, bias = self.kept(form, lambda: self.rows(unit.size))
            y = product_of_bytes(q, weight).float().mul_(factor)
            y.add_(rows, alpha=128 - x.scale.zero_point)
            y = torch.add(bias, y, alpha=x.scale.size / unit.size)
            return y.view(*batch, results)
        weight, factor, shift = self.sums(x.scale, 128, unit)
        y = product_of_bytes(q, weight).float().mul_(factor).add_(shift)
        return y.view(*batch, results)

    # if: quantize
    def rows(self, unit: float) -> tuple[Tensor, ...]:
        """Weight, scale, row sums and bias, independent of the operand's range."""
        sums = self.sums_of_rows()
        bias = torch.zeros_like(sums) if self.bias is None else self.bias / unit
        return self.weight, self.weight_scale, sums, bias

    def pack(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weight in oneDNN's layout, its scales and zero points."""
        return torch.ops.onednn.qlinear_prepack(self.weight, None), *self.scales()


class Int8Conv2d(Int8Layer):
    """A convolution on quantized operands."""

    least = 4_000_000
    # if: whole_file
    channels_last = False  # True only if oneDNN is correct for the layer's shapes

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

    # if: channels_last
    def scaled(self, scale: float, unit: float) -> tuple[Tensor, Tensor | None]:
        # Channels-last, the layout of the integer kernels, also makes pooling faster.
        weight, bias = super().scaled(scale, unit)
        # if: whole_file
        if not self.channels_last:
            return weight, bias
        return weight.clone(memory_format=torch.channels_last), bias

    def in_integers(self, x: Quantized, unit: Scale, rounded: bool, relu: bool) -> Any:
        if not (x.held.is_cpu and MKLDNN):
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
        shift = self.sums(x.scale, 0, ONES)[-1]
        end = ending(unit, rounded, relu)
        return torch.ops.onednn.qconv_pointwise(
            q, x.scale.size, 0, *packed, shift, *steps, *end, None
        )

    def pack(self, steps: tuple, shape: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Weight in oneDNN's layout for images of `shape`; scales and zero points."""
        # Without `shape`, each call may have to convert the weight to another layout.
        scales, zeros = self.scales()
        pack = torch.ops.onednn.qconv_prepack
        return pack(self.weight, scales, 1.0, 0, *steps, shape), scales, zeros


class Line:
    """Cached steps of layers that run one after the other, for a single sample."""

    def __init__(self, modules: list, relu: Any, shape: Any, steps: list[tuple]):
        self.modules, self.relu, self.shape, self.steps = modules, relu, shape, steps
        self.seen = [
            (module._buffers, name, buffer, version_of(buffer))
            for module in modules
            for name, buffer in module._buffers.items()
        ]

    def holds(self) -> bool:
        """Return whether no buffer has changed."""
        for buffers, name, buffer, version in self.seen:
            now = buffers[name]
            if now is not buffer or version is not None and now._version != version:
                return False
        return True


def line_of(
    modules: list, relu: Any, x: Tensor, steps: Callable[[], list[tuple]]
) -> Line:
    """The line of these modules, cached in the last module."""
    line = modules[-1].line
    known = line is not None and line.modules == modules and line.relu == relu
    if not (known and line.shape == x.shape and line.holds()):
        with torch.inference_mode(False), torch.no_grad():
            line = modules[-1].line = Line(modules, relu, x.shape, steps())
    return line


def relus_of(relu: bool | Sequence[bool], layers: list) -> list[bool]:
    """One bool for each layer: True if a relu is between this layer and the next."""
    between = [relu] * (len(layers) - 1) if isinstance(relu, bool) else relu
    return [*between, False]


def fixed_line(
    x: Tensor,
    roundings: Iterable,
    layers: Iterable,
    relu: bool | Sequence[bool] = False,
    moves: Sequence[Callable | None] | None = None,
) -> Tensor:
    """Call layers one after the other, each on a quantized operand.

    `relu` tells after which layers a relu follows.  `moves` has a function for each
    layer, such as a max pool of the layer's result, or None.  For a single sample, the
    modules and their hooks are not called, because the calls would take as long as
    small layers.
    """
    roundings, layers = [*roundings], [*layers]
    single = x.numel() == x.shape[-1] if moves is None else len(x) == 1
    moves = moves or [None] * len(layers)
    steps: list[tuple] = []
    if single and x.is_cpu:

        def make() -> list[tuple]:
            return fixed_steps(x, roundings, layers, relus_of(relu, layers), moves)

        steps = line_of(roundings + layers, relu, x, make).steps
    if not steps:
        q = roundings[0](x)
        relus = relus_of(relu, layers)
        for layer, to, on, move in zip(layers, [*roundings[1:], None], relus, moves):
            q = layer(q, to, on)
            q = q if move is None else move(q)
        return q
    flat = x.dim() > 2 and steps[0][0] is F.linear
    y = (x.view(1, -1) if flat else x) / roundings[0]._buffers["scale"]
    for product, weight, factor, shift, offset, low, high, move in steps:
        y.round_()
        if offset:
            y.add_(ONE, alpha=offset)
        y.clamp_(low, high)
        if factor is None:
            y = product(y, weight, shift)
        else:
            y = torch._int_mm(weight, y.char().t()).t().float().mul_(factor).add_(shift)
        if move is not None:
            y = move(y)
    return y.view(*x.shape[:-1], -1) if flat else y


CACHED = 300_000  # number of floating-point weights that fit in a core's cache


def fixed_steps(
    x: Tensor, roundings: list, layers: list, relus: list[bool], moves: Sequence
) -> list[tuple]:
    """Kernel, weight, factor, shift and operand range of each layer of a line.

    The result of a layer is the operand of the next layer: q - 128 if the next layer
    has an int8 kernel, else q - zero_point.  The list is empty, and the modules are
    called, if an int8 kernel is faster for a convolution.
    """
    q, pays = roundings[0](x), []
    # A line with convolutions is usually a whole network, so no other layers evict its
    # weights from the cache between two calls.  If the weights fit in the cache, int8
    # kernels may be slower than floating point.
    cached = layers[0].weight.dim() > 2
    cached = cached and sum(layer.weight.numel() for layer in layers) < CACHED
    for layer, to, on, move in zip(layers, [*roundings[1:], None], relus, moves):
        pays.append(layer.pays(q.held))
        if pays[-1] and layer.weight.dim() > 2:
            return []
        pays[-1] = pays[-1] and not cached
        q = layer(q, to, on)
        q = q if move is None else move(q)
    scales = [*(rounding.grid() for rounding in roundings), ONES]
    offsets = [pay * (scale.zero_point - 128) for pay, scale in zip(pays, scales)] + [0]
    steps = []
    for k, layer in enumerate(layers):
        scale, unit = scales[k : k + 2]
        if pays[k]:
            weight, factor, shift = layer.sums(scale, 128, unit)
        else:
            (weight, shift), factor = layer.terms(scale, unit), None
        if shift is None:
            shift = torch.zeros(len(weight), device="cpu")
        low = 0 if k and relus[k - 1] else -scale.zero_point
        ends = low + offsets[k], 255 - scale.zero_point + offsets[k]
        first = 0 if k else offsets[0]  # the shift of layer k - 1 includes offset k
        product = F.linear if layer.weight.dim() == 2 else layer.product
        shift = shift + offsets[k + 1]
        steps.append((product, weight, factor, shift, first, *ends, moves[k]))
    return steps


def ranged_line(
    x: Tensor, layers: Iterable, relu: bool | Sequence[bool] = False
) -> Tensor:
    """Call linear layers one after the other, on operands quantized by their range.

    `relu` tells after which layers a relu follows.  For a single row, the modules and
    their hooks are not called: the calls would take as long as small layers.
    """
    layers = [*layers]
    relus = relus_of(relu, layers)
    if not x.is_cpu or x.numel() != x.shape[-1]:
        for layer, on in zip(layers, relus):
            x = layer(quantize(x))
            x = F.relu(x) if on else x
        return x
    y = x if x.dim() == 2 else x.view(1, -1)
    line = line_of(layers, relu, x, lambda: ranged_steps(layers))
    for k, terms in enumerate(line.steps):
        weight, factor, rows, bias = terms
        if k and relus[k - 1]:  # zero_point is 0, so clamping computes the relu
            divisor = y.amax().div_(LEVELS)
            scale, zero_point = divisor.item(), 0
            if scale < 1e-30:
                divisor = scale = 1e-30  # type: ignore[assignment]
        else:
            scale, zero_point = range_of(y)
            divisor = scale  # type: ignore[assignment]
        steps = (y / divisor).round_().clamp_(-zero_point, 255 - zero_point)
        if factor is None:
            y = F.linear(steps * scale, weight, bias)
        else:
            q = steps.add_(ONE, alpha=zero_point - 128).char()
            y = torch._int_mm(weight, q.t()).t().float().mul_(factor)
            y = torch.add(bias, y.add_(rows, alpha=128 - zero_point), alpha=scale)
    return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)


LEVELS = torch.full((), 255.0, device="cpu")  # faster than a Python number


def ranged_steps(layers: list) -> list[tuple]:
    """Weight, factor, row sums and bias of each layer, for operands of any scale."""
    steps = []
    for layer in layers:
        pays = layer.pays(layer.weight[0])
        floats = layer.decode(), None, None, layer.bias
        steps.append(layer.rows(1.0) if pays else floats)
    return steps
