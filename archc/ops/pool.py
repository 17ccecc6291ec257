"""Pooling over one, two and three spatial axes, with given windows or to a given output size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from archc.declaration.base import Operator, OperatorError, operator
from archc.declaration.checks import bad_attribute
from archc.declaration.dtypes import FLOATS, ONNX_FLOATS, ONNX_SINGLE
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, call
from archc.declaration.traits import COMMUTES_WITH_ROUNDING, IDEMPOTENT, Homogeneous, Traits
from archc.declaration.windows import (
    SpatialSizes,
    check_sizes,
    check_window,
    end_padding,
    onnx_window,
    per_axis,
    window_count,
    window_span,
)
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


@operator
class Pooling(Operator, abstract=True):
    """Base of max and average pooling; a subclass for each number of spatial axes declares the signature."""

    spatial: ClassVar[tuple[str, ...]] = ()
    """Indices of the spatial axes."""

    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    traits: ClassVar[Traits] = (Homogeneous(),)

    kernel_size: SpatialSizes = attribute(doc="size of the window: one number, or one for each spatial axis")
    stride: SpatialSizes | None = attribute(None, doc="step between windows; by default `kernel_size`")
    padding: SpatialSizes = attribute(0, doc="elements added on both sides; at most half of `kernel_size`")
    ceil_mode: bool = attribute(False, keyword=True, doc="let the last window extend beyond the end")

    def check(self, types: Sequence[TensorType]) -> None:
        rank = len(self.spatial)
        check_sizes(self, rank, 1, "kernel_size", "stride")
        check_sizes(self, rank, 0, "padding")
        if any(2 * padding > kernel for padding, kernel in zip(self._pads, self._kernel)):
            raise bad_attribute(self, "padding", "at most half of `kernel_size`")

    @property
    def _kernel(self) -> tuple[int, ...]:
        return per_axis(self.kernel_size, len(self.spatial))

    @property
    def _dilations(self) -> tuple[int, ...]:
        return (1,) * len(self.spatial)

    @property
    def _spans(self) -> tuple[int, ...]:
        return tuple(window_span(kernel, dilation) for kernel, dilation in zip(self._kernel, self._dilations))

    @property
    def _strides(self) -> tuple[int, ...]:
        return per_axis(self.kernel_size if self.stride is None else self.stride, len(self.spatial))

    @property
    def _pads(self) -> tuple[int, ...]:
        return per_axis(self.padding, len(self.spatial))

    @property
    def _ends(self) -> tuple[int, ...]:
        """Padding at the end of each axis; in `ceil_mode`, it may be larger than the padding at the start."""
        sizes = zip(self._spans, self._strides, self._pads)
        return tuple(end_padding(span, stride, padding, self.ceil_mode) for span, stride, padding in sizes)

    def pool(self, extent: Extent, position: int) -> Extent:
        """Extent of a result axis: ⌊(L + 2p - d(k - 1) - 1) / s⌋ + 1, with ⌈ ⌉ for ⌊ ⌋ in `ceil_mode`."""
        span, padding = self._spans[position], self._pads[position] + self._ends[position]
        count = window_count(extent, span, self._strides[position], padding)
        check_window(self, count, extent, span, padding, self.spatial[position])
        return count

    def torch(self, spell: TorchSpelling) -> str:
        return self._torch_call(f"F.{self.name}", spell)

    def _torch_call(self, function: str, spell: TorchSpelling) -> str:
        return call(function, *spell.operands, self.kernel_size, **spell.options(**self._options()))

    def _options(self) -> dict[str, tuple[Any, Any]]:
        """Keyword arguments of PyTorch's function, with their defaults."""
        return {"stride": (self.stride, None), "padding": (self.padding, 0), "ceil_mode": (self.ceil_mode, False)}


@operator
class MaxPooling(Pooling, abstract=True):
    """Base of max pooling."""

    traits = (COMMUTES_WITH_ROUNDING,)

    dilation: SpatialSizes = attribute(1, doc="distance between the elements of a window")

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "dilation")
        super().check(types)

    @property
    def _dilations(self) -> tuple[int, ...]:
        return per_axis(self.dilation, len(self.spatial))

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {**super()._options(), "dilation": (self.dilation, 1)}

    def onnx(self, spell: OnnxSpelling) -> str:
        x, pads, ends = spell.operands[0], self._pads, self._ends
        if any(end >= kernel for end, kernel in zip(ends, self._kernel)):
            # ONNX Runtime requires a padding smaller than the kernel, even if a dilation makes the window larger.
            lowest = spell.constant(float("-inf"), spell.types[0].dtype)
            x = spell.add("Pad", x, spell.constant([0, 0, *pads, 0, 0, *ends]), lowest)
            pads = ends = (0,) * len(pads)
        options = onnx_window(self._kernel, self._strides, (pads, ends), self._dilations)
        result: str = spell.add("MaxPool", x, **options)
        return result


