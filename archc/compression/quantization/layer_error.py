"""Errors of quantization ranges, measured at the results of the layers that use a quantized value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from archc.compression.quantization.histograms import Batches
from archc.compression.quantization.ranges import Rounding
from archc.ir.graph import Graph, Node, Value
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch

    Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

R = TypeVar("R", bound=Rounding)

MEASURED_BATCHES = 2
"""Number of batches on which errors are measured; they are distributed evenly over the data."""


def errors_of_ranges(
    graph: Graph,
    candidates: Mapping[Value, Collection[R]],
    users: Mapping[Value, Sequence[Node]],
    batches: Batches,
) -> dict[Value, dict[R, float]]:
    """Squared errors of the results of layers, for each candidate quantization of their operand.

    The weights are floats.  The error of a result is relative to its squared norm, so that all layers with the same
    operand count alike.

    Args:
        users: the layers that use each value; without layers, the error is that of the value itself.
    """
    from archc.interpreter.evaluate import bind_sizes, evaluate_all

    errors: dict[tuple[Value, R, int], float] = defaultdict(float)
    norms: dict[tuple[Value, int], float] = defaultdict(float)
    for batch in measured(batches):
        sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batch.items()})
        for value, tensor in evaluate_all(graph, batch):
            if len(candidates.get(value, ())) < 2:
                continue
            rounded = {candidate: candidate.rounded(tensor) for candidate in candidates[value]}
            for number, function in enumerate(_functions(graph, users[value], sizes)):
                expected = function(tensor)
                norms[value, number] += squared_norm(expected)
                for candidate, approximate in rounded.items():
                    errors[value, candidate, number] += squared_norm(function(approximate) - expected)
    found = {value: dict.fromkeys(ranges, 0.0) for value, ranges in candidates.items()}
    for (value, candidate, number), error in errors.items():
        found[value][candidate] += error / (norms[value, number] or 1.0)
    return found


def squared_norm(tensor: torch.Tensor) -> float:
    """Sum of the squared elements, in float64."""
    return float(tensor.double().square().sum())


def measured(batches: Batches) -> Iterator[Mapping[str, torch.Tensor]]:
    """At most `MEASURED_BATCHES` batches, distributed evenly over the data."""
    count = sum(1 for _ in batches())
    chosen = {number * count // MEASURED_BATCHES for number in range(MEASURED_BATCHES)}
    yield from (batch for number, batch in enumerate(batches()) if number in chosen)


def _functions(graph: Graph, layers: Sequence[Node], sizes: Mapping[str, int]) -> list[Function]:
    """Functions from the operands of layers to their results; the identity if there are other operands."""
    from archc.interpreter.evaluate import run_node

    def function(layer: Node) -> Function:
        weights = {path: to_torch(graph.weight_values(path)) for path in layer.weights.values()}
        return lambda tensor: run_node(layer, [tensor], weights, sizes)[0]

    simple = all(len(layer.operands) == 1 for layer in layers)
    return [function(layer) for layer in layers] if layers and simple else [lambda tensor: tensor]
