"""Extremes of the channels of values over calibration data, in folds.

Scales of channels are measured by cross-validation: on the samples of one fold, with the extremes of the others.  On
the samples that determine the extremes, no element is beyond the range of its channel, so scales that fit only these
samples would look best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from archc.compression.quantization.histograms import Batches
from archc.compression.quantization.ranges import Range
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch


FOLDS = 4
"""Number of folds."""


@dataclass(frozen=True, eq=False)
class ChannelExtremes:
    """Minimum and maximum of each channel."""

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor, axis: int) -> ChannelExtremes:
        """Extremes of a tensor whose channels are an axis."""
        others = [other for other in range(tensor.ndim) if other != axis % tensor.ndim]
        return cls(tensor.amin(others), tensor.amax(others)) if others else cls(tensor, tensor)

    def union(self, other: ChannelExtremes) -> ChannelExtremes:
        """Extremes of two sets of data together."""
        import torch

        return ChannelExtremes(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    @property
    def finite(self) -> bool:
        """Return whether no element is infinite or NaN."""
        return bool(self.largest.isfinite().all())

    @property
    def largest(self) -> torch.Tensor:
        """Largest absolute value of each channel."""
        return self.low.abs().maximum(self.high.abs())

    def range(self, scales: torch.Tensor) -> Range:
        """Range of the value, divided by scales of the channels."""
        return Range.around(float((self.low / scales).min()), float((self.high / scales).max()))


@dataclass(frozen=True, eq=False)
class FoldedExtremes:
    """Extremes of the channels of a value over each fold of the samples."""

    folds: Sequence[ChannelExtremes]

    @property
    def together(self) -> ChannelExtremes:
        """Extremes over all samples."""
        return reduce(ChannelExtremes.union, self.folds)

    def without(self, number: int) -> ChannelExtremes:
        """Extremes over all folds but one; over all samples if there is no other fold."""
        others = [each for place, each in enumerate(self.folds) if place != number]
        return reduce(ChannelExtremes.union, others or self.folds)


def split_samples(tensor: torch.Tensor, axis: int) -> list[torch.Tensor]:
    """The samples of each fold, in turns; a tensor without an axis of samples is one fold.

    Args:
        axis: the axis of the channels.
    """
    if axis % tensor.ndim == 0:
        return [tensor]
    return [tensor[number::FOLDS] for number in range(min(FOLDS, len(tensor)))]


def channel_extremes(graph: Graph, axes: Mapping[Value, int], batches: Batches) -> dict[Value, FoldedExtremes]:
    """Extremes of the channels of values over all batches.

    Args:
        axes: the axis of the channels of each value.
    """
    from archc.interpreter.evaluate import evaluate_all

    found: dict[Value, list[ChannelExtremes]] = {}
    for batch in batches():
        for value, tensor in evaluate_all(graph, batch):
            if value in axes and tensor.numel():
                folds = found.setdefault(value, [])
                for number, part in enumerate(split_samples(tensor, axes[value])):
                    extremes = ChannelExtremes.of(part, axes[value])
                    if number < len(folds):
                        folds[number] = folds[number].union(extremes)
                    else:
                        folds.append(extremes)
    return {value: FoldedExtremes(folds) for value, folds in found.items()}
