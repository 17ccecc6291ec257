"""Quantize layers to int8."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archc.ir.graph import Graph, Node, Value
from archc.passmanager import FLOAT_WEIGHTS, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute

from ._int8_weights import StoredWeights, minimum_scales, obstacles, store_as_int8
from ._layers import Layer, Work, layers_with_weights, work_at
from ._observers import Range, observe
from ._quantize_dequantize import QdqInserter, integer_producer, linked_by_integers, results_to_quantize

Scheme = Literal["static", "dynamic", "weight"]

LEAST = {"static": 100_000, "dynamic": 250_000, "weight": 0}
"""Multiply-adds a sample below which a linear layer costs less than quantizing its operand, by scheme.

Measured by `benchmarks.int8_models --widths`, at batch 1.  In ONNX Runtime, int8 makes perceptrons of width 256 slower
and those of 384 more than twice as fast.  In PyTorch, those of 256 are no faster, those of 384 slightly, and those of
512 by half.  PyTorch computes a dynamic range by an extra call for each layer, which pays from width 512 on.
"""

LEAST_OF_KERNELS_THAT_ROUND = 65_536
"""The same for a layer whose kernels give integers: what it receives is rounded already more often than not."""

LEAST_ALONE = 200_000
"""The same, in the scheme `static`, for a linear layer that neither receives integers nor hands them on.

Measured by `benchmarks.int8_models --widths 384 512 --between tanh`: at batch 1 in PyTorch perceptrons of width 384
became slower, and those of 512 faster.  ONNX Runtime gains from 384 on, which `least` can ask for.
"""

LONELY = 1_000_000
"""Multiply-adds a sample below which a convolution does not pay that gives its integers to no other such layer.