@operator
class AveragePooling(Pooling, abstract=True):
    """Base of average pooling."""

    onnx_dtypes = ONNX_SINGLE

    count_include_pad: bool = attribute(True, keyword=True, doc="count the zeros of the padding as elements")

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {**super()._options(), "count_include_pad": (self.count_include_pad, True)}

    def onnx(self, spell: OnnxSpelling) -> str:
        """Add `AveragePool`; with `count_include_pad`, zeros of the padding count as elements.

        In `ceil_mode`, a window may extend beyond the padding.  PyTorch does not count positions beyond the padding,
        but `AveragePool` would count them.  So a `Pad` node adds the zeros in this mode.
        """
        x, pads, ends = spell.operands[0], self._pads, self._ends
        counted: dict[str, Any] = {}
        if self.count_include_pad and any(pads):
            if self.ceil_mode:
                zeros = spell.constant([0, 0, *pads] * 2)
                x = spell.add("Pad", x, zeros)
                pads, ends = (0,) * len(pads), tuple(end - padding for end, padding in zip(ends, pads))
            else:
                counted = {"count_include_pad": 1}
        options = onnx_window(self._kernel, self._strides, (pads, ends), self._dilations)
        result: str = spell.add("AveragePool", x, **options, **counted)
        return result


@operator
class MaxPool1d(MaxPooling):
    """Maximum of each window: y[n, c, t] = max_k x[n, c, s·t + d·k - p].

    Padding is never the maximum.
    """

    signature = "x[n, c, l] -> y[n, c, pool(l)]"
    example = "signal -> max_pool1d(2)"
    spatial = ("l",)


@operator
class MaxPool2d(MaxPooling):
    """Maximum of each window of height and width; padding is never the maximum."""

    signature = "x[n, c, h, w] -> y[n, c, pool(h), pool(w)]"
    example = "features -> max_pool2d(3, stride = 2, padding = 1)"
    spatial = ("h", "w")

    def torch_integers(self, spell: TorchSpelling) -> str:
        return self._torch_call("pooled", spell)


@operator
class MaxPool3d(MaxPooling):
    """Maximum of each window of depth, height and width; padding is never the maximum."""

    signature = "x[n, c, d, h, w] -> y[n, c, pool(d), pool(h), pool(w)]"
    example = "video -> max_pool3d((1, 2, 2))"
    spatial = ("d", "h", "w")


@operator
class AvgPool1d(AveragePooling):
    """Mean of each window: y[n, c, t] = mean_k x[n, c, s·t + k - p]."""

    signature = "x[n, c, l] -> y[n, c, pool(l)]"
    example = "signal -> avg_pool1d(4)"
    spatial = ("l",)


@operator
class AvgPool2d(AveragePooling):
    """Mean of each window of height and width."""

    signature = "x[n, c, h, w] -> y[n, c, pool(h), pool(w)]"
    example = "features -> avg_pool2d(2)"
    spatial = ("h", "w")


