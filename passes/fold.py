"""Pass `fold`: fold batch norms into adjacent layers and remove dropout."""

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
    """Fold batch norms into adjacent layers and remove dropout, for inference.

    In inference, a batch norm multiplies each channel by a constant and adds a second constant.  A convolution, a
    transposed convolution or a linear layer before the batch norm can absorb both constants:

        scale · (W x + b) + shift = (scale · W) x + (scale · b + shift)

    A linear layer after the batch norm can absorb them, too:
    W (scale · x + shift) + b = (W · scale) x + (W shift + b).  A convolution after the batch norm cannot absorb them,
    because its zero padding is not shifted.  The new weights are computed in float64.  The layer keeps its
    name, and gets a bias if it had none.

    A batch norm stays if the value between layer and batch norm has other uses, or if the weights of the layer belong
    to more than one node.  The resulting network is for inference, not for further training.
    """

    preserves = "rounding"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    example = "fold -> quant(int8)"

    on: str | tuple[str, ...] | None = attribute(
        None, doc="layers to fold or remove: one glob or several", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)

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
                    context.rewrote(node, "removed: it is the identity in inference")
                else:
                    context.left(node, "not selected")
            found = node.op.channel_map(_Values(graph, node)) if node.weights else None
            if found is None:
                continue
            if wanted(node.title):
                self._fold(graph, context, node, found, owners)
                continue
            obstacle = _obstacle_before(graph, node, owners)
            if obstacle is not None and _obstacle_after(graph, node, owners) is not None:
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
        after = graph.consumers(node.result)
        if _obstacle_after(graph, node, owners) is None:
            _set(graph, context, after[0], *_into_operand(graph, after[0], *found))
            context.rewriter.replace(node, node.operands)
            context.rewrote(node, f"folded into `{after[0].title}` after it")
            return
        context.inapplicable(node, obstacle or "")


# Obstacles ----------------------------------------------------------------------------------------------------


def _obstacle_before(graph: Graph, node: Node, owners: Mapping[str, list[Node]]) -> str | None:
    """Reason why a batch norm cannot be folded into the layer before it, or None."""
    value = node.operands[0]
    before = value.producer
    if before is None:
        return "its operand is not the result of a layer"
    if not before.op.affine_in_weight:
        return f"`{before.title}` before it has no weight to fold into"
    if len(graph.consumers(value)) != 1 or graph.is_output(value):
        return f"the result of `{before.title}` has other uses"
    if not Channels.of_result(before).weighted:
        return f"its channels are not an axis of the weight of `{before.title}`"
    return _weights_obstacle(graph, before, owners)


def _obstacle_after(graph: Graph, node: Node, owners: Mapping[str, list[Node]]) -> str | None:
    """Reason why a batch norm cannot be folded into the layer after it, or None."""
    after = graph.consumers(node.result)
    if len(after) != 1 or graph.is_output(node.result) or not after[0].op.affine_in_weight:
        return "it is not followed by a single layer with a weight to fold into"
    channels = Channels.of_operand(after[0])
    windows = after[0].op.infer(after[0].types).solution.signature.results[0].axes
    if not channels.weighted or any(isinstance(factor, Apply) for axis in windows for factor in axis.factors):
        return f"`{after[0].title}` does not treat all elements of a channel alike"
    return _weights_obstacle(graph, after[0], owners)


def _weights_obstacle(graph: Graph, layer: Node, owners: Mapping[str, list[Node]]) -> str | None:
    if layer.transposed:
        return f"`{layer.title}` uses the transposed weight of another layer"
    for path in layer.weights.values():
        users = owners.get(path, ())  # a bias that this pass has added is not in `owners`
        if len(users) > 1:
            other = next((node.title for node in users if node is not layer and node.title != layer.title), None)
            return f"`{layer.title}` is used more than once" if other is None else f"`{other}` shares `{path}`"
        if not graph.weights[path].storage.elementwise:
            return f"`{path}` is stored as {graph.weights[path].storage}"
    return None


# Folded weights -----------------------------------------------------------------------------------------------


