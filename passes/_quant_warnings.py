"""Warnings of `quant` where it did less than its options ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archc.analysis.layers import Layer
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.passmanager.effect_warnings import EXPLAIN
from archc.types.storage.weight import Weight

from ._int8_weights import Obstacles
from ._recurrent_operands import computes_in_integers, quantizes_inside
from ._schemes import Scheme


def warn_of_float_operands(context: Context, step: str, schemes: Mapping[Layer, Scheme]) -> None:
    """Warn if no layer has quantized operands, although layers with kernels for them were quantized.

    Args:
        step: text of the pass.
        schemes: the quantized layers with their schemes.
    """
    possible = [layer for layer in schemes if quantizes_inside(layer) or {*layer.quantizable.schemes} - {"weight"}]
    if possible and not any(schemes[layer] != "weight" or computes_in_integers(layer) for layer in possible):
        context.diagnostics.warn(
            "operands-in-floats",
            f"`{step}` quantized weights only: 0 of {len(possible)} layers compute in integers",
            help=EXPLAIN,
        )


def warn_of_float_weights(
    graph: Graph, context: Context, step: str, obstacles: Obstacles, wanted: Callable[[str], bool]
) -> None:
    """Warn of weights that stay in floats in the storage that an earlier pass or the text gave them.

    Args:
        step: text of the pass.
        wanted: the selected layers, by path.
    """
    layers = {
        layer: weights[0]
        for layer, reasons in obstacles.items()
        if wanted(layer.path)
        and (weights := [weight for name in reasons if _in_floats(weight := graph.weights[layer.weights[name]])])
    }
    if layers:
        (first, weight), *others = layers.items()
        more = f" and of {len(others)} more" if others else ""
        context.diagnostics.warn(
            "storage-not-quantized",
            f"`{step}` left weights of `{first.path}`{more} in floats: they are stored as `{weight.storage}`",
            help="to quantize them, exclude the layer from the pass that stored them, for instance with"
            f' `keep = "{first.path}"`',
        )


def warn_of_nearest(context: Context, step: str) -> None:
    """Warn of layers that were rounded to nearest, after options that ask for GPTQ."""
    rewritten = [remark for remark in context.remarks if remark.kind == "rewrote" and "method" in remark.figures]
    nearest = [remark.layer for remark in rewritten if remark.figures["method"] == "rtn"]
    if nearest:
        context.diagnostics.warn(
            "plain-method",
            f"`{step}` rounded the weights of {len(nearest)} of {len(rewritten)} layers to nearest, such as those"
            f" of `{nearest[0]}`",
            help=EXPLAIN,
        )


def _in_floats(weight: Weight) -> bool:
    """Return whether a weight is stored as other tensors in floats, such as the factors of `low_rank`."""
    tensors = weight.storage.tensors("", weight.shape, weight.dtype).values()
    return not weight.storage.elementwise and all(dtype == weight.dtype for _, dtype in tensors)
