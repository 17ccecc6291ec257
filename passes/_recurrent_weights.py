"""Rewriting of the weights of recurrent layers, which `archc.compression.recurrent` rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.recurrent import rounded_layers
from archc.compression.weight_formats import Encoded
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node
from archc.ops.recurrent import Recurrent
from archc.passmanager import Context

if TYPE_CHECKING:
    import torch


def fits_recurrent(graph: Graph, context: Context, layer: Layer) -> bool:
    """Return whether `round_recurrent` applies: one use, one operand, dense weights of its own."""
    node = layer.node
    return (
        isinstance(layer.op, Recurrent)
        and layer.op.adds_products
        and context.calibration.real
        and len(layer.nodes) == len(node.operands) == 1
        and layer.tied_to is None
        and not node.transposed
        and all(graph.weights[path].storage.elementwise for path in node.weights.values())
        and all(np.isfinite(graph.weight_values(path)).all() for path in node.weights.values())
    )


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
