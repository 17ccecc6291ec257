"""Transposed convolutions over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.declaration.base import Inference, OperatorError, operator
from archc.declaration.checks import bad_attribute
from archc.declaration.parameter import Parameter, kaiming_uniform, uniform_fan_in
from archc.declaration.spelling import OnnxSpelling
from archc.declaration.traits import PREFERS_CHANNELS_LAST, Quantizable, Traits
from archc.declaration.windows import SpatialSizes, check_sizes, onnx_window, per_axis, window_span
from archc.ops.conv import BaseConvolution
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np


@operator
class TransposedConvolution(BaseConvolution, abstract=True):
    """Base of transposed convolutions; a subclass for each number of spatial axes declares the signature."""

    family = "conv"
    traits: ClassVar[Traits] = (Quantizable("weight", channel_axis=1),)

    out_channels: int = attribute(doc="output channels")
    kernel_size: SpatialSizes = attribute(doc="size of the kernel: one number, or one for each spatial axis")
    stride: SpatialSizes = attribute(1, doc="step between windows of the result")
    padding: SpatialSizes = attribute(0, doc="elements removed from both sides of the result")
    output_padding: SpatialSizes = attribute(0, doc="additional elements at the end of the result")
    groups: int = attribute(1, index="g", phrase="groups", doc="number of groups of input and output channels")
    bias: bool = attribute(True, doc="add a learned bias to each channel")
    dilation: SpatialSizes = attribute(1, doc="distance between the elements of a window")
    in_channels: int | None = attribute(None, keyword=True, doc="expected number of input channels, if given")

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
        """Extent of a result axis: (L - 1)·s - 2p + d(k - 1) + 1 + output_padding."""
        span = window_span(self.kernel[position], self.dilations[position])
        size = (extent - 1) * self.strides[position] - 2 * self._padding[position] + span + self._end_padding[position]
        if isinstance(size, int) and size < 1:
            raise OperatorError(
                "shape-mismatch",
                f"`padding` of `{self.name}` removes all of `{self.spatial[position]}`, of size {extent}",
                operand=0,
                attribute="padding",
                help="use a smaller `padding`, or a larger `kernel_size`",
            )
        return size

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        """Number of operand elements · kernel elements · output channels of a group."""
        sizes = inference.solution.extents
        total: Extent = 1
        for name in ("n", "g", "i", "o", *self.spatial, *(f"k{index}" for index in self.spatial)):
            total = total * sizes[name]
        return total

    def kernel_tensor(self, weight: np.ndarray) -> np.ndarray:
        return super().kernel_tensor(weight).swapaxes(1, 2)

    def kernel_weight(self, tensor: np.ndarray) -> np.ndarray:
        return super().kernel_weight(tensor.swapaxes(1, 2))

    def kernel_steps(self, axis: int) -> list[int | None]:
        """Elements k and l of the kernel meet operands at a distance of d(l - k) / s, if this is an integer."""
        steps = [divmod(self.dilations[axis] * element, self.strides[axis]) for element in range(self.kernel[axis])]
        return [None if rest else step for step, rest in steps]

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
        """Add `ConvTranspose`, also for an `output_padding` of at least the stride.

        PyTorch requires that `output_padding` is less than the stride or less than the dilation.  ONNX Runtime requires
        that it is less than the stride.  A value that ONNX Runtime refuses is subtracted from the padding at the end
        instead, which gives a result of the same size.  If this padding would be negative, zeros are appended to the
        operand.  Each zero lengthens the result by the stride, so the padding at the end must be larger by the stride.
        """
        extra, value = self._end_padding, spell.operands[0]
        longer = any(one >= stride for one, stride in zip(extra, self.strides))
        zeros = [
            max(0, -((pad - one) // stride)) if longer else 0
            for one, pad, stride in zip(extra, self._padding, self.strides)
        ]
        if any(zeros):
            before = [0] * (4 + len(zeros))  # no padding before any axis, nor after batch and channels
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
    """Transpose of `conv1d` as a linear map: each element of x adds a multiple of the kernel.

    y[n, o, s·t + d·k - p] += weight[i, o, k] · x[n, i, t], with s = `stride`, d = `dilation` and p = `padding`.
    The first axis of the weight has the input channels.  For L elements of x along `l`, y has
    (L - 1)·stride - 2·padding + dilation·(kernel_size - 1) + 1 + output_padding elements.
    """

    signature = "x[n, g*i, l], weight[g*i, o, kl], bias[g*o]? -> y[n, g*o, transposed(l)]"
    # PyTorch computes the fan-in of the initial weight from axis 1, which has the output channels here.
    parameters = {"weight": Parameter(kaiming_uniform("o", "kl")), "bias": Parameter(uniform_fan_in("o", "kl"))}
    example = "signal -> up: conv_transpose1d(16, 4, stride = 2, padding = 1)"
    spatial = ("l",)
    module = "nn.ConvTranspose1d"


@operator
class ConvTranspose2d(TransposedConvolution):
    """Transpose of `conv2d` as a linear map, often used to enlarge images; see `conv_transpose1d`.

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
    traits = (PREFERS_CHANNELS_LAST,)


@operator
class ConvTranspose3d(TransposedConvolution):
    """Transpose of `conv3d` as a linear map; see `conv_transpose1d`."""

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
