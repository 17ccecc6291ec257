"""Transposed convolutions over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archc.operator.base import Inference, OperatorError, operator
from archc.operator.checks import bad_attribute
from archc.operator.parameter import Parameter, kaiming_uniform, uniform_fan_in
from archc.operator.spelling import OnnxSpelling
from archc.ops.convolving import Convolving
from archc.ops.spatial import Sizes, check_sizes, onnx_window, per_axis, span_of
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


@operator
class TransposedConvolution(Convolving, abstract=True):
    """What the transposed convolutions of all ranks share; a concrete one says its signature."""

    family = "conv"
    channel_axis = 1

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
        super().check(types)
        check_sizes(self, len(self.spatial), 0, "padding", "output_padding")
        steps = zip(self._end_padding, self.strides, self.dilations)
        if any(extra >= max(stride, dilation) for extra, stride, dilation in steps):
            raise bad_attribute(self, "output_padding", "smaller than the stride or the dilation")

    @property
    def _padding(self) -> tuple[int, ...]:
        return per_axis(self.padding, len(self.spatial))

    @property
    def _end_padding(self) -> tuple[int, ...]:
        return per_axis(self.output_padding, len(self.spatial))

    def transposed(self, extent: Extent, position: int) -> Extent:
        """The extent of a spatial axis of the result: (L - 1)·s - 2p + d(k - 1) + 1 + output_padding."""
        span = span_of(self.kernel[position], self.dilations[position])
        size = (extent - 1) * self.strides[position] - 2 * self._padding[position] + span + self._end_padding[position]
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

    def torch_forward(self, weight: str) -> str:
        options = ", ".join(f"self.{name}" for name in ("bias", *self._options()))
        return f"F.{self.name}(x, {weight}, {options})"

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {
            "stride": (self.stride, 1),
            "padding": (self.padding, 0),
            "output_padding": (self.output_padding, 0),
            "groups": (self.groups, 1),
            "dilation": (self.dilation, 1),
        }

    def onnx(self, spell: OnnxSpelling) -> str:
        """Spell `ConvTranspose`, also for an `output_padding` of the stride or more.

        PyTorch allows it below the dilation, ONNX Runtime does not.  Zeros appended to the operand then lengthen the
        result, and a larger padding at its end crops it to size.
        """
        extra, value = self._end_padding, spell.operands[0]
        longer = any(one >= stride for one, stride in zip(extra, self.strides))
        zeros = [
            max(0, -((pad - one) // stride)) if longer else 0
            for one, pad, stride in zip(extra, self._padding, self.strides)
        ]
        if any(zeros):
            before = [0] * (4 + len(zeros))  # none before any axis, none after batch and channels
            value = spell.add("Pad", value, spell.constant([*before, *zeros]))
        end = self._padding
        if longer:
            steps = zip(self._padding, zeros, self.strides, extra)
            end = tuple(pad + count * stride - one for pad, count, stride, one in steps)
        options = onnx_window(self.kernel, self.strides, (self._padding, end), self.dilations, self.groups)
        if any(extra) and not longer:
            options["output_padding"] = list(extra)
        result: str = spell.add("ConvTranspose", value, *spell.weights.values(), **options)
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
    torch_channels_last = True


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
