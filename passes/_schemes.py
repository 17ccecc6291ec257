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
        never = {layer.path: _no_integer_form(layer) for layer in obstacles}
        reasons = {
            layer.path: never[layer.path] or (_obstacle(layer, found) if wanted(layer.path) else "not selected")
            for layer, found in obstacles.items()
        }
        schemes: dict[Layer, Scheme] = {}
        static: set[Node] = set()
        for layer in obstacles:
            reason = reasons[layer.path]
            if reason is None:
                stays = [other for other in layer.sharing if reasons.get(other, "it has another role") is not None]
                reason = f"it shares its weight with `{stays[0]}`, which is not quantized" if stays else None
            if reason is not None:
                (context.left if never[layer.path] is None else context.inapplicable)(layer.path, reason)
                continue
            schemes[layer] = self._scheme_for(graph, layer, work(layer.node), static)
            if schemes[layer] == "static":
                static.update(layer.nodes)
        static_layers = [layer for layer, scheme in schemes.items() if scheme == "static"]
        head = float_head(graph, static_layers, work) if self.least is None else []
        schemes |= dict.fromkeys(head, "weight")
        alone: dict[Layer, int] = {}
        while isolated := _isolated(graph, schemes, work, self.break_even.isolated):
            alone |= isolated
            schemes |= dict.fromkeys(isolated, "weight")
        for layer, scheme in schemes.items():
            amount = work(layer.node)
            if layer in head:
                context.note(layer.path, "a last layer of few multiply-adds is more accurate in floats")
            elif scheme != asked and asked in layer.quantizable.schemes:
                few = (
                    self._between_floats(amount, alone[layer]) if layer in alone else self._few(context, layer, amount)
                )
                context.note(layer.path, f"`{asked}` would be slower: {few}")
            elif scheme != asked and amount and not quantizes_inside(layer):
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
        if self.scheme == "weight" or self.scheme not in layer.quantizable.schemes:
            return "weight"
        if work >= self._least(layer)[0]:
            return self.scheme
        if self.scheme == "static" and all(integer_producer(graph, node, static) for node in layer.nodes):
            return self.scheme
        return "weight"

    def _least(self, layer: Layer) -> tuple[int, str | None]:
        """Multiply-adds from which a layer is quantized if its operand is in floats.

        The second result is the attribute of `BreakEven` with this limit; None for the option `least`.
        """
        given = self.least
        limits: list[tuple[int, str | None]] = [
            (getattr(self.break_even, self.scheme), self.scheme) if given is None else (given, None)
        ]
        if layer.quantizable.integer_result:
            limits.append((self.break_even.integer_result, "integer_result"))
        return min(limits, key=lambda limit: limit[0])

    def _few(self, context: Context, layer: Layer, work: int) -> str:
        """Reason why the multiply-adds of a layer are too few."""
        least, limit = self._least(layer)
        if limit is None:
            return f"it has {work:,} multiply-adds, fewer than `least = {least}`"
        targets = context.targets.break_even.items()
        names = " and ".join(f'`for = "{name}"`' for name, each in targets if getattr(each, limit) == least)
        way = "" if layer.quantizable.integer_result else "; `least = 0` quantizes its operand"
        return f"it has {work:,} multiply-adds, fewer than {least:,}, the limit of {names}{way}"

    def _between_floats(self, own: int, work: int) -> str:
        """Reason why an isolated group of layers has too few multiply-adds.

        Args:
            own, work: multiply-adds of a layer, and of its group.
        """
        group = "it has" if own == work else "it and its integer neighbours have"
        return f"between floats, {group} {work:,} multiply-adds, fewer than {self.break_even.isolated:,}"


def _no_integer_form(layer: Layer) -> str | None:
    """Reason why no layer of this kind can have int8 weights, or None."""
    if not layer.quantizable.schemes:
        return f"`{layer.op.name}` has no integer form"
    if not layer.weights:
        return "its weight is a vector: in int8 each element would need its own scale"
    return None


def _obstacle(layer: Layer, obstacles: Mapping[str, str]) -> str | None:
    """Reason why all weights of a layer stay as they are, or None.

    Args:
        obstacles: the weights that cannot become integers, by name, each with the reason.
    """
    return next(iter(obstacles.values())) if len(obstacles) == len(layer.weights) else None


def _isolated(graph: Graph, schemes: Mapping[Layer, Scheme], work: Work, least: int) -> dict[Layer, int]:
    """Static convolutions for which the conversions from and to floats take longer than int8 saves.

    Each has the multiply-adds of its group.

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
    isolated: dict[Node, int] = {}
    for group in connected(graph, integer):
        total = sum(work(node) for node in group)
        if total < least and not rounding.isdisjoint(group):
            isolated |= dict.fromkeys((node for node in group if returns_integers(node)), total)
    found = {layer: [isolated[node] for node in layer.nodes if node in isolated] for layer in static}
    return {layer: totals[0] for layer, totals in found.items() if totals}
