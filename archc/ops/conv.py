"""Convolutions over one, two and three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from archc.operator.base import operator
from archc.operator.checks import bad_attribute
from archc.operator.parameter import Parameter, kaiming_uniform, uniform_fan_in
from archc.operator.spelling import OnnxSpelling, TorchModule, TorchSpelling
from archc.ops.convolving import Convolving
from archc.ops.integers import integer_module, onnx_product, quantized_operand
from archc.ops.spatial import (
    Sizes,
    check_sizes,
    check_window,
    onnx_window,
    per_axis,
    span_of,
    windows,
)
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

SHORT_SUM = 32
"""Terms of a convolution's sums below which ONNX Runtime's integer kernel is slower than its float one (measured).

With a pool behind them some of these find another way into integers: `archc.codegen.onnx.int8.stems`.
"""


@operator
class Convolution(Convolving, abstract=True):
    """What the convolutions of all ranks share; a concrete one says its signature."""

    out_channels: int = attribute(doc="channels of the result")
    kernel_size: Sizes = attribute(doc="size of the window: one number, or one for each spatial axis")
    stride: Sizes = attribute(1, doc="step from one window to the next")
    padding: Sizes | Literal["same", "valid"] = attribute(
        0, doc='zeros put on both sides; "same" keeps the size (stride 1 only), "valid" is 0'
    )
    dilation: Sizes = attribute(1, doc="distance between the elements of a window")
    groups: int = attribute(1, index="g", phrase="groups", doc="input and output channels fall into as many groups")
    bias: bool = attribute(True, doc="add a learned number to each channel")
    in_channels: int | None = attribute(None, keyword=True, doc="checked against the operand where given")

    def check(self, types: Sequence[TensorType]) -> None:
        super().check(types)
        if isinstance(self.padding, str):
            if self.padding == "same" and any(stride != 1 for stride in self.strides):
                raise bad_attribute(self, "padding", "a number where `stride` is not 1")
        else:
            check_sizes(self, len(self.spatial), 0, "padding")

    @property
    def pads(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The zeros before and after each spatial axis; "same" puts the odd one after, as PyTorch does."""
        if self.padding == "same":
            totals = tuple(span_of(*sizes) - 1 for sizes in zip(self.kernel, self.dilations))
            return tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        sizes = per_axis(0 if isinstance(self.padding, str) else self.padding, len(self.spatial))
        return sizes, sizes

    def conv(self, extent: Extent, position: int) -> Extent:
        """The extent of a spatial axis of the result: ⌊(L + P - d(k - 1) - 1) / s⌋ + 1."""
        span = span_of(self.kernel[position], self.dilations[position])
        before, after = self.pads
        padding = before[position] + after[position]
        count = windows(extent, span, self.strides[position], padding)
        check_window(self, count, extent, span, padding, self.spatial[position])
        return count

    def padded(self) -> tuple[Self, int] | None:
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
        if operand is None or not operand.static or _terms(spell) < SHORT_SUM:
            result: str = spell.add("Conv", *spell.operands, *spell.weights.values(), **options)
            return result
        inputs = (spell.operands[0], spell.dequantized("weight"))
        return onnx_product(spell, operand, lambda bias: spell.add("Conv", *inputs, bias, **options), len(self.spatial))

    def factors(self, rank: int) -> tuple[Self, Self] | None:
        """This kernel to `rank` channels, then a kernel of size 1; groups would need a factorization each."""
        if self.groups != 1:
            return None
        return replace(self, out_channels=rank, bias=False), type(self)(self.out_channels, 1, bias=self.bias)


@operator
class Conv1d(Convolution):
    """A convolution over one spatial axis: y[n, o, t] = bias[o] + Σ_{i, k} weight[o, i, k] · x[n, i, s·t + d·k - p].

    Without groups every output channel o sums over all input channels i; with them, over those of its group.
    The size of the result is ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1.
    """

    signature = "x[n, g*i, l], weight[g*o, i, kl], bias[g*o]? -> y[n, g*o, conv(l)]"
    parameters = {"weight": Parameter(kaiming_uniform("i", "kl")), "bias": Parameter(uniform_fan_in("i", "kl"))}
    example = "signal -> conv1: conv1d(32, 9, stride = 2)"
    spatial = ("l",)
    module = "nn.Conv1d"


@operator
class Conv2d(Convolution):
    """A convolution over two spatial axes, height and width.

    y[n, o, t, u] = bias[o] + Σ_{i, k, l} weight[o, i, k, l] · x[n, i, s·t + d·k - p, s·u + d·l - p]; with groups, i
    runs over the input channels of o's group.  `groups = in_channels` is a depthwise convolution.
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
    torch_channels_last = True
    integer_schemes = ("static", "weight")
    integer_result = True

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | None:
        before, after = self.pads
        if before != after:
            return None
        padding = before if self.padding == "same" else 0 if self.padding == "valid" else self.padding
        module = self.torch_module(spell)
        return integer_module("Int8Conv2d", replace(module, named={**module.named, "padding": (padding, 0)}), spell)


@operator
class Conv3d(Convolution):
    """A convolution over three spatial axes, depth, height and width; `conv2d` with one axis more."""

    signature = "x[n, g*i, d, h, w], weight[g*o, i, kd, kh, kw], bias[g*o]? -> y[n, g*o, conv(d), conv(h), conv(w)]"
    parameters = {
        "weight": Parameter(kaiming_uniform("i", "kd", "kh", "kw")),
        "bias": Parameter(uniform_fan_in("i", "kd", "kh", "kw")),
    }
    example = "video -> conv1: conv3d(16, (1, 3, 3))"
    spatial = ("d", "h", "w")
    module = "nn.Conv3d"


def _terms(spell: OnnxSpelling) -> int:
    """How many products each element of the result is the sum of: input channels of a group times the window."""
    kernel = [size for index, size in spell.sizes.items() if index.startswith("k")]
    return int(math.prod([spell.sizes["i"], *kernel]))
