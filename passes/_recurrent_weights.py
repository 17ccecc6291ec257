"""Int8 weights of recurrent layers, rounded such that the products with calibration data change least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.gptq import quantize_matrix
from archc.compression.grids import Grid
from archc.compression.moments import Moments
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node
from archc.ops.recurrent import Gru, Recurrent
from archc.passmanager import Context
from archc.types.storage import Int8
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import torch

Stored = Mapping[str, np.ndarray[Any, Any]]


def fits_recurrent(graph: Graph, context: Context, layer: Layer) -> bool:
    """Return whether `round_recurrent` applies: one use, one operand, dense weights of its own."""
    node = layer.node
    return (
        isinstance(layer.op, Recurrent)
        and not isinstance(layer.op, Gru)  # its gate n multiplies U h by another gate
        and context.calibration.real
        and len(layer.nodes) == len(node.operands) == 1
        and layer.tied_to is None
        and not node.transposed
        and all(graph.weights[path].storage.elementwise for path in node.weights.values())
        and all(np.isfinite(graph.weight_values(path)).all() for path in node.weights.values())
    )


def round_recurrent(graph: Graph, context: Context, layer: Layer) -> dict[str, Stored]:
    """Stored tensors of the weights of a recurrent layer, by path; the biases in the graph are refitted.

    Layers are rounded in order, each on the results of the rounded layers before it.  A gate adds W x and U h, so GPTQ
    rounds W and U together.  A row of each weight has a scale.  The bias absorbs the mean error.
    """
    op, node = layer.op, layer.node
    assert isinstance(op, Recurrent)
    found: dict[str, Stored] = {}
    operands = list(_operands(graph, context, node))
    for number in range(op.num_layers):
        suffixes = [f"_l{number}", f"_l{number}_reverse"][: 1 + op.bidirectional]
        cell = _cell(graph, node, op, suffixes)
        results = [cell(x)[0] for x in operands]
        for direction, suffix in enumerate(suffixes):
            states = [_previous(y, direction, op.hidden_size) for y in results]
            found |= _rounded(graph, context, node, suffix, [*zip(operands, states, strict=True)])
        cell = _cell(graph, node, op, suffixes, found)
        operands = [cell(x)[0] for x in operands]
    return found


class _TwoWeights(Grid):
    """The grid of two weights of equal rows, one after the other; each has a scale for a row."""

    def column(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        group = int(number >= self.width)  # the first weight has `width` columns
        return self.scale[:, group], self.zero_point[:, group]


def _rounded(
    graph: Graph, context: Context, node: Node, suffix: str, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, Stored]:
    """Stored tensors of both weights of a layer in one direction; refits the bias in the graph."""
    import torch

    paths = [node.weights[f"weight_{kind}{suffix}"] for kind in ("ih", "hh")]
    bias = node.weights.get(f"bias_ih{suffix}")
    weights = [torch.from_numpy(graph.weight_values(path).copy()) for path in paths]
    both, width = torch.cat(weights, 1), weights[0].shape[1]
    moments = Moments(both.shape[1], 0, centred=bias is not None)
    for x, h in rows:
        moments.add(torch.cat([x, h], 2).flatten(0, 1))
    scales = [Int8(0).encode(path, values.numpy())[f"{path}_scale"] for path, values in zip(paths, weights)]
    scale = torch.from_numpy(np.stack(scales, 1))
    q = quantize_matrix(both, moments.hessian, _TwoWeights(scale, torch.zeros_like(scale), width, -127, 127))
    if bias is not None:
        values = torch.cat([q[:, :width] * scale[:, :1], q[:, width:] * scale[:, 1:]], 1)
        mean_error = (both.double() - values.double()) @ moments.mean
        context.rewriter.set_weight(bias, (graph.weight_values(bias) + mean_error.numpy()).astype(np.float32))
    parts = (q[:, :width], q[:, width:])
    return {
        path: {path: part.numpy().astype(np.int8), f"{path}_scale": each}
        for path, part, each in zip(paths, parts, scales)
    }


def _operands(graph: Graph, context: Context, node: Node) -> Iterator[torch.Tensor]:
    """Yield the operand of a node for each batch of calibration data."""
    for batch in context.calibration.batches():
        yield next(tensor for value, tensor in evaluate_all(graph, batch) if value is node.operands[0])


def _cell(
    graph: Graph, node: Node, op: Recurrent, suffixes: list[str], rounded: Mapping[str, Stored] = MappingProxyType({})
) -> torch.nn.RNNBase:
    """One layer as a module of PyTorch, with the rounded weights where they are known."""
    import torch

    names = [name for name in node.weights if any(name.endswith(suffix) for suffix in suffixes)]
    width = graph.weights[node.weights[f"weight_ih{suffixes[0]}"]].shape[1]
    options = {"nonlinearity": op.nonlinearity} if hasattr(op, "nonlinearity") else {}
    kind = getattr(torch.nn, op.name.upper())
    cell: torch.nn.RNNBase = kind(
        width, op.hidden_size, bias=op.bias, bidirectional=op.bidirectional, batch_first=True, **options
    )
    state = {}
    for name in names:
        path = node.weights[name]
        values = Int8(0).decode(path, dict(rounded[path]), (), DType.f32) if path in rounded else None
        values = graph.weight_values(path) if values is None else values
        state[name.replace(suffixes[0], "_l0")] = torch.from_numpy(values.copy())
    cell.load_state_dict(state)
    return cell.requires_grad_(False)


def _previous(y: torch.Tensor, direction: int, hidden: int) -> torch.Tensor:
    """The state before each step, which is zero before the first, from the results of all directions."""
    import torch

    states = y[..., direction * hidden : (direction + 1) * hidden]
    zeros = torch.zeros_like(states[:, :1])
    return torch.cat([states[:, 1:], zeros] if direction else [zeros, states[:, :-1]], 1)
