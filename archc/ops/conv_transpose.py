"""Transposed convolutions over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from archc.ir.attributes import attribute
from archc.ir.solve import Extent
from archc.ir.types import TensorType
from archc.ops.checks import bad_attribute
from archc.ops.conv import check_convolution, kernel_extents, resized_channels
from archc.ops.operator import Inference, Operator, OperatorError, operator
from archc.ops.parameter import Parameter, kaiming_uniform, uniform_fan_in
from archc.ops.spatial import Sizes, check_sizes, onnx_window, per_axis, span_of
from archc.ops.spelling import OnnxSpelling, TorchModule, TorchSpelling, call


@operator
class TransposedConvolution(Operator, abstract=True):
    """What the transposed convolutions of all ranks share; a concrete one says its signature."""

    family = "conv"
    affine_in_weight = True
    integer_schemes = ("weight",)
    channel_axis = 1
    spatial: ClassVar[tuple[str, ...]] = ()
    """The indices of the spatial axes; each has a `k` before it for the kernel's."""
    module: ClassVar[str] = ""

    out_channels: int = attribute(doc="channels of the result")
    kernel_size: Sizes = attribute(doc="size of the window: one number, or one for each spatial axis")
    stride: Sizes = attribute(1, doc="step from one window of the result to the next")
    padding: Sizes = attribute(0, doc="elements cut off from both sides of the result")
    output_padding: Sizes = attribute(0, doc="elements that the result has more at its end; below stride or dilation")
    groups: int = attribute(1, index="g", phrase="groups", doc="input and output channels fall into as many groups")
    bias: bool = attribute(True, doc="add a learned number to each channel")
    dilation: Sizes = attribute(1, doc="distance between the elements of a window")
    in_channels: int | None = attribute(None, keyword=True, doc="checked against the operand where given")

    def check(self, types: Sequence[TensorType]) -> None:
        rank = len(self.spatial)
        check_convolution(self, rank, types)
        check_sizes(self, rank, 0, "padding", "output_padding")
        steps = zip(self._sizes("output_padding"), self._sizes("stride"), self._sizes("dilation"))
        if any(extra >= max(stride, dilation) for extra, stride, dilation in steps):
            raise bad_attribute(self, "output_padding", "smaller than the stride or the dilation")

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        kernel = kernel_extents(self.spatial, self._sizes("kernel_size"))
        return {"g": self.groups, "o": self.out_channels // self.groups, **kernel}

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return "g", "o"

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        return replace(self, **resized_channels(self, extents))

    def _sizes(self, name: str) -> tuple[int, ...]:
        """An attribute's number for each spatial axis."""
        return per_axis(getattr(self, name), len(self.spatial))

    def transposed(self, extent: Extent, position: int) -> Extent:
        """The extent of a spatial axis of the result: (L - 1)·s - 2p + d(k - 1) + 1 + output_padding."""
        span = span_of(self._sizes("kernel_size")[position], self._sizes("dilation")[position])
        stride, padding = self._sizes("stride")[position], self._sizes("padding")[position]
        size = (extent - 1) * stride - 2 * padding + span + self._sizes("output_padding")[position]
        if isinstance(size, int) and size < 1:
            raise OperatorError(
                "shape-mismatch",
                f"`padding` of `{self.name}` leaves nothing of `{self.spatial[position]}`, which has {extent}",
                operand=0,
                attribute="padding",
                help="use less padding, or a larger kernel",
            )
        return size

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        """Every element of the operand meets every element of the kernel once, whatever the stride."""
        sizes = inference.solution.extents
        total: Extent = 1
        for name in ("n", "g", "i", "o", *self.spatial, *(f"k{index}" for index in self.spatial)):
            total = total * sizes[name]
        return total

    def torch(self, spell: TorchSpelling) -> str:
        named = {name: value for name, (value, default) in self._options().items() if value != default}
        return call(f"F.{self.name}", *spell.operands, *spell.weights.values(), **named)

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        channels = spell.sizes["g"] * spell.sizes["i"]
        positional = {"in_channels": channels, "out_channels": self.out_channels, "kernel_size": self.kernel_size}
        return TorchModule(self.module, positional, {**self._options(), "bias": (self.bias, True)})

    def _options(self) -> dict[str, tuple[Any, Any]]:
        """The arguments that PyTorch's function and module share, with their defaults."""
        return {
            "stride": (self.stride, 1),
            "padding": (self.padding, 0),
            "output_padding": (self.output_padding, 0),
            "groups": (self.groups, 1),
            "dilation": (self.dilation, 1),
        }

    def onnx(self, spell: OnnxSpelling) -> str:
        kernel, strides, padding = self._sizes("kernel_size"), self._sizes("stride"), self._sizes("padding")
        options = onnx_window(kernel, strides, (padding, padding), self._sizes("dilation"), self.groups)
        if any(self._sizes("output_padding")):
            options["output_padding"] = list(self._sizes("output_padding"))
        result: str = spell.add("ConvTranspose", *spell.operands, *spell.weights.values(), **options)
        return result


@operator
class ConvTranspose1d(TransposedConvolution):
    """The transpose of `conv1d` as a linear map: each element of x adds its multiple of the kernel to the result.

    y[n, o, s·t + d·k - p] += weight[i, o, k] · x[n, i, t].  The weight has the input channels first.
    The size of the result is (L - 1)·stride - 2·padding + dilation·(kernel_size - 1) + 1 + output_padding.
    """

    signature = "x[n, g*i, l], weight[g*i, o, kl], bias[g*o]? -> y[n, g*o, transposed(l)]"
    # PyTorch takes the fan-in from axis 1 of the weight, which here is that of the output channels.
    parameters = {"weight": Parameter(kaiming_uniform("o", "kl")), "bias": Parameter(uniform_fan_in("o", "kl"))}
    example = "signal -> up: conv_transpose1d(16, 4, stride = 2, padding = 1)"
    spatial = ("l",)
    module = "nn.ConvTranspose1d"


@operator
class ConvTranspose2d(TransposedConvolution):
    """The transpose of `conv2d` as a linear map, often used to enlarge images; see `conv_transpose1d`.

    (Zeiler et al. 2010, "Deconvolutional Networks".)
    """

    signature = "x[n, g*i, h, w], weight[g*i, o, kh, kw], bias[g*o]? -> y[n, g*o, transposed(h), transposed(w)]"
    parameters = {
        "weight": Parameter(kaiming_uniform("o", "kh", "kw")),
        "bias": Parameter(uniform_fan_in("o", "kh", "kw")),
    }
    example = "features -> up: conv_transpose2d(16, 4, stride = 2, padding = 1)"
    spatial = ("h", "w")
    module = "nn.ConvTranspose2d"


@operator
class ConvTranspose3d(TransposedConvolution):
    """The transpose of `conv3d` as a linear map; see `conv_transpose1d`."""

    signature = (
        "x[n, g*i, d, h, w], weight[g*i, o, kd, kh, kw], bias[g*o]?"
        " -> y[n, g*o, transposed(d), transposed(h), transposed(w)]"
    )
    parameters = {
        "weight": Parameter(kaiming_uniform("o", "kd", "kh", "kw")),
        "bias": Parameter(uniform_fan_in("o", "kd", "kh", "kw")),
    }
    example = "features -> up: conv_transpose3d(8, 2, stride = 2)"
    spatial = ("d", "h", "w")
    module = "nn.ConvTranspose3d"
