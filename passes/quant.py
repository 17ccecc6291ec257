"""Numbers of eight bits for numbers of thirty-two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from archc.ir.attributes import AttributeProblem, attribute
from archc.ir.graph import Graph, Node, Value
from archc.ir.storage import Dense, Int8
from archc.ir.types import DType
from archc.ops.quantize import Dequantize, Quantize
from archc.passes._calibrate import Range, observe
from archc.passes._layers import Layer, Names, layers_with_weight
from archc.passmanager import Context, Pass, select

_ELSEWHERE = "has the weight in another role"


@dataclass(frozen=True)
class Quant(Pass):
    """Compute layers in integers of eight bits.

    Weights become signed integers with a scale: w ≈ s·q, s = max|w| / 127, one s for each output channel, so the
    error of an element is at most s/2.  What the layers receive becomes unsigned integers, x ≈ s·(q - z), in one
    of three schemes:

    - `static`: s and z are constants, from the range that x has over the calibration data.  The fastest; the
      text shows a `quantize` and a `dequantize` before each layer.
    - `dynamic`: s and z are computed from x whenever the model runs.  Needs no data, and follows inputs that vary.
    - `weight`: x stays as it is.  A quarter of the bytes, and no gain in time.

    `observer = "minmax"` takes the whole range seen, `"percentile"` cuts off its ends: finer steps for most numbers,
    at the cost of the few that are clipped.  (Jacob et al. 2018, "Quantization and Training of Neural Networks for
    Efficient Integer-Arithmetic-Only Inference"; Wu et al. 2020, "Integer Quantization for Deep Learning Inference".)

    A layer is left alone where the scheme would make it slower than it is, and where its weight belongs to a
    layer that stays as it is.
    """

    preserves = "approximate"
    example = 'quant(int8, keep = "head")'

    format: Literal["int8"] = attribute("int8", doc="what numbers become")
    granularity: Literal["channel", "tensor"] = attribute(
        "channel", doc="one scale for each output channel of a weight, or one for all of it", keyword=True
    )
    scheme: Literal["static", "dynamic", "weight"] = attribute(
        "static", doc="where the scale of what a layer receives comes from", keyword=True
    )
    on: str | tuple[str, ...] | None = attribute(None, doc="the layers to quantize: one glob or several", keyword=True)
    keep: str | tuple[str, ...] | None = attribute(None, doc="the layers to leave alone", keyword=True)
    observer: Literal["minmax", "percentile"] = attribute(
        "minmax", doc="which range of what was seen integers cover", keyword=True
    )
    percentile: float = attribute(
        99.99, doc="how many per cent of the numbers lie below the upper end, and above the lower", keyword=True
    )

    def check(self) -> None:
        if not 50 < self.percentile <= 100:
            raise AttributeProblem(
                "bad-option",
                f"`percentile` of `quant` must be above 50 and at most 100, and is {self.percentile}",
                "percentile",
            )

    def run(self, graph: Graph, context: Context) -> None:
        layers = self._eligible(graph, context)
        ranges = self._ranges(graph, context, layers)
        names = Names(graph)
        decoded: dict[Value, Value] = {}
        for layer in layers:
            if any(not ranges[node.operands[0]].finite for node in layer.nodes if node.operands[0] in ranges):
                context.left(layer.path, "it receives numbers that are not finite")
                continue
            received = [ranges[node.operands[0]] for node in layer.nodes if node.operands[0] in ranges]
            before, after, error = self._store(graph, context, layer)
            if self._scheme_for(layer) != "weight":
                for node in layer.nodes:
                    value = node.operands[0]
                    if value not in decoded:
                        decoded[value] = self._insert(context, names, node, ranges.get(value))
                    context.rewriter.set_operands(node, (decoded[value], *node.operands[1:]))
            self._remark(context, layer, received, before, after, error)

    def _ranges(self, graph: Graph, context: Context, layers: list[Layer]) -> dict[Value, Range]:
        """The range of each value that a statically quantized layer receives."""
        nodes = [node for layer in layers if self._scheme_for(layer) == "static" for node in layer.nodes]
        if not nodes:
            return {}
        if not context.calibration.real:
            context.note(graph.name, "calibrated on random inputs: give calibration data for ranges that are real")
        percentile = self.percentile if self.observer == "percentile" else None
        return observe(graph, (node.operands[0] for node in nodes), context.calibration, percentile)

    # Which layers -----------------------------------------------------------------------------------------

    def _eligible(self, graph: Graph, context: Context) -> list[Layer]:
        """The layers to quantize; remarks on the others."""
        wanted = select(graph, self.on, self.keep)
        layers = layers_with_weight(graph)
        reasons = {layer.path: self._obstacle(graph, layer, wanted(layer.path)) for layer in layers}
        eligible = []
        for layer in layers:
            reason = reasons[layer.path]
            if reason is None:
                stays = [other for other in layer.sharing if reasons.get(other, _ELSEWHERE) is not None]
                reason = f"it shares its weight with `{stays[0]}`, which stays as it is" if stays else None
            if reason is None:
                eligible.append(layer)
            else:
                context.left(layer.path, reason)
        return eligible

    def _obstacle(self, graph: Graph, layer: Layer, wanted: bool) -> str | None:
        """Why a layer stays as it is, as far as it alone is concerned, or None."""
        weight = graph.weights[layer.weight]
        if not wanted:
            return "not selected"
        if weight.storage != Dense():
            return f"its weight is stored as {weight.storage} already"
        if not layer.op.integer_schemes:
            return f"`{layer.op.name}` has no integer form"
        if self._scheme_for(layer) is None:
            fitting = " or ".join(f"`{scheme}`" for scheme in layer.op.integer_schemes)
            return f"the scheme `{self.scheme}` would make `{layer.op.name}` slower than it is: use {fitting}"
        if weight.dtype is not DType.f32:
            return f"its weight is {weight.dtype}, and integer kernels take f32"
        if not np.isfinite(graph.weight_values(layer.weight)).all():
            return "its weight holds numbers that are not finite"
        return None

    def _scheme_for(self, layer: Layer) -> str | None:
        """The scheme of one layer: what multiplies nothing (an embedding) has its weight stored under any scheme."""
        schemes = layer.op.integer_schemes
        return self.scheme if self.scheme in schemes else "weight" if schemes == ("weight",) else None

    # Rewriting --------------------------------------------------------------------------------------------

    def _store(self, graph: Graph, context: Context, layer: Layer) -> tuple[int, int, float]:
        """Store a weight as integers; returns its bytes before and after, and its relative error."""
        path = layer.weight
        before = graph.weights[path].nbytes
        values = graph.weight_values(path)
        if graph.weights[path].storage == Dense():
            context.rewriter.set_storage(path, Int8(layer.op.channel_axis if self.granularity == "channel" else None))
        error = float(np.linalg.norm(graph.weight_values(path) - values))
        return before, graph.weights[path].nbytes, error / (float(np.linalg.norm(values)) or 1.0)

    def _insert(self, context: Context, names: Names, node: Node, received: Range | None) -> Value:
        """Quantize what a node receives, and decode it again; returns the decoded value."""
        rewriter = context.rewriter
        name = names.free(node.scope, quantizer_name(node.name or node.op.name))
        quantize = rewriter.add(Quantize(DType.u8, dynamic=received is None), node.operands[:1], name=name, near=node)
        if received is not None:
            scale, zero_point = received.affine()
            rewriter.set_weight(quantize.weights["scale"], np.asarray(scale, np.float32))
            rewriter.set_weight(quantize.weights["zero_point"], np.asarray(zero_point, np.uint8))
        return rewriter.add(Dequantize(), quantize.results, near=node).result

    def _remark(
        self, context: Context, layer: Layer, received: list[Range], before: int, after: int, error: float
    ) -> None:
        seen = "".join(f", receives {range.low:.4g} to {range.high:.4g}" for range in dict.fromkeys(received))
        figures = {"bytes_before": before, "bytes_after": after, "error": round(error, 6)}
        if received:
            figures |= {"low": round(received[0].low, 6), "high": round(received[0].high, 6)}
        message = f"{self._scheme_for(layer)}: {error:.2%} error in the weight{seen}"
        context.rewrote(layer.path, message, **figures)


def quantizer_name(layer: str) -> str:
    """The name for what quantizes a layer's operand: `fc1_q`, and `hidden_q.0` for an element of a list."""
    stem, dot, number = layer.rpartition(".")
    return f"{stem}_q.{number}" if dot and number.isdigit() else f"{layer}_q"
