"""SmoothQuant: scales that move the outliers of an operand into the weights of its layers.

(Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from archc.compression.quantization.channel_extremes import channel_extremes, split_samples
from archc.compression.quantization.histograms import Batches
from archc.compression.quantization.layer_error import measured, squared_norm
from archc.compression.quantization.ranges import DynamicRange, Rounding
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

    The error is that of the results of layers with int8 weights and an operand in u8.  It is measured on each fold of
    the samples of some batches, with the scales and the range of the other folds.  The resulting scales follow from all
    batches.  Operands with infinite or NaN elements are left out.

    Args:
        weights: the weights [o, i] of the layers that use an operand [..., i].
        per_channel: True if each row of a weight has its own scale in int8.
        dynamic: the quantization of operands whose range is dynamic; other operands have a static range.
    """
    import torch

    from archc.interpreter.evaluate import evaluate_all

    last = dict.fromkeys(weights, -1)
    seen = {
        value: extremes
        for value, extremes in channel_extremes(graph, last, batches).items()
        if extremes.together.finite
    }
    columns = {value: torch.stack([weight.abs().amax(0) for weight in weights[value]]).amax(0) for value in seen}
    errors = {value: dict.fromkeys((0.0, *strengths), 0.0) for value in seen}
    for batch in measured(batches):
        for value, tensor in evaluate_all(graph, batch):
            if value not in seen or not tensor.numel():
                continue
            for number, fold in enumerate(split_samples(tensor, -1)):
                extremes, rows = seen[value].without(number), _some_rows(fold)
                for strength in errors[value]:
                    by = torch.ones_like(columns[value])
                    if strength:
                        by = smoothing_scales(extremes.largest, columns[value], strength)
                    quantization: Rounding = dynamic.get(value) or extremes.range(by)
                    rounded = _some_rows(quantization.rounded(fold / by))
                    for weight in weights[value]:
                        found, expected = rounded @ _rounded_weight(weight * by, per_channel).T, rows @ weight.T
                        errors[value][strength] += squared_norm(found - expected) / (squared_norm(expected) or 1.0)
    best = {value: min(strengths, key=errors[value].__getitem__) for value in seen}
    return {
        value: Smoothing(
            strength,
            smoothing_scales(seen[value].together.largest, columns[value], strength),
            errors[value][strength],
            errors[value][0.0],
        )
        for value, strength in best.items()
    }


def _some_rows(operand: torch.Tensor) -> torch.Tensor:
    """At most `MEASURED_ROWS` rows of an operand, distributed evenly."""
    rows = operand.reshape(-1, operand.shape[-1])
    return rows[:: -(-len(rows) // MEASURED_ROWS)]


def _rounded_weight(weight: torch.Tensor, per_channel: bool) -> torch.Tensor:
    """Quantize a weight to int8 and dequantize it."""
    largest = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().amax()
    step = (largest / 127).clamp(min=1e-30)
    return (weight / step).round() * step
