"""Remarks of `quant` on layers with quantized weights, and on layers that `fold` can remove."""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType

from archc.analysis.layers import Layer
from archc.compression.quantization.ranges import Range
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

from ._int8_weights import StoredWeights
from ._schemes import Scheme
from .fold import foldable

_METHODS = {"gptq": "by GPTQ", "rtn": "to nearest", "training": "in training"}


def remark_on_foldable(graph: Graph, context: Context, quantized: Set[Node]) -> None:
    """Add a note if `fold` can remove operators after quantized layers, which stay in floats."""
    titles = [norm.title for norm, layer in foldable(graph) if layer in quantized]
    if titles:
        others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        context.note(
            graph.name, f'`fold` can remove `{titles[0]}`{others}: run it before `quant`, `--passes "fold, quant"`'
        )


def remark_on_layer(
    context: Context, layer: Layer, scheme: Scheme, received: list[Range], stored: StoredWeights
) -> None:
    """Add the remark on a layer that `quant` quantizes in a scheme.

    Args:
        received: ranges of its operands, if they are constant.
    """
    seen = "".join(f", operand range {span.low:.4g} to {span.high:.4g}" for span in dict.fromkeys(received))
    figures: dict[str, float | int | str] = {"scheme": scheme}
    if received:
        figures |= {"low": round(received[0].low, 6), "high": round(received[0].high, 6)}
    remark_on_weights(context, layer, stored, f"{scheme}: ", seen, figures)


def remark_on_weights(
    context: Context,
    layer: Layer,
    stored: StoredWeights,
    scheme: str = "",
    seen: str = "",
    figures: Mapping[str, float | int | str] = MappingProxyType({}),
) -> None:
    """Add the remark on a layer with stored weights.

    Args:
        scheme: text before that on the weights.
        seen, figures: text after it and further figures.
    """
    where = "weight" if stored.count == 1 else f"{stored.count} weights"
    noise = effect_text(stored.snr_db, stored.output_error)
    size = "" if stored.after == stored.before else f", {stored.before:,} bytes of weights become {stored.after:,}"
    how = f"{stored.formats} {_METHODS[stored.method]}"
    message = f"{scheme}{how}, {stored.error:.2%} error in the {where}{noise}{size}{seen}"
    context.rewrote(
        layer.path,
        message,
        format=stored.formats,
        method=stored.method,
        bytes_before=stored.before,
        bytes_after=stored.after,
        error=round(stored.error, 6),
        **effect_figures(stored.snr_db, stored.output_error),
        **figures,
    )


def remark_on_nearest(context: Context, layer: Layer, reason: str) -> None:
    """Note the reason why the calibration data do not choose the integers of a layer."""
    context.note(layer.path, f"rounded to nearest: {reason}")


def effect_text(snr_db: float | None, output_error: float | None) -> str:
    """Text for the effect of a layer, to append to a remark; see `LayerEffect`."""
    ratio = "" if snr_db is None else f", signal-to-noise ratio {snr_db:.1f} dB"
    return ratio if output_error is None else f"{ratio}, {output_error:.1e} squared error of the outputs"


def effect_figures(snr_db: float | None, output_error: float | None) -> dict[str, float]:
    """Figures of the effect of a layer, for its remark."""
    figures = {} if snr_db is None else {"snr_db": round(snr_db, 2)}
    return figures if output_error is None else {**figures, "output_error": output_error}


def error_change(share: float) -> str:
    """Text for the squared error of a result as a share of that before a rewrite."""
    return f"the squared error of the result {'falls' if share < 1 else 'rises'} to {share:.0%}"