@operator
class AvgPool3d(AveragePooling):
    """Mean of each window of depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, pool(d), pool(h), pool(w)]"
    dtypes = FLOATS.without("f16", "bf16")
    example = "video -> avg_pool3d(2)"
    spatial = ("d", "h", "w")

    def check(self, types: Sequence[TensorType]) -> None:
        super().check(types)
        for axis, (size, kernel) in zip(self.spatial, self.minimum_sizes(types)):
            if isinstance(size, int) and size < kernel:
                raise OperatorError(
                    "shape-mismatch",
                    f"`{self.name}` expects at least {kernel} elements along `{axis}`, got {size}",
                    operand=0,
                    attribute="kernel_size",
                    help="PyTorch accepts no axis smaller than the window, even with `padding`: use a smaller"
                    " `kernel_size`, or `pad` before the pool",
                )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        return list(zip(types[0].shape[2:], self._kernel))


@operator
class AdaptivePooling(Operator, abstract=True):
    """Base of adaptive pooling, whose windows follow from the sizes of operand and result.

    For an operand axis of size L and a result axis of size m, element t of the result pools the operand elements from
    ⌊t·L/m⌋ to ⌈(t + 1)·L/m⌉ - 1.
    """

    family = "pool"
    spatial: ClassVar[tuple[str, ...]] = ()
    """Indices of the spatial axes."""
    pooling: ClassVar[str] = ""
    """The ONNX operator for windows; its name with the prefix `Global` is the operator for whole axes."""
    reduction: ClassVar[str] = ""
    """The ONNX operator that reduces an axis."""

    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    traits = (IDEMPOTENT, Homogeneous())

    output_size: SpatialSizes = attribute(doc="size of the result: one number, or one for each spatial axis")

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "output_size")

    def adaptive(self, extent: Extent, position: int) -> Extent:
        """Extent of a spatial axis of the result: the output size."""
        return self._outputs[position]

    @property
    def _outputs(self) -> tuple[int, ...]:
        return per_axis(self.output_size, len(self.spatial))

    def torch(self, spell: TorchSpelling) -> str:
        return call(f"F.{self.name}", *spell.operands, self.output_size)

    def onnx(self, spell: OnnxSpelling) -> str:
        """Pool an axis with equal windows if its size is a multiple of the result size, else window by window.

        The axes can be pooled one after the other, because every window is a box.
        """
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
                    f"ONNX has no form of `{self.name}` that reduces the symbolic size {extent} of"
                    f" `{self.spatial[number]}` to {size}",
                    attribute="output_size",
                    help="give the axis of the input a fixed size, or use `output_size = 1`",
                )
        if any(size != 1 for size in kernel):
            x = spell.add(self.pooling, x, kernel_shape=kernel, strides=kernel)
        return x

    def _uneven(self, spell: OnnxSpelling, x: str, number: int, extent: int, size: int) -> str:
        """Pool an axis with unequal windows: slice and reduce each window, and concatenate the results."""
        axis = spell.constant([2 + number])
        parts = []
        for t in range(size):
            start, end = t * extent // size, -(-(t + 1) * extent // size)
            window = spell.add("Slice", x, spell.constant([start]), spell.constant([end]), axis)
            parts.append(spell.add(self.reduction, window, axis, keepdims=1))
        return spell.add("Concat", *parts, axis=2 + number)


@operator
class AdaptiveAveragePooling(AdaptivePooling, abstract=True):
    """Base of adaptive average pooling."""

    pooling = "AveragePool"
    reduction = "ReduceMean"


@operator
class AdaptiveMaxPooling(AdaptivePooling, abstract=True):
    """Base of adaptive max pooling."""

    pooling = "MaxPool"
    reduction = "ReduceMax"


@operator
class AdaptiveAvgPool1d(AdaptiveAveragePooling):
    """Means of `output_size` windows that cover the axis: y[t] = mean of x[⌊tL/m⌋ : ⌈(t+1)L/m⌉].

    m is `output_size`, and L the size of the axis.
    """

    signature = "x[n, c, l] -> y[n, c, adaptive(l)]"
    example = "signal -> adaptive_avg_pool1d(8)"
    spatial = ("l",)


@operator
class AdaptiveAvgPool2d(AdaptiveAveragePooling):
    """Means of windows that cover height and width; `output_size = 1` is global average pooling.

    (Lin et al. 2014, "Network In Network", section 3.2.)
    """

    signature = "x[n, c, h, w] -> y[n, c, adaptive(h), adaptive(w)]"
    example = "features -> adaptive_avg_pool2d(1)"
    spatial = ("h", "w")


@operator
class AdaptiveAvgPool3d(AdaptiveAveragePooling):
    """Means of windows that cover depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, adaptive(d), adaptive(h), adaptive(w)]"
    example = "video -> adaptive_avg_pool3d((1, 7, 7))"
    spatial = ("d", "h", "w")


@operator
class AdaptiveMaxPool1d(AdaptiveMaxPooling):
    """Maxima of `output_size` windows that cover the axis: y[t] = max of x[⌊tL/m⌋ : ⌈(t+1)L/m⌉].

    m is `output_size`, and L the size of the axis.
    """

    signature = "x[n, c, l] -> y[n, c, adaptive(l)]"
    example = "signal -> adaptive_max_pool1d(8)"
    spatial = ("l",)


@operator
class AdaptiveMaxPool2d(AdaptiveMaxPooling):
    """Maxima of windows that cover height and width."""

    signature = "x[n, c, h, w] -> y[n, c, adaptive(h), adaptive(w)]"
    example = "features -> adaptive_max_pool2d(1)"
    spatial = ("h", "w")


@operator
class AdaptiveMaxPool3d(AdaptiveMaxPooling):
    """Maxima of windows that cover depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, adaptive(d), adaptive(h), adaptive(w)]"
    example = "video -> adaptive_max_pool3d((1, 7, 7))"
    spatial = ("d", "h", "w")
