"""Choice of the quantization scheme of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archc.analysis.layers import Layer
from archc.ir.graph import Graph, Node
from archc.passmanager import Context, select
from archc.passmanager.targets import BreakEven

from ._float_head import float_head
from ._integer_operators import integer_operators
from ._layers import Work, work_at
from ._quantized_values import connected, integer_producer, reaches, results_to_quantize, returns_integers
from ._recurrent_operands import quantizes_inside

Scheme = Literal["static", "dynamic", "weight"]


@dataclass(frozen=True)
class SchemeChoice:
    """Choice of schemes, by options of `quant`.

    Attributes:
        scheme: the scheme that a layer gets unless another one is faster.
        on, keep: the selectors of layers.
        least: least multiply-adds of a linear layer whose operand is quantized; None for those of `break_even`.
        break_even: least multiply-adds of layers for which int8 is faster.
    """

    scheme: Scheme
    on: str | tuple[str, ...] | None
    keep: str | tuple[str, ...] | None
    least: int | None
    break_even: BreakEven

    def schemes(
        self, graph: Graph, context: Context, obstacles: Mapping[Layer, Mapping[str, str]]
    ) -> dict[Layer, Scheme]:
        """Layers to quantize, in order, each with its scheme; add remarks on all other layers.

        Args:
            obstacles: for each layer, the weights that cannot become integers, by name, each with the reason.
        """
        asked = self.scheme
        wanted = select(graph, self.on, self.keep)
        work = work_at(graph, context.sizes)
        inapplicable = {layer.path: _obstacle(layer, found) for layer, found in obstacles.items()}
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
                reason = f"it shares its weight with `{stays[0]}`, which is not quantized" if stays else None
            if inapplicable[layer.path] is not None:
                context.inapplicable(layer.path, inapplicable[layer.path] or "")
                continue
            if reason is not None:
                context.left(layer.path, reason)
                continue
            schemes[layer] = self._scheme_for(graph, layer, work(layer.node), static)
            if schemes[layer] == "static":
                static.update(layer.nodes)
        static_layers = [layer for layer, scheme in schemes.items() if scheme == "static"]
        head = float_head(graph, static_layers, work) if self.least is None else []
        schemes |= dict.fromkeys(head, "weight")
        while isolated := _isolated(graph, schemes, work, self.break_even.isolated):
            schemes |= dict.fromkeys(isolated, "weight")
        for layer, scheme in schemes.items():
            amount = work(layer.node)
            if layer in head:
                context.note(layer.path, "a last layer of few multiply-adds is more accurate in floats")
            elif scheme != asked and asked in layer.quantizable.schemes:
                context.note(layer.path, f"`{asked}` would be slower for its {amount:,} multiply-adds")
            elif scheme != asked and amount and not (asked == "dynamic" and quantizes_inside(layer)):
                context.note(layer.path, f"`{layer.op.name}` has no integer kernels in the scheme `{asked}`")
            for reason in obstacles[layer].values():
                context.note(layer.path, reason)
        return schemes

    def _scheme_for(self, graph: Graph, layer: Layer, work: int, static: set[Node]) -> Scheme:
        """Scheme of a layer that has no obstacle.

        Args:
            work: multiply-adds of the layer.
            static: nodes of the earlier layers that have the scheme `static`.
        """
        if self.scheme not in layer.quantizable.schemes:
            return "weight"
        least = self.least
        if least is None:
            least = self.break_even.static if self.scheme == "static" else self.break_even.dynamic
        if layer.quantizable.integer_result:
            least = min(least, self.break_even.integer_result)
        if work >= least:
            return self.scheme
        if self.scheme == "static" and all(integer_producer(graph, node, static) for node in layer.nodes):
            return self.scheme
        return "weight"


def _obstacle(layer: Layer, obstacles: Mapping[str, str]) -> str | None:
    """Reason why a layer stays in floats even if it is selected, or None.

    Args:
        obstacles: the weights that cannot become integers, by name, each with the reason.
    """
    if not layer.quantizable.schemes:
        return f"`{layer.op.name}` has no integer form"
    if not layer.weights:
        return "its weight is a vector: in int8 each element would need its own scale"
    return next(iter(obstacles.values())) if len(obstacles) == len(layer.weights) else None


def _isolated(graph: Graph, schemes: Mapping[Layer, Scheme], work: Work, least: int) -> list[Layer]:
    """Static convolutions for which the conversions from and to floats take longer than int8 saves.

    A group of convolutions is isolated if a result is used in floats, for example by a `tanh` or as an output of the
    model.  Clipping, data movement and residual additions between convolutions belong to the group, and an integer
    layer after it makes the conversion unnecessary.

    Args:
        least: multiply-adds from which an isolated group is faster in int8.
    """
    static = [layer for layer, scheme in schemes.items() if scheme == "static"]
    nodes = [node for layer in static for node in layer.nodes]
    integer = {*nodes, *integer_operators(graph, nodes)}
    results = results_to_quantize(graph, [*nodes, *(node for node in integer if node not in nodes)])
    rounding = {node for value, node in results.items() if not reaches(graph, value, integer)}
    small = [
        group
        for group in connected(graph, integer)
        if not rounding.isdisjoint(group) and sum(work(node) for node in group) < least
    ]
    isolated = {node for group in small for node in group if returns_integers(node)}
    return [layer for layer in static if not isolated.isdisjoint(layer.nodes)]
