"""Tables and the figure of `archc sensitivity`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from archc.cli import output
from archc.cli.figures import new_figure, save_figure
from archc.compression.quantization.layer_sensitivity import FormatEffect, LayerSensitivity
from archc.compression.quantization.weight_formats import Format
from archc.driver.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST_FIGURE = 60.0
"""Largest height of the figure, in inches."""

_OPERANDS = (
    "only weights are rounded; `archc compile --passes quant --report html` shows errors with quantized operands"
)


def text(found: Sensitivity) -> str:
    """The tables of all figures, and the layers without a prediction."""
    predicted = [each for each in found.layers if each.reason is None]
    others = [each for each in found.layers if each.reason is not None]
    parts = []
    if predicted:
        sums = [sum(_loss_in(each, name) for each in predicted) for name in found.formats]
        parts += [
            "predicted squared error of the outputs, relative to their mean squares\n"
            + _table(found, predicted, lambda effect: _loss(effect.loss), [["all together", "", *map(_loss, sums)]]),
            "predicted signal-to-noise ratio of the layer's result, in dB\n"
            + _table(found, predicted, lambda effect: _ratio(effect.signal_to_noise)),
        ]
    if found.layers:
        parts.append("bytes of the weights\n" + _bytes(found))
    if any(effect.measured is not None for each in found.layers for effect in each.formats.values()):
        parts.append("measured squared error of the outputs, one layer at a time\n" + _measured(found))
    if others:
        lines = output.columns([[each.layer, each.operator, each.reason or ""] for each in others], indent=2)
        parts.append("\n".join(["layers without a prediction:", *(f"  {line}" for line in lines)]))
    parts.append(_OPERANDS)
    parts.append(_advice(found))
    return "\n\n".join(parts)


def plot(found: Sensitivity, path: Path, title: str) -> None:
    """Plot the losses and the signal-to-noise ratios of all layers into a file (.svg, .png, .pdf).

    A loss without a prediction is the measured one.

    Raises:
        ArchcError: matplotlib is not installed (`plot-needs-matplotlib`), or the file cannot be written.
    """
    layers = [each for each in found.layers if each.formats]
    figure = new_figure(11, min(LONGEST_FIGURE, 1.5 + 0.2 * len(layers)))
    losses, ratios = figure.subplots(1, 2, sharey=True)
    places = range(len(layers))
    for name in found.formats:
        effects = [each.formats.get(name) for each in layers]
        points = [(math.nan, math.nan) if each is None else _point(each) for each in effects]
        losses.plot([loss for loss, _ in points], places, ".", label=name)
        ratios.plot([ratio for _, ratio in points], places, ".", label=name)
    if any(effect.known_loss for each in layers for effect in each.formats.values()):
        losses.set_xscale("log")
    losses.set(yticks=list(places), title="squared error of the outputs (relative)")
    losses.set_yticklabels([each.layer for each in layers], fontsize=7)
    ratios.set(title="signal-to-noise ratio of the layer (dB)")
    losses.invert_yaxis()
    for axes in (losses, ratios):
        axes.grid(alpha=0.3)
    ratios.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    save_figure(figure, path)


def _table(
    found: Sensitivity,
    layers: Sequence[LayerSensitivity],
    cell: Callable[[FormatEffect], str],
    totals: Sequence[Sequence[str]] = (),
) -> str:
    """A row for each layer, with a column for each format."""
    columns: list[tuple[str, output.Align]] = [("layer", "left"), ("operator", "left")]
    columns += [(name, "right") for name in found.formats]
    rows = [
        [each.layer, each.operator, *(_cell(each.formats.get(name), cell) for name in found.formats)] for each in layers
    ]
    return output.table(columns, rows, totals)


def _bytes(found: Sensitivity) -> str:
    columns: list[tuple[str, output.Align]] = [("layer", "left"), ("now", "right")]
    columns += [(name, "right") for name in found.formats]
    layers = [each for each in found.layers if each.bytes]
    rows = [
        [
            each.layer,
            f"{each.bytes:,}",
            *(_cell(each.formats.get(name), lambda effect: f"{effect.bytes:,}") for name in found.formats),
        ]
        for each in layers
    ]
    # A layer stays as it is in a format that does not fit.
    sums = [
        sum(each.formats[name].bytes if name in each.formats else each.bytes for each in layers)
        for name in found.formats
    ]
    total = ["all together", f"{sum(each.bytes for each in layers):,}", *(f"{number:,}" for number in sums)]
    return output.table(columns, rows, [total])


def _measured(found: Sensitivity) -> str:
    columns: list[tuple[str, output.Align]] = [("layer", "left"), ("format", "left")]
    columns += [("predicted", "right"), ("measured", "right")]
    rows = [
        [each.layer, name, _loss(effect.loss), _loss(effect.measured)]
        for each in found.layers
        for name, effect in each.formats.items()
        if effect.measured is not None
    ]
    return output.table(columns, rows)


def _advice(found: Sensitivity) -> str:
    """The layer that hurts most, and the pass that keeps it in floats."""
    worst = found.worst
    name = found.compared
    if worst is None:
        return "no layer has a known loss"
    loss = _loss_in(worst, name)
    total = sum(_loss_in(each, name) for each in found.layers)
    share = f", {loss / total:.0%} of the sum over all layers" if total else ""
    return (
        f"in {name}, `{worst.layer}` hurts most: {_loss(loss)}{share}\n"
        f"to leave it in floats: --passes \"quant({name}, keep = '{worst.layer}')\""
        f"{_correction(found, worst)}"
    )


def _correction(found: Sensitivity, worst: LayerSensitivity) -> str:
    """Text on another layer whose measured loss is the largest of the measured ones; else empty."""
    name = found.compared
    losses = {each.layer: each.formats[name].measured for each in found.layers if name in each.formats}
    measured = {layer: loss for layer, loss in losses.items() if loss is not None}
    most = max(measured, key=lambda layer: measured[layer], default=worst.layer)
    if most == worst.layer or worst.layer not in measured:
        return ""
    return (
        f"\nmeasured, `{most}` hurts more: {_loss(measured[most])}, and `{worst.layer}` {_loss(measured[worst.layer])}"
    )


def _cell(effect: FormatEffect | None, cell: Callable[[FormatEffect], str]) -> str:
    return "-" if effect is None else cell(effect)


def _loss_in(layer: LayerSensitivity, name: Format) -> float:
    """The loss in a format, 0 if it is not known."""
    return layer.formats[name].known_loss or 0.0 if name in layer.formats else 0.0


def _loss(loss: float | None) -> str:
    return "-" if loss is None else "0" if loss == 0 else f"{loss:.1e}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else "exact" if math.isinf(ratio) else f"{ratio:.1f}"


def _point(effect: FormatEffect) -> tuple[float, float]:
    """Coordinates in both panels; NaN for a figure that is not known."""
    loss, ratio = effect.known_loss, effect.signal_to_noise
    return math.nan if loss is None else loss, math.nan if ratio is None or math.isinf(ratio) else ratio
