"""Convolutions over one, two and three spatial axes, and the base of transposed convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from archc.declaration.base import Operator, operator
from archc.declaration.checks import bad_attribute, check_channels
from archc.declaration.dtypes import FLOATS, ONNX_SINGLE
from archc.declaration.integer_kernels import integer_module, onnx_product, quantized_operand
from archc.declaration.kernel_forms import KernelForm, kernel_forms
from archc.declaration.parameter import Parameter, kaiming_uniform, uniform_fan_in
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling, call
from archc.declaration.traits import AFFINE_IN_WEIGHT, PREFERS_CHANNELS_LAST, Flexible, Quantizable, Traits
from archc.declaration.windows import (
    SpatialSizes,
    check_sizes,
    check_window,
    onnx_window,
    per_axis,
    window_count,
    window_span,
)
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


_LONGEST_KERNEL = 16
"""Longest side of a kernel that `safe_channels_last` accepts.

Vision transformers have kernels of this size.
"""
_REGISTER = 16
"""Number of 32-bit floats in the widest vector registers (AVX-512)."""
_NEUTRAL = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
"""Attributes of an axis along which a convolution has a kernel of one element."""


@operator
class BaseConvolution(Operator, abstract=True):
    """Base of convolutions and transposed convolutions.

    Each of the two kinds declares its own attributes, because PyTorch orders the arguments of the two differently.
    """

    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    traits: ClassVar[Traits] = (AFFINE_IN_WEIGHT, Quantizable("weight"), Flexible("g", "o"))
    spatial: ClassVar[tuple[str, ...]] = ()
    """Indices of the spatial axes (`h`); the indices of the kernel axes have the prefix `k` (`kh`)."""
    module: ClassVar[str] = ""
    """The `torch.nn` module."""

    if TYPE_CHECKING:
        out_channels: int
        kernel_size: SpatialSizes
        stride: SpatialSizes
        dilation: SpatialSizes
        groups: int
        bias: bool
        in_channels: int | None

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "kernel_size", "stride", "dilation")
        for name in ("groups", "out_channels"):
            if getattr(self, name) < 1:
                raise bad_attribute(self, name, "positive")
        if self.out_channels % self.groups:
            raise bad_attribute(self, "out_channels", f"divisible by `groups`, which is {self.groups}")
        check_channels(self, "in_channels", types[0])

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        kernel = {f"k{index}": size for index, size in zip(self.spatial, self.kernel)}
        return {"g": self.groups, "o": self.out_channels // self.groups, **kernel}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        groups = extents["g"]
        given = {} if self.in_channels is None else {"in_channels": groups * extents["i"]}
        return replace(self, groups=groups, out_channels=groups * extents["o"], **given)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Size of the kernel on each spatial axis."""
        return per_axis(self.kernel_size, len(self.spatial))

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride on each spatial axis."""
        return per_axis(self.stride, len(self.spatial))

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation on each spatial axis."""
        return per_axis(self.dilation, len(self.spatial))

    def safe_channels_last(self, types: Sequence[TensorType]) -> bool:
        """Return whether oneDNN's channels-last kernels are known to be correct for these types.

        The AVX-512 code reads uninitialized memory if the image is one pixel wide and the convolution kernel is tall.
        This error was observed for 24 or more kernel rows and a number of channels that 16 does not divide.  In
        training, a convolution with a kernel of one pixel and a stride above 1 writes out of bounds if the image has
        fewer channels than a vector register has floats, 8 or 16
        (github.com/uxlfoundation/oneDNN/issues/6035).  The conditions here also exclude some correct cases.
        """
        if max(self.kernel) > _LONGEST_KERNEL:
            return False
        if max(self.kernel) > 1:
            return 1 not in types[0].shape[2:]
        sizes = self.infer(types).solution.extents
        narrow = any(isinstance(size, int) and size < _REGISTER for size in (sizes["i"], sizes["o"]))
        return max(self.strides) == 1 or not narrow

    def kernel_forms(self) -> tuple[KernelForm, ...]:
        return kernel_forms(self.kernel)

    def kernel_chain(self, form: KernelForm, ranks: Sequence[int]) -> list[BaseConvolution]:
        channels = [self.groups * rank for rank in ranks] + [self.out_channels]
        chain = [self._with_axes(axes, count) for axes, count in zip(form.axes, channels, strict=True)]
        return [replace(chain[0], in_channels=self.in_channels), *chain[1:-1], replace(chain[-1], bias=self.bias)]

    def _with_axes(self, axes: Sequence[int], channels: int) -> BaseConvolution:
        """Convolution without bias that has the kernel of this one along some axes."""
        if not axes:
            return _POINTWISE[len(self.spatial)](channels, 1, groups=self.groups, bias=False)
        changes: dict[str, Any] = {}
        for name, neutral in _NEUTRAL.items():
            given = getattr(self, name, neutral)
            if given != neutral and not isinstance(given, str) and len(axes) < len(self.spatial):
                sizes = per_axis(given, len(self.spatial))
                changes[name] = tuple(size if axis in axes else neutral for axis, size in enumerate(sizes))
        return replace(self, out_channels=channels, bias=False, in_channels=None, **changes)

    def kernel_tensor(self, weight: np.ndarray) -> np.ndarray:
        return weight.reshape(self.groups, -1, *weight.shape[1:])

    def kernel_weight(self, tensor: np.ndarray) -> np.ndarray:
        return tensor.reshape(-1, *tensor.shape[2:])

    def result_rows(self, y: Tensor) -> Tensor:
        return y.movedim(1, -1).reshape(-1, y.shape[1])

    def torch(self, spell: TorchSpelling) -> str:
        return call(f"F.{self.name}", *spell.operands, *spell.weights.values(), **spell.options(**self._options()))

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        channels = spell.sizes["g"] * spell.sizes["i"]
        positional = {"in_channels": channels, "out_channels": self.out_channels, "kernel_size": self.kernel_size}
        return TorchModule(self.module, positional, {**self._options(), "bias": (self.bias, True)})

    def _options(self) -> dict[str, tuple[Any, Any]]:
        """Keyword arguments of PyTorch's function and module, with defaults, in the order of the function."""
        raise AssertionError(f"{type(self).__name__} implements no `_options`")


