"""What training needs and inference does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.ir.graph import Graph, Node
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import attribute
from archc.types.extent_solver import Solution
from archc.types.signature import Apply, Axis, Index, Pattern

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fold(Pass):
    """Fold batch norm into the layer beside it, and drop dropout: the inference meaning, for inference.

    In inference a batch norm multiplies each channel by a number and adds another.  A convolution (also a transposed
    one) or a linear layer before it can do that itself:

        scale · (W x + b) + shift = (scale · W) x + (scale · b + shift)

    and so can a linear layer behind it: W (scale · x + shift) + b = (W · scale) x + (W shift + b).  A convolution
    behind it cannot: the zeros that it pads with are not shifted.  The new weights are computed in float64; the layer
    keeps its name, and gets a bias if it had none.

    A batch norm stays where the value between the two is used elsewhere too, and where the layer's weights belong
    to more than one node.  The result is a network to use, not to train further.
    """

    preserves = "rounding"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    example = "fold -> quant(int8)"

    on: str | tuple[str, ...] | None = attribute(None, doc="the layers to fold away: one glob or several", keyword=True)
    keep: str | tuple[str, ...] | None = attribute(None, doc="the layers to leave alone", keyword=True)

    def run(self, graph: Graph, context: Context) -> None:
        wanted = select(graph, self.on, self.keep)
        nodes = graph.nodes()
        owners: dict[str, list[Node]] = {}
        for node in nodes:
            for path in node.weights.values():
                owners.setdefault(path, []).append(node)
        for node in nodes:
            if node.op.inference_identity:
                if wanted(node.title):
                    context.rewriter.replace(node, node.operands)
                    context.rewrote(node, "removed: in inference it passes on what it receives")
                else:
                    context.left(node, "not selected")
            found = node.op.channel_map(_Values(graph, node)) if node.weights else None
            if found is None:
                continue
            if wanted(node.title):
                self._fold(graph, context, node, found, owners)
                continue
            obstacle = _obstacle_before(graph, node, owners)
            if obstacle is not None and _obstacle_behind(graph, node, owners) is not None:
                context.inapplicable(node, obstacle)
            else:
                context.left(node, "not selected")

    def _fold(
        self, graph: Graph, context: Context, node: Node, found: tuple[Array, Array], owners: Mapping[str, list[Node]]
    ) -> None:
        before = node.operands[0].producer
        obstacle = _obstacle_before(graph, node, owners)
        if obstacle is None and before is not None:
            _set(graph, context, before, *_into_result(graph, before, *found))
            context.rewriter.replace(node, before.results)
            context.rewrote(node, f"folded into `{before.title}` before it")
            return
        behind = graph.consumers(node.result)
        if _obstacle_behind(graph, node, owners) is None:
            _set(graph, context, behind[0], *_into_operand(graph, behind[0], *found))
            context.rewriter.replace(node, node.operands)
            context.rewrote(node, f"folded into `{behind[0].title}` behind it")
            return
        context.inapplicable(node, obstacle or "")


# Where it can go ----------------------------------------------------------------------------------------------


def _obstacle_before(graph: Graph, node: Node, owners: Mapping[str, list[Node]]) -> str | None:
    """Why a batch norm does not go into the layer before it, or None."""
    value = node.operands[0]
    before = value.producer
    if before is None:
        return "nothing is before it that could take it"
    if not before.op.affine_in_weight:
        return f"`{before.title}` before it is no layer that could take it"
    if len(graph.consumers(value)) != 1 or graph.is_output(value):
        return f"the result of `{before.title}` is used elsewhere too"
    if not Channels.of_result(before).weighted:
        return f"its channels are not those of the weight of `{before.title}`"
    return _weights_obstacle(graph, before, owners)


def _obstacle_behind(graph: Graph, node: Node, owners: Mapping[str, list[Node]]) -> str | None:
    """Why a batch norm does not go into the layer behind it, or None."""
    behind = graph.consumers(node.result)
    if len(behind) != 1 or graph.is_output(node.result) or not behind[0].op.affine_in_weight:
        return "there is no single layer behind it that could take it"
    channels = Channels.of_operand(behind[0])
    windows = behind[0].op.infer(behind[0].types).solution.signature.results[0].axes
    if not channels.weighted or any(isinstance(factor, Apply) for axis in windows for factor in axis.factors):
        return f"`{behind[0].title}` does not treat all elements of a channel alike"
    return _weights_obstacle(graph, behind[0], owners)


def _weights_obstacle(graph: Graph, layer: Node, owners: Mapping[str, list[Node]]) -> str | None:
    if layer.transposed:
        return f"`{layer.title}` has a weight of another layer, transposed"
    for path in layer.weights.values():
        users = owners.get(path, ())  # a bias made here has none
        if len(users) > 1:
            other = next((node.title for node in users if node is not layer and node.title != layer.title), None)
            return f"`{layer.title}` is used more than once" if other is None else f"`{other}` has `{path}` too"
        if not graph.weights[path].storage.elementwise:
            return f"`{path}` is stored as {graph.weights[path].storage}"
    return None


# What becomes of the weights ----------------------------------------------------------------------------------


def _into_result(graph: Graph, layer: Node, scale: Array, shift: Array) -> tuple[Array, Array]:
    """Weight and bias of a layer that scales and shifts the channels of its own result."""
    weights = _Values(graph, layer)
    weight = Channels.of_result(layer).scaled(weights["weight"], scale)
    return weight, weights.get("bias", 0.0) * scale + shift


def _into_operand(graph: Graph, layer: Node, scale: Array, shift: Array) -> tuple[Array, Array]:
    """Weight and bias of a layer that scales and shifts the channels of its own operand."""
    weights = _Values(graph, layer)
    channels = Channels.of_operand(layer)
    weight = channels.scaled(weights["weight"], scale)
    shifted = channels.summed(weights["weight"], shift, Channels.of_result(layer).axis)
    return weight, weights.get("bias", 0.0) + shifted


def _set(graph: Graph, context: Context, layer: Node, weight: Array, bias: Array) -> None:
    if "bias" not in layer.weights:
        biased = replace(layer.op, bias=True)  # type: ignore[call-arg]  # the layers to fold into have it
        context.rewriter.set_operator(layer, biased)
    for name, values in (("weight", weight), ("bias", bias)):
        path = layer.weights[name]
        dtype = graph.weight_values(layer.weights["weight"]).dtype
        context.rewriter.set_weight(path, np.ascontiguousarray(values).astype(dtype))


@dataclass(frozen=True)
class _Values(Mapping[str, Array]):
    """A layer's parameters by name, in float64; each is read when it is asked for."""

    graph: Graph
    node: Node

    def __getitem__(self, name: str) -> Array:
        values: Array = self.graph.weight_values(self.node.weights[name]).astype(np.float64)
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.node.weights)

    def __len__(self) -> int:
        return len(self.node.weights)


