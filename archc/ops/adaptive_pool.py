"""Pooling to a given size of the result: the windows follow from the operand's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archc.operator.base import Operator, OperatorError, operator
from archc.operator.dtypes import FLOATS, ONNX_SINGLE
from archc.operator.spelling import OnnxSpelling, TorchSpelling, call
from archc.ops.spatial import Sizes, check_sizes, per_axis
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


@operator
class AdaptivePooling(Operator, abstract=True):
    """What adaptive pooling of all kinds shares.

    Element t of an axis of m elements, made from L, stands for those from ⌊t·L/m⌋ to ⌈(t + 1)·L/m⌉ - 1.
    """

    family = "pool"
    spatial: ClassVar[tuple[str, ...]] = ()
    """The indices of the spatial axes."""
    pooling: ClassVar[str] = ""
    """The ONNX operator that pools by windows; with `Global` before it, over whole axes."""
    reduction: ClassVar[str] = ""
    """The ONNX operator that reduces a whole axis."""

    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE

    output_size: Sizes = attribute(doc="size of the result: one number, or one for each spatial axis")

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "output_size")

    def adaptive(self, extent: Extent, position: int) -> Extent:
        """The extent of a spatial axis of the result: the one asked for."""
        return self._outputs[position]

    @property
    def _outputs(self) -> tuple[int, ...]:
        return per_axis(self.output_size, len(self.spatial))

    def torch(self, spell: TorchSpelling) -> str:
        return call(f"F.{self.name}", *spell.operands, self.output_size)

    def onnx(self, spell: OnnxSpelling) -> str:
        """Pool by windows where the sizes divide, else axis by axis: the windows are boxes, so axes are independent."""
        x, extents = spell.operands[0], spell.types[0].shape[2:]
        if all(size == 1 for size in self._outputs):
            return spell.add(f"Global{self.pooling}", x)
        kernel = [1] * len(self.spatial)
        for number, (extent, size) in enumerate(zip(extents, self._outputs)):
            if isinstance(extent, int) and extent % size == 0:
                kernel[number] = extent // size
            elif size == 1:
                x = spell.add(self.reduction, x, spell.constant([2 + number]), keepdims=1)
            elif isinstance(extent, int):
                x = self._uneven(spell, x, number, extent, size)
            else:
                raise OperatorError(
                    "no-onnx-form",
                    f"ONNX cannot spell `{self.name}` to {size} elements of `{self.spatial[number]}`,"
                    f" whose size {extent} is not known",
                    attribute="output_size",
                    help="give the input a fixed size there, or use an output size of 1",
                )
        if any(size != 1 for size in kernel):
            x = spell.add(self.pooling, x, kernel_shape=kernel, strides=kernel)
        return x

    def _uneven(self, spell: OnnxSpelling, x: str, number: int, extent: int, size: int) -> str:
        """One axis whose windows differ in length: a slice and a reduction each, side by side."""
        axis = spell.constant([2 + number])
        parts = []
        for t in range(size):
            start, end = t * extent // size, -(-(t + 1) * extent // size)
            window = spell.add("Slice", x, spell.constant([start]), spell.constant([end]), axis)
            parts.append(spell.add(self.reduction, window, axis, keepdims=1))
        return spell.add("Concat", *parts, axis=2 + number)


@operator
class AdaptiveAveragePooling(AdaptivePooling, abstract=True):
    """What adaptive average pooling of all ranks shares."""

    pooling = "AveragePool"
    reduction = "ReduceMean"


@operator
class AdaptiveMaxPooling(AdaptivePooling, abstract=True):
    """What adaptive max pooling of all ranks shares."""

    pooling = "MaxPool"
    reduction = "ReduceMax"


@operator
class AdaptiveAvgPool1d(AdaptiveAveragePooling):
    """The means of `output_size` windows, which cover the axis: y[t] = mean of x[⌊tL/m⌋ : ⌈(t+1)L/m⌉]."""

    signature = "x[n, c, l] -> y[n, c, adaptive(l)]"
    example = "signal -> adaptive_avg_pool1d(8)"
    spatial = ("l",)


@operator
class AdaptiveAvgPool2d(AdaptiveAveragePooling):
    """The means of windows that cover height and width; `output_size = 1` is global average pooling.

    (Lin et al. 2014, "Network In Network", section 3.2.)
    """

    signature = "x[n, c, h, w] -> y[n, c, adaptive(h), adaptive(w)]"
    example = "features -> adaptive_avg_pool2d(1)"
    spatial = ("h", "w")


@operator
class AdaptiveAvgPool3d(AdaptiveAveragePooling):
    """The means of windows that cover depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, adaptive(d), adaptive(h), adaptive(w)]"
    example = "video -> adaptive_avg_pool3d((1, 7, 7))"
    spatial = ("d", "h", "w")


@operator
class AdaptiveMaxPool1d(AdaptiveMaxPooling):
    """The largest elements of `output_size` windows, which cover the axis: y[t] = max of x[⌊tL/m⌋ : ⌈(t+1)L/m⌉]."""

    signature = "x[n, c, l] -> y[n, c, adaptive(l)]"
    example = "signal -> adaptive_max_pool1d(8)"
    spatial = ("l",)


@operator
class AdaptiveMaxPool2d(AdaptiveMaxPooling):
    """The largest elements of windows that cover height and width."""

    signature = "x[n, c, h, w] -> y[n, c, adaptive(h), adaptive(w)]"
    example = "features -> adaptive_max_pool2d(1)"
    spatial = ("h", "w")


@operator
class AdaptiveMaxPool3d(AdaptiveMaxPooling):
    """The largest elements of windows that cover depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, adaptive(d), adaptive(h), adaptive(w)]"
    example = "video -> adaptive_max_pool3d((1, 7, 7))"
    spatial = ("d", "h", "w")
