"""Pooling with windows of a given size, over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from archc.ir.attributes import attribute
from archc.ir.solve import Extent
from archc.ir.types import TensorType
from archc.ops.checks import bad_attribute, check_floating
from archc.ops.operator import Operator
from archc.ops.spatial import (
    Sizes,
    check_sizes,
    check_window,
    onnx_window,
    per_axis,
    span_of,
    windows,
    windows_rounded_up,
)
from archc.ops.spelling import OnnxSpelling, TorchSpelling, call


@dataclass(frozen=True)
class Pooling(Operator, abstract=True):
    """What max and average pooling share; a concrete one says its signature."""

    spatial: ClassVar[tuple[str, ...]] = ()
    """The indices of the spatial axes."""

    kernel_size: Sizes = attribute(doc="size of the window: one number, or one for each spatial axis")
    stride: Sizes | None = attribute(None, doc="step from one window to the next; by default the kernel's size")
    padding: Sizes = attribute(0, doc="elements put on both sides; at most half of the kernel's size")
    ceil_mode: bool = attribute(False, keyword=True, doc="let a last window reach over the end")

    def check(self, types: Sequence[TensorType]) -> None:
        check_floating(self, types)
        rank = len(self.spatial)
        check_sizes(self, rank, 1, "kernel_size", "stride")
        check_sizes(self, rank, 0, "padding")
        if any(2 * padding > span for padding, span in zip(self._pads, self._spans)):
            raise bad_attribute(self, "padding", "at most half of the kernel's size")

    @property
    def _kernel(self) -> tuple[int, ...]:
        return per_axis(self.kernel_size, len(self.spatial))

    @property
    def _dilations(self) -> tuple[int, ...]:
        return (1,) * len(self.spatial)

    @property
    def _spans(self) -> tuple[int, ...]:
        return tuple(span_of(kernel, dilation) for kernel, dilation in zip(self._kernel, self._dilations))

    @property
    def _strides(self) -> tuple[int, ...]:
        return per_axis(self.kernel_size if self.stride is None else self.stride, len(self.spatial))

    @property
    def _pads(self) -> tuple[int, ...]:
        return per_axis(self.padding, len(self.spatial))

    def pool(self, extent: Extent, position: int) -> Extent:
        """The extent of a spatial axis of the result: ⌊(L + 2p - d(k - 1) - 1) / s⌋ + 1, or with ⌈ ⌉ in `ceil_mode`."""
        span, stride, padding = self._spans[position], self._strides[position], self._pads[position]
        # That at least one whole window fits is asked for in `ceil_mode` as well: PyTorch does.
        count = windows(extent, span, stride, 2 * padding)
        rounded = windows_rounded_up(extent, span, stride, padding) if self.ceil_mode else count
        check_window(self, rounded, extent, span, 2 * padding, self.spatial[position])
        return rounded

    def torch(self, spell: TorchSpelling) -> str:
        named = {name: value for name, (value, default) in self._options().items() if value != default}
        return call(f"F.{self.name}", *spell.operands, self.kernel_size, **named)

    def _options(self) -> dict[str, tuple[Any, Any]]:
        """The arguments by name that PyTorch's function takes, with their defaults."""
        return {"stride": (self.stride, None), "padding": (self.padding, 0), "ceil_mode": (self.ceil_mode, False)}

    def _onnx_options(self) -> dict[str, Any]:
        options = onnx_window(self._kernel, self._strides, (self._pads, self._pads), self._dilations)
        return {**options, "ceil_mode": 1} if self.ceil_mode else options


@dataclass(frozen=True)
class MaxPooling(Pooling, abstract=True):
    """What max pooling of all ranks shares."""

    dilation: Sizes = attribute(1, doc="distance between the elements of a window")

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "dilation")
        super().check(types)

    @property
    def _dilations(self) -> tuple[int, ...]:
        return per_axis(self.dilation, len(self.spatial))

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {**super()._options(), "dilation": (self.dilation, 1)}

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("MaxPool", *spell.operands, **self._onnx_options())


@dataclass(frozen=True)
class AveragePooling(Pooling, abstract=True):
    """What average pooling of all ranks shares."""

    count_include_pad: bool = attribute(True, keyword=True, doc="the padding's zeros count as elements of a window")

    def _options(self) -> dict[str, tuple[Any, Any]]:
        return {**super()._options(), "count_include_pad": (self.count_include_pad, True)}

    def onnx(self, spell: OnnxSpelling) -> str:
        options = self._onnx_options()
        if self.count_include_pad and any(self._pads):
            options["count_include_pad"] = 1
        return spell.add("AveragePool", *spell.operands, **options)


@dataclass(frozen=True)
class MaxPool1d(MaxPooling):
    """The largest element of each window: y[n, c, t] = max_k x[n, c, s·t + d·k - p]; padding never wins."""

    signature = "x[n, c, l] -> y[n, c, pool(l)]"
    example = "signal -> max_pool1d(2)"
    spatial = ("l",)


@dataclass(frozen=True)
class MaxPool2d(MaxPooling):
    """The largest element of each window of height and width; padding never wins."""

    signature = "x[n, c, h, w] -> y[n, c, pool(h), pool(w)]"
    example = "features -> max_pool2d(3, stride = 2, padding = 1)"
    spatial = ("h", "w")


@dataclass(frozen=True)
class MaxPool3d(MaxPooling):
    """The largest element of each window of depth, height and width; padding never wins."""

    signature = "x[n, c, d, h, w] -> y[n, c, pool(d), pool(h), pool(w)]"
    example = "video -> max_pool3d((1, 2, 2))"
    spatial = ("d", "h", "w")


@dataclass(frozen=True)
class AvgPool1d(AveragePooling):
    """The mean of each window: y[n, c, t] = 1/k · Σ_k x[n, c, s·t + k - p]."""

    signature = "x[n, c, l] -> y[n, c, pool(l)]"
    example = "signal -> avg_pool1d(4)"
    spatial = ("l",)


@dataclass(frozen=True)
class AvgPool2d(AveragePooling):
    """The mean of each window of height and width."""

    signature = "x[n, c, h, w] -> y[n, c, pool(h), pool(w)]"
    example = "features -> avg_pool2d(2)"
    spatial = ("h", "w")


@dataclass(frozen=True)
class AvgPool3d(AveragePooling):
    """The mean of each window of depth, height and width."""

    signature = "x[n, c, d, h, w] -> y[n, c, pool(d), pool(h), pool(w)]"
    example = "video -> avg_pool3d(2)"
    spatial = ("d", "h", "w")
