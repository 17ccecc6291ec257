"""Pass `fold`: fold batch norms into adjacent layers and remove dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.analysis.channels import Channels
from archc.declaration.traits import AFFINE_IN_WEIGHT, INFERENCE_IDENTITY
from archc.ir.graph import Graph, Node
from archc.ir.match import Condition, NodePattern, NoMatch, NoObstacle, match, pattern, result_of
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import attribute
from archc.types.signature import Apply

from ._weight_obstacles import owners_of_weights, weights_obstacle

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
        None, doc="layers to fold or remove: one glob or several; `kind:linear` selects by operator", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)

    def run(self, graph: Graph, context: Context) -> None:
        wanted = select(graph, self.on, self.keep)
        nodes = graph.nodes()
        after_layer, before_layer = _patterns(graph, nodes)
        for one in nodes:
            if one.op.has(INFERENCE_IDENTITY):
                if wanted(one.title):
                    context.rewriter.replace(one, one.operands)
                    context.rewrote(one, "removed: it is the identity in inference")
                else:
                    context.left(one, "not selected")
            channel_map = _channel_map(graph, one)
            if channel_map is None:
                continue
            before = match(after_layer, one, graph)
            user = graph.only_consumer(one.result)
            after = NoMatch("") if user is None or user.operands != one.results else match(before_layer, user, graph)
            if isinstance(before, NoMatch) and isinstance(after, NoMatch):
                context.inapplicable(one, before.reason)
            elif not wanted(one.title):
                context.left(one, "not selected")
            elif not isinstance(before, NoMatch):
                layer: Node = before["layer"]
                _set(graph, context, layer, *_into_result(graph, layer, *channel_map))
                context.rewriter.replace(one, layer.results)
                if layer.path is not None:
                    context.new_results[layer.path] = one.path
                context.rewrote(one, f"folded into `{layer.title}` before it")
            elif user is not None:
                _set(graph, context, user, *_into_operand(graph, user, *channel_map))
                context.rewriter.replace(one, one.operands)
                context.rewrote(one, f"folded into `{user.title}` after it")


def foldable(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Yield each batch norm that `fold` can fold into the layer before it, with this layer."""
    nodes = graph.nodes()
    after_layer, _ = _patterns(graph, nodes)
    for one in nodes:
        if _channel_map(graph, one) is not None:
            found = match(after_layer, one, graph)
            if not isinstance(found, NoMatch):
                yield one, found["layer"]


# Patterns -----------------------------------------------------------------------------------------------------


def _patterns(graph: Graph, nodes: Sequence[Node]) -> tuple[NodePattern, NodePattern]:
    """Pattern of a batch norm after a layer that can absorb it, and of a layer after a batch norm."""
    owners = owners_of_weights(nodes)
    affine = Condition(lambda layer: layer.op.has(AFFINE_IN_WEIGHT), "`{layer}` before it has no weight to fold into")
    weights = NoObstacle(lambda layer: weights_obstacle(graph, layer, owners))
    weighted = Condition(
        lambda layer: Channels.of_result(layer).weighted, "its channels are not an axis of the weight of `{layer}`"
    )
    after_layer = pattern(
        (),
        result_of(
            pattern(where=(affine, weighted, weights), bind="layer"),
            only_use=True,
            otherwise="its operand is not the result of a layer",
            shared="the result of `{layer}` has other uses",
        ),
    )
    uniform = Condition(_treats_channels_alike, "`{layer}` does not treat all elements of a channel alike")
    before_layer = pattern(where=(affine, uniform, weights), bind="layer")
    return after_layer, before_layer


def _treats_channels_alike(layer: Node) -> bool:
    """Return True if a layer multiplies all elements of a channel by the same weights."""
    windows = layer.op.infer(layer.types).solution.signature.results[0].axes
    applied = any(isinstance(factor, Apply) for axis in windows for factor in axis.factors)
    return Channels.of_operand(layer).weighted and not applied


def _channel_map(graph: Graph, node: Node) -> tuple[Array, Array] | None:
    """Scale and shift of each channel, if a node with weights is such a map in inference; else None."""
    return node.op.channel_map(_Values(graph, node)) if node.weights else None


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