class Channels:
    """The channels of a layer's result or operand (axis 1), and the elements of its weight that belong to each.

    The signature tells: `y[n, g*o, …]` and `weight[g*i, o, …]` share g and o, so channel g·o of a grouped transposed
    convolution belongs to certain elements of two axes of its weight.
    """

    def __init__(self, solution: Solution, of: Pattern):
        self._solution = solution
        self._weight = solution.signature.operand("weight")
        self.axis = of.axes[1]

    @classmethod
    def of_result(cls, node: Node) -> Channels:
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.results[0])

    @classmethod
    def of_operand(cls, node: Node) -> Channels:
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.operands[0])

    @property
    def weighted(self) -> bool:
        """Whether every channel has elements of the weight of its own."""
        inner = _names(self._weight)
        return all(isinstance(f, Index) and f.name in inner for f in self.axis.factors) and len(self.axis.terms) == 1

    def scaled(self, weight: Array, scale: Array) -> Array:
        """The weight with the elements of each channel multiplied by that channel's number."""
        products: Array = self._split(weight) * self._spread(scale)
        return products.reshape(weight.shape)

    def summed(self, weight: Array, numbers: Array, result: Axis) -> Array:
        """For each channel of the result the sum of its weights, each times the number of its channel here."""
        kept = _factor_names(result)
        products: Array = self._split(weight) * self._spread(numbers)
        others = tuple(place for place, name in enumerate(_names(self._weight)) if name not in kept)
        summed: Array = products.sum(axis=others)
        return summed.reshape(-1)

    def _split(self, weight: Array) -> Array:
        return weight.reshape([self._extent(name) for name in _names(self._weight)])

    def _spread(self, vector: Array) -> Array:
        """A number for each channel, with its axes where the split weight has them."""
        own, inner = _factor_names(self.axis), _names(self._weight)
        parts = vector.reshape([self._extent(name) for name in own])
        order = sorted(own, key=inner.index)
        parts = parts.transpose([own.index(name) for name in order])
        return np.ascontiguousarray(parts).reshape([self._extent(name) if name in own else 1 for name in inner])

    def _extent(self, name: str) -> int:
        size = self._solution.extents[name]
        assert isinstance(size, int), "the sizes of weights are known"
        return size


def _names(pattern: Pattern) -> list[str]:
    return [name for axis in pattern.axes for name in _factor_names(axis)]


def _factor_names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]