Measured with ONNX Runtime on one core: LeNet-5, whose convolutions of 120,000 and 240,000 each end in a `tanh`, ran
half as fast with them in integers; those of ResNet-18 have ten times as many, and gain.
"""


@dataclass(frozen=True)
class Quant(Pass):
    """Quantize layers to int8.

    Weights become signed integers with a scale: w ≈ s·q, s = max|w| / 127, one s for each output channel, so the
    error of an element is at most s/2.  The operands of layers become unsigned integers, x ≈ s·(q - z), in one
    of three schemes:

    - `static`: s and z are constants, from the range of x over the calibration data.  The fastest; the
      text shows a `quantize` and a `dequantize` before each layer.
    - `dynamic`: s and z are computed from x whenever the model runs.  Needs no data, and follows inputs that vary.
    - `weight`: x stays as it is.  A quarter of the bytes, and no gain in time.

    `observer = "minmax"` takes the whole range seen, `"percentile"` cuts off its ends: finer steps for most numbers,
    at the cost of the few that are clipped.  (Jacob et al. 2018, "Quantization and Training of Neural Networks for
    Efficient Integer-Arithmetic-Only Inference"; Wu et al. 2020, "Integer Quantization for Deep Learning Inference".)

    Some layers get `weight` under any scheme: those without integer kernels for the scheme, such as recurrent layers,
    embeddings, learned tensors, and under `dynamic` convolutions; those with fewer multiply-adds than `least`; small
    convolutions whose integers no other layer uses; and those whose calibration data are all zero.  All weights of a
    recurrent layer become integers.  A learned tensor has its scales along the axis with the smallest error.
    Vectors stay in floats, and so does a weight that is shared with a layer that stays in floats.

    The result of a convolution is quantized as well, unless it flows into another such layer, since its kernels return
    integers.  Biases stay in floats.  If int32 cannot hold a bias in units of the product of the scales of operand and
    weight, the scale of that channel is larger.

    Kernels accumulate exactly on CPUs with VNNI and on GPUs.  On older CPUs, sums of two products saturate at 16
    bits: an emitted PyTorch module computes in floats there; ONNX Runtime needs the session option
    `session.x64quantprecision` = "1", which has no effect at its optimization levels below EXTENDED,
    and with which ONNX Runtime 1.23 refuses models that use an integer layer twice.

    Without `least`, linear layers are rounded from 100,000 multiply-adds on where they follow one another, with at most
    a `relu` between, and from 200,000 on elsewhere: smaller ones are slower in integers in PyTorch, one
    sample at a time.  ONNX Runtime gains from 100,000 on with both: for that, give `least = 100_000`.
    """

    preserves = "approximate"
    ends = (FLOAT_WEIGHTS,)
    effective_with = {
        "percentile": ("observer", ("percentile",)),
        "observer": ("scheme", ("static",)),
        "least": ("scheme", ("static", "dynamic")),
    }
    example = 'quant(int8, keep = "head")'

    format: Literal["int8"] = attribute("int8", doc="what numbers become")
    granularity: Literal["channel", "tensor"] = attribute(
        "channel", doc="one scale for each output channel of a weight, or one for all of it", keyword=True
    )
    scheme: Scheme = attribute("static", doc="where the scale of what a layer receives comes from", keyword=True)
    on: str | tuple[str, ...] | None = attribute(None, doc="the layers to quantize: one glob or several", keyword=True)
    keep: str | tuple[str, ...] | None = attribute(None, doc="the layers to leave alone", keyword=True)
    observer: Literal["minmax", "percentile"] = attribute(
        "minmax", doc="which range of what was seen integers cover", keyword=True
    )
    percentile: float = attribute(
        99.99, doc="how many per cent of the numbers lie below the upper end, and above the lower", keyword=True
    )
    least: int | None = attribute(
        None,
        doc="the multiply-adds a sample for which it pays to round what a linear layer receives; where nothing is "
        f"given, {LEAST['static']:,} in the scheme `static`, {LEAST_ALONE:,} for one alone, and {LEAST['dynamic']:,} "
        "in `dynamic`",
        keyword=True,
    )

    def check(self) -> None:
        if self.least is not None and self.least < 0:
            raise AttributeProblem(
                "bad-option", f"`least` of `quant` must not be below 0, and is {self.least}", "least"
            )
        if not 50 < self.percentile <= 100:
            raise AttributeProblem(
                "bad-option",
                f"`percentile` of `quant` must be above 50 and at most 100, and is {self.percentile}",
                "percentile",
            )

    def run(self, graph: Graph, context: Context) -> None:
        unfit = {layer: obstacles(graph, layer) for layer in layers_with_weights(graph)}
        schemes = self._schemes(graph, context, unfit)
        results, ranges = self._calibrate(graph, context, schemes)
        received = {
            layer: [ranges[node.operands[0]] for node in layer.nodes if node.operands[0] in ranges]
            for layer, scheme in schemes.items()
            if scheme == "static"
        }
        inserter = QdqInserter(graph, context, ranges)
        for value, node in results.items():
            inserter.result(value, node)
        for node in (node for layer, scheme in schemes.items() if scheme != "weight" for node in layer.nodes):
            inserter.operand(node)
        least = minimum_scales(graph, schemes)
        for layer, scheme in schemes.items():
            names = [name for name in layer.weights if name not in unfit[layer]]
            stored = store_as_int8(graph, context, layer, names, self.granularity == "channel", least)
            _remark(context, layer, scheme, received.get(layer, []), stored)

    def _calibrate(
        self, graph: Graph, context: Context, schemes: dict[Layer, Scheme]
    ) -> tuple[dict[Value, Node], dict[Value, Range]]:
        """Results to quantize, and quantization ranges; layers without a range change their scheme or are removed."""
        told = context.calibration.real
        while True:
            static = [node for layer, scheme in schemes.items() if scheme == "static" for node in layer.nodes]
            results = results_to_quantize(graph, static)
            if static and not told:
                context.note(graph.name, "calibrated on random inputs: give calibration data for ranges that are real")
                told = True
            ranges = self._ranges(graph, context, [*(node.operands[0] for node in static), *results])
            layers = [layer for layer, scheme in schemes.items() if scheme == "static"]
            seen = {layer: _ranges_of(layer, results, ranges) for layer in layers}
            if not _demote(context, schemes, seen):
                return results, ranges

    def _ranges(self, graph: Graph, context: Context, values: list[Value]) -> dict[Value, Range]:
        percentile = self.percentile if self.observer == "percentile" else None
        seen = observe(graph, values, context.calibration, percentile) if values else {}
        return {value: seen.get(value, Range(math.nan, math.nan)) for value in values}

    # Which layers -----------------------------------------------------------------------------------------

    def _schemes(
        self, graph: Graph, context: Context, obstacles: Mapping[Layer, Mapping[str, str]]
    ) -> dict[Layer, Scheme]:
        """The layers to quantize, in order, each with its scheme; remarks on the others."""
        wanted = select(graph, self.on, self.keep)
        work = work_at(graph, context.sizes)
        inapplicable = {layer.path: self._obstacle(layer, found) for layer, found in obstacles.items()}
        reasons = {
            path: "not selected" if reason is None and not wanted(path) else reason
            for path, reason in inapplicable.items()
        }
        schemes: dict[Layer, Scheme] = {}
        static: set[Node] = set()
        for layer in obstacles:
            reason = reasons[layer.path]
            if reason is None:
                stays = [other for other in layer.sharing if reasons.get(other, "it has another role") is not None]
                reason = f"it shares its weight with `{stays[0]}`, which stays as it is" if stays else None
            if inapplicable[layer.path] is not None:
                context.inapplicable(layer.path, inapplicable[layer.path] or "")
                continue
            if reason is not None:
                context.left(layer.path, reason)
                continue
            schemes[layer] = self._scheme_for(layer, work(layer.node), static)
            if schemes[layer] == "static":
                static.update(layer.nodes)
        while lonely := self._lonely(graph, schemes, work):
            schemes |= dict.fromkeys(lonely, "weight")
        for layer, scheme in schemes.items():
            amount = work(layer.node)
            if scheme != self.scheme and self.scheme in layer.op.integer_schemes:
                context.note(layer.path, f"`{self.scheme}` would not pay for its {amount:,} multiply-adds")
            elif scheme != self.scheme and amount:
                context.note(layer.path, f"`{layer.op.name}` has no integer kernels in the scheme `{self.scheme}`")
            for reason in obstacles[layer].values():
                context.note(layer.path, reason)
        return schemes

    def _lonely(self, graph: Graph, schemes: Mapping[Layer, Scheme], work: Work) -> list[Layer]:
        """The static layers that are not worth the change from floats to integers and back."""
        static = [layer for layer, scheme in schemes.items() if scheme == "static"]
        nodes = {node: None for layer in static for node in layer.nodes}
        rounding = set(results_to_quantize(graph, nodes).values())
        lonely = [layer for layer in static if work(layer.node) < LONELY and not rounding.isdisjoint(layer.nodes)]
        if self.least is None:
            small = [layer for layer in static if not layer.op.integer_result and work(layer.node) < LEAST_ALONE]
            linked = linked_by_integers(nodes)
            lonely += [layer for layer in small if linked.isdisjoint(layer.nodes)]
        return lonely

    def _obstacle(self, layer: Layer, obstacles: Mapping[str, str]) -> str | None:
        """The reason why a layer stays in floats, whatever is selected, or None.

        Args:
            obstacles: the weights that cannot become integers, by name, each with the reason.
        """
        if not layer.op.integer_schemes:
            return f"`{layer.op.name}` has no integer form"
        if not layer.weights:
            return "its weight is a vector: in int8 each element would need its own scale"
        return next(iter(obstacles.values())) if len(obstacles) == len(layer.weights) else None

    def _scheme_for(self, layer: Layer, work: int, static: set[Node]) -> Scheme:
        """The scheme of a layer that has no obstacle.

        Args:
            work: its multiply-adds; static: the nodes of the layers before it that have that scheme.
        """
        if self.scheme not in layer.op.integer_schemes:
            return "weight"
        least = LEAST[self.scheme] if self.least is None else self.least
        if layer.op.integer_result:
            least = min(least, LEAST_OF_KERNELS_THAT_ROUND)
        if work >= least or (self.scheme == "static" and all(integer_producer(node, static) for node in layer.nodes)):
            return self.scheme
        return "weight"


def _ranges_of(layer: Layer, results: Mapping[Value, Node], ranges: Mapping[Value, Range]) -> list[Range]:
    """The ranges of a layer's quantized operands and results."""
    made = [ranges[value] for value, node in results.items() if node in layer.nodes]
    return [ranges[node.operands[0]] for node in layer.nodes] + made


def _demote(context: Context, schemes: dict[Layer, Scheme], seen: Mapping[Layer, list[Range]]) -> bool:
    """Change or remove the scheme of layers without a quantization range; return whether there are any."""
    unclear = {layer: spans for layer, spans in seen.items() if any(not one.finite or one.empty for one in spans)}
    for layer, spans in unclear.items():
        if all(one.finite for one in spans):
            schemes[layer] = "weight"
            context.note(layer.path, "its calibration data are all zero: scheme `weight`")
        else:
            del schemes[layer]
            context.left(layer.path, "the calibration data gave no finite range for it")
    return bool(unclear)


def _remark(context: Context, layer: Layer, scheme: Scheme, received: list[Range], stored: StoredWeights) -> None:
    seen = "".join(f", receives {span.low:.4g} to {span.high:.4g}" for span in dict.fromkeys(received))
    figures: dict[str, float | int | str] = {
        "scheme": scheme,
        "bytes_before": stored.before,
        "bytes_after": stored.after,
        "error": round(stored.error, 6),
    }
    if received:
        figures |= {"low": round(received[0].low, 6), "high": round(received[0].high, 6)}
    where = "weight" if len(layer.weights) == 1 else f"{len(layer.weights)} weights"
    context.rewrote(layer.path, f"{scheme}: {stored.error:.2%} error in the {where}{seen}", **figures)