SHORT_SUM = 16
"""Length of sums below which ONNX Runtime's integer kernel is slower than its float kernel.

The number was measured.  The integer kernel processes four input channels at a time, so it is slowest for an image of
one or three channels.  It has another integer kernel for depthwise convolutions, which is faster than its float kernel:
with `benchmarks.resnet_static`, MobileNetV2 runs 1.4 times as fast with the latter.
"""


@operator
class Convolution(BaseConvolution, abstract=True):
    """Base of convolutions; a subclass for each number of spatial axes declares the signature."""

    out_channels: int = attribute(doc="output channels")
    kernel_size: SpatialSizes = attribute(doc="size of the kernel: one number, or one for each spatial axis")
    stride: SpatialSizes = attribute(1, doc="step between windows")
    padding: SpatialSizes | Literal["same", "valid"] = attribute(
        0, doc='zeros added on both sides; "same" keeps the size (stride 1 only), "valid" is 0'
    )
    dilation: SpatialSizes = attribute(1, doc="distance between the elements of a window")
    groups: int = attribute(1, index="g", phrase="groups", doc="number of groups of input and output channels")
    bias: bool = attribute(True, doc="add a learned bias to each channel")
    in_channels: int | None = attribute(None, keyword=True, doc="expected number of input channels, if given")

    def check(self, types: Sequence[TensorType]) -> None:
        super().check(types)
        if isinstance(self.padding, str):
            if self.padding == "same" and any(stride != 1 for stride in self.strides):
                raise bad_attribute(self, "padding", "a number where `stride` is not 1")
        else:
            check_sizes(self, len(self.spatial), 0, "padding")

    @property
    def pads(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Number of zeros added before and after each spatial axis.

        If the total for padding "same" is odd, the additional zero is after the axis, as in PyTorch.
        """
        if self.padding == "same":
            totals = tuple(window_span(*sizes) - 1 for sizes in zip(self.kernel, self.dilations))
            return tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        sizes = per_axis(0 if isinstance(self.padding, str) else self.padding, len(self.spatial))
        return sizes, sizes

    def conv(self, extent: Extent, position: int) -> Extent:
        """Extent of a result axis: ⌊(L + P - d(k - 1) - 1) / s⌋ + 1, with P zeros on both sides together."""
        span = window_span(self.kernel[position], self.dilations[position])
        before, after = self.pads
        padding = before[position] + after[position]
        count = window_count(extent, span, self.strides[position], padding)
        check_window(self, count, extent, span, padding, self.spatial[position])
        return count

    def with_same_padding(self) -> tuple[Self, int] | None:
        kernel = self.kernel[0]
        if self.padding != 0 or set(self.kernel) != {kernel} or kernel == 1 or kernel % 2 == 0:
            return None
        return replace(self, padding=kernel // 2), kernel // 2

    def torch_forward(self, weight: str) -> str:
        return f"self._conv_forward(x, {weight}, self.bias)"

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {
            "stride": (self.stride, 1),
            "padding": (self.padding, 0),
            "dilation": (self.dilation, 1),
            "groups": (self.groups, 1),
        }

    def onnx(self, spell: OnnxSpelling) -> str:
        options = onnx_window(self.kernel, self.strides, self.pads, self.dilations, self.groups)
        operand = quantized_operand(spell)
        if operand is None or not operand.static or (_terms(spell) < SHORT_SUM and not _is_depthwise(spell)):
            result: str = spell.add("Conv", *spell.operands, *spell.weights.values(), **options)
            return result
        inputs = (spell.operands[0], spell.dequantized("weight"))
        return onnx_product(spell, operand, lambda bias: spell.add("Conv", *inputs, bias, **options), len(self.spatial))

    def weight_rows(self, x: Tensor) -> Tensor:
        """One row for each position of the result.

        A column is an input channel of a group and an element of the kernel.
        """
        from torch.nn import functional

        axes = len(self.spatial)
        before, after = self.pads
        windows = functional.pad(x, [size for pair in zip(before[::-1], after[::-1]) for size in pair])
        for axis, (kernel, stride, dilation) in enumerate(zip(self.kernel, self.strides, self.dilations), 2):
            windows = windows.unfold(axis, window_span(kernel, dilation), stride)[..., ::dilation]
        # [n, channels, positions..., kernel...] becomes [n, positions..., channels, kernel...].
        rows = windows.movedim(1, axes + 1)
        return rows.reshape(rows.shape[: axes + 1].numel(), self.groups, -1).transpose(0, 1)

    def kernel_steps(self, axis: int) -> list[int | None]:
        return [self.dilations[axis] * element for element in range(self.kernel[axis])]

    def factors(self, rank: int) -> tuple[Self, Self] | None:
        """A convolution with `rank` output channels, then a pointwise convolution; None with groups."""
        if self.groups != 1:
            return None
        return replace(self, out_channels=rank, bias=False), type(self)(self.out_channels, 1, bias=self.bias)


@operator
class Conv1d(Convolution):
    """Convolution over one spatial axis.

    y[n, o, t] = bias[o] + Σ_{i, k} weight[o, i, k] · x[n, i, s·t + d·k - p],
    with s = `stride`, d = `dilation` and p = `padding`.  The sum is over all input channels i.  With groups, it is over
    the input channels of one group: the group that contains the output channel o.
    For L elements of x along `l`, y has ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1 elements.
    """

    signature = "x[n, g*i, l], weight[g*o, i, kl], bias[g*o]? -> y[n, g*o, conv(l)]"
    parameters = {"weight": Parameter(kaiming_uniform("i", "kl")), "bias": Parameter(uniform_fan_in("i", "kl"))}
    example = "signal -> conv1: conv1d(32, 9, stride = 2)"
    spatial = ("l",)
    module = "nn.Conv1d"


@operator
class Conv2d(Convolution):
    """Convolution over two spatial axes, height and width.

    y[n, o, t, u] = bias[o] + Σ_{i, k, l} weight[o, i, k, l] · x[n, i, s·t + d·k - p, s·u + d·l - p],
    with s = `stride`, d = `dilation` and p = `padding`.  The sum is over all input channels i.  With groups, it is over
    the input channels of one group: the group that contains the output channel o.
    `groups = in_channels` is a depthwise convolution.
    (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition".)
    """

    signature = "x[n, g*i, h, w], weight[g*o, i, kh, kw], bias[g*o]? -> y[n, g*o, conv(h), conv(w)]"
    parameters = {
        "weight": Parameter(kaiming_uniform("i", "kh", "kw")),
        "bias": Parameter(uniform_fan_in("i", "kh", "kw")),
    }
    example = "image -> conv1: conv2d(32, 3, padding = 1)"
    spatial = ("h", "w")
    module = "nn.Conv2d"
    traits = (PREFERS_CHANNELS_LAST, Quantizable("static", "weight", integer_result=True))

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | None:
        before, after = self.pads
        if before != after:
            return None
        padding = before if self.padding == "same" else 0 if self.padding == "valid" else self.padding
        module = self.torch_module(spell)
        return integer_module("Int8Conv2d", replace(module, named={**module.named, "padding": (padding, 0)}), spell)


@operator
class Conv3d(Convolution):
    """Convolution over three spatial axes, depth, height and width; see `conv2d`."""

    signature = "x[n, g*i, d, h, w], weight[g*o, i, kd, kh, kw], bias[g*o]? -> y[n, g*o, conv(d), conv(h), conv(w)]"
    parameters = {
        "weight": Parameter(kaiming_uniform("i", "kd", "kh", "kw")),
        "bias": Parameter(uniform_fan_in("i", "kd", "kh", "kw")),
    }
    example = "video -> conv1: conv3d(16, (1, 3, 3))"
    spatial = ("d", "h", "w")
    module = "nn.Conv3d"


def _terms(spell: OnnxSpelling) -> int:
    """Number of products in each sum: the input channels of a group times the elements of the kernel."""
    kernel = [size for index, size in spell.sizes.items() if index.startswith("k")]
    return int(math.prod([spell.sizes["i"], *kernel]))


def _is_depthwise(spell: OnnxSpelling) -> bool:
    """Return whether each group has one input and one output channel."""
    sizes = spell.sizes
    return bool(sizes["i"] == sizes["o"] == 1 and sizes["g"] != 1)


_POINTWISE: Mapping[int, type[Convolution]] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
"""Convolution for each number of spatial axes."""