def _into_result(graph: Graph, layer: Node, scale: Array, shift: Array) -> tuple[Array, Array]:
    """New weight and bias of a layer that absorbs the scale and shift of its result's channels."""
    weights = _Values(graph, layer)
    weight = Channels.of_result(layer).scaled(weights["weight"], scale)
    return weight, weights.get("bias", 0.0) * scale + shift


def _into_operand(graph: Graph, layer: Node, scale: Array, shift: Array) -> tuple[Array, Array]:
    """New weight and bias of a layer that absorbs the scale and shift of its operand's channels."""
    weights = _Values(graph, layer)
    channels = Channels.of_operand(layer)
    weight = channels.scaled(weights["weight"], scale)
    shifted = channels.summed(weights["weight"], shift, Channels.of_result(layer).axis)
    return weight, weights.get("bias", 0.0) + shifted


def _set(graph: Graph, context: Context, layer: Node, weight: Array, bias: Array) -> None:
    if "bias" not in layer.weights:
        biased = replace(layer.op, bias=True)  # type: ignore[call-arg]  # these layers have an attribute `bias`
        context.rewriter.set_operator(layer, biased)
    for name, values in (("weight", weight), ("bias", bias)):
        path = layer.weights[name]
        dtype = graph.weight_values(layer.weights["weight"]).dtype
        context.rewriter.set_weight(path, np.ascontiguousarray(values).astype(dtype))


@dataclass(frozen=True)
class _Values(Mapping[str, Array]):
    """Parameters of a layer by name, in float64; each is read on access."""

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
    """Channels of a layer's result or operand (axis 1), with the weight elements of each.

    The signature tells which weight elements belong to a channel.  For example, a grouped transposed convolution has
    `y[n, g*o, …]` and `weight[g*i, o, …]`.  Both have the indices g and o, which are on different axes of the weight.
    """

    def __init__(self, solution: Solution, of: Pattern):
        self._solution = solution
        self._weight = solution.signature.operand("weight")
        self.axis = of.axes[1]

    @classmethod
    def of_result(cls, node: Node) -> Channels:
        """Channels of the result of a node."""
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.results[0])

    @classmethod
    def of_operand(cls, node: Node) -> Channels:
        """Channels of the first operand of a node."""
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.operands[0])

    @property
    def weighted(self) -> bool:
        """True if every channel has its own elements of the weight."""
        inner = _names(self._weight)
        return all(isinstance(f, Index) and f.name in inner for f in self.axis.factors) and len(self.axis.terms) == 1

    def scaled(self, weight: Array, scale: Array) -> Array:
        """Multiply the weight elements of each channel by the channel's scale."""
        products: Array = self._split(weight) * self._spread(scale)
        return products.reshape(weight.shape)

    def summed(self, weight: Array, numbers: Array, result: Axis) -> Array:
        """Multiply weight elements by the `numbers` of their channels; sum the products per result channel.

        Args:
            numbers: one number for each channel.
            result: the axis of the result channels.
        """
        kept = _factor_names(result)
        products: Array = self._split(weight) * self._spread(numbers)
        others = tuple(place for place, name in enumerate(_names(self._weight)) if name not in kept)
        summed: Array = products.sum(axis=others)
        return summed.reshape(-1)

    def _split(self, weight: Array) -> Array:
        return weight.reshape([self._extent(name) for name in _names(self._weight)])

    def _spread(self, vector: Array) -> Array:
        """Reshape a vector with a number per channel for broadcasting with the split weight."""
        own, inner = _factor_names(self.axis), _names(self._weight)
        parts = vector.reshape([self._extent(name) for name in own])
        order = sorted(own, key=inner.index)
        parts = parts.transpose([own.index(name) for name in order])
        return np.ascontiguousarray(parts).reshape([self._extent(name) if name in own else 1 for name in inner])

    def _extent(self, name: str) -> int:
        size = self._solution.extents[name]
        assert isinstance(size, int), "weights have constant sizes"
        return size


def _names(pattern: Pattern) -> list[str]:
    return [name for axis in pattern.axes for name in _factor_names(axis)]


def _factor_names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]
