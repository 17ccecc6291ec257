"""Weights of recurrent layers, rounded such that the products with calibration data change least."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.moments import Moments
from archc.compression.quantization.gptq import quantize_matrix
from archc.compression.quantization.grids import Grid
from archc.compression.quantization.weight_formats import Array, Encoded
from archc.ir.graph import Graph, Node
from archc.ops.recurrent import Recurrent
from archc.types.storage import Int8, NarrowFloat
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import torch


KINDS = ("weight_ih", "weight_hh")
INT8, F16 = Int8(0), NarrowFloat(DType.f16)

LARGEST_ERROR = 0.02
"""Largest relative error of the result of a layer with int8 weights, in the Euclidean norm.

Each layer adds its error to that of the layers before it, so the limit is below that of operands, which have a new
scale in each run.  In the speaker encoder, whose inputs are powers, the error is 0.04 in the first layer and at most
0.008 in the others (`benchmarks.speaker` prints a remark on the first).  In layers with random weights and random
operands it is 0.001 to 0.004.
"""


def rounded_layers(graph: Graph, node: Node, operands: Sequence[torch.Tensor]) -> Iterator[RoundedLayer]:
    """Yield the rounded weights of each layer of a recurrent node, in order.

    Each layer is rounded on the results of the rounded layers before it.  A gate adds W x and U h, so GPTQ rounds W and
    U together.  A row of each weight has a scale.  The bias absorbs the mean error.

    If int8 changes the result of a layer by more than `LARGEST_ERROR`, one or both of its weights become f16.

    Args:
        operands: the operand of the node for each batch of calibration data.
    """
    op = node.op
    assert isinstance(op, Recurrent)
    for number in range(op.num_layers):
        suffixes = [f"_l{number}", f"_l{number}_reverse"][: 1 + op.bidirectional]
        cell = _cell(graph, node, op, suffixes)
        best = _Rounding(graph, node, op, suffixes, operands, [cell(x)[0] for x in operands]).best()
        yield best
        operands = best.results


@dataclass
class RoundedLayer:
    """The rounded weights of one layer, in all directions.

    Attributes:
        narrow: the kinds of weights that are f16.
        stored, biases: the rounded weights and the refitted biases, by path.
        results: the results of the rounded layer.
        error: relative error of the results.
        in_int8: the same with int8 weights only.
    """

    narrow: tuple[str, ...]
    stored: dict[str, Encoded] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)
    results: Sequence[torch.Tensor] = ()
    error: float = math.inf
    in_int8: float = math.inf


@dataclass(frozen=True)
class _Rounding:
    """Rounding of the weights of one layer.

    Attributes:
        suffixes: the ends of the names of its weights, one for each direction.
        operands: its operands after the rounding of the layers before it, by batch.
        expected: its results on these operands, with its own weights in floats.
    """

    graph: Graph
    node: Node
    op: Recurrent
    suffixes: Sequence[str]
    operands: Sequence[torch.Tensor]
    expected: Sequence[torch.Tensor]

    def best(self) -> RoundedLayer:
        """The weights with the fewest bytes within `LARGEST_ERROR`."""
        small, large = sorted(
            KINDS, key=lambda kind: self.graph.weights[self.node.weights[kind + self.suffixes[0]]].size
        )
        tried: list[RoundedLayer] = []
        for narrow in ((), (small,), (large,), KINDS):
            tried.append(self._rounded(narrow))
            tried[-1].in_int8 = tried[0].error
            if tried[-1].error <= LARGEST_ERROR:
                return tried[-1]
        return min(tried, key=lambda rounded: rounded.error)

    def _rounded(self, narrow: tuple[str, ...]) -> RoundedLayer:
        found = RoundedLayer(narrow)
        for direction, suffix in enumerate(self.suffixes):
            states = [_previous(y, direction, self.op.hidden_size) for y in self.expected]
            self._round_direction(found, suffix, [*zip(self.operands, states, strict=True)])
        cell = _cell(self.graph, self.node, self.op, self.suffixes, found.stored, found.biases)
        found.results = [cell(x)[0] for x in self.operands]
        error = _relative_error(found.results, self.expected)
        found.error = error if math.isfinite(error) else math.inf  # f16 cannot hold a weight
        return found

    def _round_direction(
        self, found: RoundedLayer, suffix: str, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        import torch

        paths = [self.node.weights[kind + suffix] for kind in KINDS]
        bias = self.node.weights.get(f"bias_ih{suffix}")
        weights = [torch.from_numpy(self.graph.weight_values(path).copy()) for path in paths]
        both, width = torch.cat(weights, 1), weights[0].shape[1]
        moments = Moments(both.shape[1], 0, centred=bias is not None)
        for x, h in rows:
            moments.add(torch.cat([x, h], 2).flatten(0, 1))
        columns = dict(zip(KINDS, (slice(width), slice(width, None)), strict=True))
        integers = {path: columns[kind] for kind, path in zip(KINDS, paths, strict=True) if kind not in found.narrow}
        for path, values in zip(paths, weights, strict=True):
            if path not in integers:
                found.stored[path] = F16, F16.encode(path, values.numpy())
        if integers:
            found.stored |= _by_gptq(both, moments.hessian, integers)
        if bias is not None:
            values = torch.cat([torch.from_numpy(_decoded(path, found.stored[path])) for path in paths], 1)
            mean_error = (both.double() - values.double()) @ moments.mean
            found.biases[bias] = (self.graph.weight_values(bias) + mean_error.numpy()).astype(np.float32)


class _TwoWeights(Grid):
    """The grid of two weights of equal rows, one after the other; each has a scale for a row."""

    def column(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        group = int(number >= self.width)  # the first weight has `width` columns
        return self.scale[:, group], self.zero_point[:, group]


def _by_gptq(both: torch.Tensor, hessian: torch.Tensor, columns: Mapping[str, slice]) -> dict[str, Encoded]:
    """The int8 form of one or two matrices that are columns of `both`, by path."""
    import torch

    parts = [both[:, of_part] for of_part in columns.values()]
    scales = [INT8.encode("w", part.numpy())["w_scale"] for part in parts]
    scale, width = torch.from_numpy(np.stack(scales, 1)), parts[0].shape[1]
    chosen = torch.cat([torch.arange(both.shape[1])[of_part] for of_part in columns.values()])
    grid = _TwoWeights(scale, torch.zeros_like(scale), width, -127, 127)
    q = quantize_matrix(both[:, chosen], hessian[chosen][:, chosen], grid).numpy().astype(np.int8)
    rounded = zip(columns, np.split(q, [width], 1), scales, strict=False)
    return {path: (INT8, {path: integers, f"{path}_scale": each}) for path, integers, each in rounded}


def _relative_error(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Relative error of all batches together, in the Euclidean norm."""
    error = sum(float((y - other).double().square().sum()) for y, other in zip(found, expected, strict=True))
    norm = sum(float(y.double().square().sum()) for y in expected)
    return math.sqrt(error / (norm or 1.0))


def _decoded(path: str, encoded: Encoded) -> Array:
    storage, stored = encoded
    return storage.decode(path, dict(stored), (), DType.f32)


def _cell(
    graph: Graph,
    node: Node,
    op: Recurrent,
    suffixes: Sequence[str],
    rounded: Mapping[str, Encoded] = MappingProxyType({}),
    biases: Mapping[str, Array] = MappingProxyType({}),
) -> torch.nn.RNNBase:
    """One layer as a module of PyTorch, with the rounded weights and refitted biases where they are known."""
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
        values = biases[path] if path in biases else graph.weight_values(path)
        values = _decoded(path, rounded[path]) if path in rounded else values
        state[name.replace(suffixes[0], "_l0")] = torch.from_numpy(values.copy())
    cell.load_state_dict(state)
    return cell.requires_grad_(False)


def _previous(y: torch.Tensor, direction: int, hidden: int) -> torch.Tensor:
    """The state before each step, which is zero before the first, from the results of all directions."""
    import torch

    states = y[..., direction * hidden : (direction + 1) * hidden]
    zeros = torch.zeros_like(states[:, :1])
    return torch.cat([states[:, 1:], zeros] if direction else [zeros, states[:, :-1]], 1)
