"""SmoothQuant: scales that move the outliers of an operand into the weights of its layers.

(Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models".)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from archc.compression.histograms import Batches
from archc.compression.layer_error import measured, squared_norm
from archc.compression.ranges import DynamicRange, Range, Rounding
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch

STRENGTHS = (0.5, 0.65, 0.8)
"""Candidates for the strength α; 0 is always a candidate.

With 0.9, MiniLM had the same mean cosine on other sentences as with 0.8, but a lower least cosine (.991, not .996).
"""
MEASURED_ROWS = 1024
"""Maximum number of rows of an operand on which the errors are measured in one batch."""


@dataclass(frozen=True)
class Smoothing:
    """Scales of the channels of an operand: x Wᵀ = (x / scales) (W · scales)ᵀ.

    Attributes:
        strength: α, between 0 (off) and 1 (all channels of the operand get the same range).
        error: squared error of the quantized layers, relative to their results, added over layers and batches.
        error_before: the same without scales.
    """

    strength: float
    scales: torch.Tensor
    error: float
    error_before: float


class _Extremes:
    """Minimum and maximum of each channel."""

    def __init__(self, rows: torch.Tensor):
        self.low, self.high = rows.amin(0), rows.amax(0)

    def include(self, rows: torch.Tensor) -> None:
        """Extend the extremes by further rows."""
        import torch

        self.low, self.high = torch.minimum(self.low, rows.amin(0)), torch.maximum(self.high, rows.amax(0))

    @property
    def largest(self) -> torch.Tensor:
        """Largest absolute value of each channel."""
        return self.low.abs().maximum(self.high.abs())

    def range(self, scales: torch.Tensor) -> Range:
        """Range of the operand, divided by scales."""
        return Range.around(float((self.low / scales).min()), float((self.high / scales).max()))


def smoothing_scales(operand: torch.Tensor, weight: torch.Tensor, strength: float) -> torch.Tensor:
    """Scales of channels: s = max|x|^α / max|w|^(1-α), or 1 for zeros (equation 4 of the paper).

    The largest scale is 1: a common factor has no effect on the error.

    Args:
        operand, weight: the largest absolute value of each channel.
    """
    used = (operand > 0) & (weight > 0)
    scales = (operand**strength / weight ** (1 - strength)).where(used, 0.0)
    scales = scales / scales.max()
    # A scale of almost 0 would make the divided operand overflow.
    return scales.clamp(min=1e-6).where(used & scales.isfinite(), 1.0)


def best_smoothings(
    graph: Graph,
    weights: Mapping[Value, Sequence[torch.Tensor]],
    batches: Batches,
    strengths: Sequence[float] = STRENGTHS,
    per_channel: bool = True,
    dynamic: Mapping[Value, DynamicRange] = MappingProxyType({}),
) -> dict[Value, Smoothing]:
    """The strength with the least error for each operand, and its scales.

    The error is that of the results of layers with int8 weights and an operand in u8, on some of the batches.  The
    scales are computed from all batches.  Operands with infinite or NaN elements are left out.

    Args:
        weights: the weights [o, i] of the layers that use an operand [..., i].
        per_channel: True if each row of a weight has its own scale in int8.
        dynamic: the quantization of operands whose range is dynamic; other operands have a static range.
    """
    import torch

    from archc.interpreter.evaluate import evaluate_all

    seen = {value: each for value, each in _extremes(graph, weights, batches).items() if each.largest.isfinite().all()}
    columns = {value: torch.stack([weight.abs().amax(0) for weight in weights[value]]).amax(0) for value in seen}
    scales = {
        value: {each: smoothing_scales(seen[value].largest, columns[value], each) for each in strengths}
        for value in seen
    }
    errors = {value: dict.fromkeys((0.0, *strengths), 0.0) for value in seen}
    for batch in measured(batches):
        for value, tensor in evaluate_all(graph, batch):
            if value not in seen or not tensor.numel():
                continue
            rows = _some_rows(tensor)
            for strength in errors[value]:
                by = scales[value][strength] if strength else torch.ones_like(columns[value])
                quantization: Rounding = dynamic.get(value) or seen[value].range(by)
                rounded = _some_rows(quantization.rounded(tensor / by))
                for weight in weights[value]:
                    found, expected = rounded @ _rounded_weight(weight * by, per_channel).T, rows @ weight.T
                    errors[value][strength] += squared_norm(found - expected) / (squared_norm(expected) or 1.0)
    best = {value: min(strengths, key=errors[value].__getitem__) for value in seen}
    return {
        value: Smoothing(strength, scales[value][strength], errors[value][strength], errors[value][0.0])
        for value, strength in best.items()
    }


def _some_rows(operand: torch.Tensor) -> torch.Tensor:
    """At most `MEASURED_ROWS` rows of an operand, distributed evenly."""
    rows = operand.reshape(-1, operand.shape[-1])
    return rows[:: -(-len(rows) // MEASURED_ROWS)]


def _extremes(graph: Graph, wanted: Collection[Value], batches: Batches) -> dict[Value, _Extremes]:
    from archc.interpreter.evaluate import evaluate_all

    found: dict[Value, _Extremes] = {}
    for batch in batches():
        for value, tensor in evaluate_all(graph, batch):
            if value in wanted and tensor.numel():
                rows = tensor.reshape(-1, tensor.shape[-1])
                if value in found:
                    found[value].include(rows)
                else:
                    found[value] = _Extremes(rows)
    return found


def _rounded_weight(weight: torch.Tensor, per_channel: bool) -> torch.Tensor:
    """Quantize a weight to int8 and dequantize it."""
    largest = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().amax()
    step = (largest / 127).clamp(min=1e-30)
    return (weight / step).round() * step
