"""Rewriting of the weights of recurrent layers, rounded by the calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.quantization.recurrent import rounded_layers
from archc.compression.quantization.weight_formats import Encoded
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node
from archc.ops.recurrent import Recurrent
from archc.passmanager import Context

if TYPE_CHECKING:
    import torch


def recurrent_obstacle(graph: Graph, context: Context, layer: Layer) -> str | None:
    """Reason why `round_recurrent` does not apply to a recurrent layer, or None."""
    node = layer.node
    assert isinstance(layer.op, Recurrent)
    if not layer.op.adds_products:
        return f"a gate of `{layer.op.name}` multiplies the product of the state"
    if not context.calibration.real:
        return "there are no calibration data"
    if len(layer.nodes) > 1:
        return f"it has {len(layer.nodes)} uses"
    if len(node.operands) > 1:
        return "it is given its first state"
    if layer.tied_to is not None:
        return f"it shares weights with `{layer.tied_to}`"
    if node.transposed:
        return "a weight is transposed"
    if not all(graph.weights[path].storage.elementwise for path in node.weights.values()):
        return "not all its weights are dense"
    if not all(np.isfinite(graph.weight_values(path)).all() for path in node.weights.values()):
        return "a weight is not finite"
    return None


def round_recurrent(graph: Graph, context: Context, layer: Layer) -> dict[str, Encoded]:
    """Storage of the weights of a recurrent layer, by path; the biases in the graph are refitted."""
    found: dict[str, Encoded] = {}
    operands = list(_operands(graph, context, layer.node))
    for number, rounded in enumerate(rounded_layers(graph, layer.node, operands)):
        for path, bias in rounded.biases.items():
            context.rewriter.set_weight(path, bias)
        for kind in rounded.narrow:
            context.note(
                layer.path,
                f"`{kind}_l{number}` is f16: with int8 weights the result of the layer would change by"
                f" {rounded.in_int8:.1%}",
            )
        found |= rounded.stored
    return found


def _operands(graph: Graph, context: Context, node: Node) -> Iterator[torch.Tensor]:
    """Yield the operand of a node for each batch of calibration data."""
    for batch in context.calibration.batches():
        yield next(tensor for value, tensor in evaluate_all(graph, batch) if value is node.operands[0])
