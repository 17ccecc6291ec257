"""Comparison of a graph with that before the passes: bytes, formats and noise of each layer."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from archc.frozen_dataclass import frozen_dataclass
from archc.interpreter.evaluate import evaluate_all
from archc.interpreter.sample_inputs import in_own_dtypes
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch

    Results = dict["Use", torch.Tensor]

Use = tuple[str, int]
"""Path of a layer, and the number of the use of the layer."""


@frozen_dataclass
class LayerComparison:
    """A layer with weights, before and after the passes.

    Attributes:
        operator: name of the operator, before the passes if the layer existed.
        bytes_before, bytes_after: bytes of the stored tensors; None where the layer does not exist.  A shared weight
            counts in the first layer that has it.  The layers that replace a layer count as this layer.
        formats: storage formats of the weights after the passes.
        snr_db: signal-to-noise ratio of the result in decibels, 10 log10(Σ y² / Σ (y' - y)²) for the results y before
            and y' after the passes.  The noise includes that of earlier layers.  None for a result that did not change
            or cannot be compared.
    """

    layer: str
    operator: str
    bytes_before: int | None
    bytes_after: int | None
    formats: tuple[str, ...] = ()
    snr_db: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as an object of `report.json`."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "formats": list(self.formats),
            "snr_db": self.snr_db,
        }


NewResults = Mapping[str, str | None]
"""Layers whose result changes by design, each with the layer whose result it has now; see `Context`."""


def compare_layers(
    before: Graph, after: Graph, inputs: Mapping[str, torch.Tensor], new_results: NewResults = MappingProxyType({})
) -> list[LayerComparison]:
    """Compare the layers with weights: those of `before` in order, then the layers that passes inserted.

    Args:
        inputs: inputs by name, on which both graphs run.
    """
    earlier, inserted = _bytes(before), _bytes(after)
    owners = _owners(before, after)
    later: Counter[str] = Counter()
    formats: dict[str, dict[str, None]] = defaultdict(dict)
    operators: dict[str, str] = {path: node.op.name for path, node in before.layers().items()}
    for path, node in after.layers().items():
        owner = owners[path]
        operators.setdefault(owner, node.op.name)
        later[owner] += inserted.get(path, 0)
        stored = (after.weights[weight] for weight in node.weights.values())
        formats[owner].update(dict.fromkeys(str(weight.storage) for weight in stored if len(weight.shape) > 1))
    ratios = signal_to_noise(before, after, inputs, new_results)
    return [
        LayerComparison(
            path, operators[path], earlier.get(path), later.get(path), tuple(formats[path]), ratios.get(path)
        )
        for path in dict.fromkeys((*earlier, *(owners[path] for path in inserted)))
    ]


def _owners(before: Graph, after: Graph) -> dict[str, str]:
    """For each layer after the passes, the layer before the passes that it belongs to, or itself.

    The layers that replace a layer have names below it, such as `fc.a` and `fc.b` for `fc`.
    """
    replaced = before.layers().keys() - after.layers().keys()
    owners = {}
    for path in after.layers():
        parts = path.split(".")
        above = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        owners[path] = next((each for each in above if each in replaced), path)
    return owners


def _bytes(graph: Graph) -> dict[str, int]:
    """Bytes of the stored tensors of each layer with weights, in order."""
    counted: set[str] = set()
    found: dict[str, int] = {}
    for path, node in graph.layers().items():
        own = {weight for weight in node.weights.values() if weight not in counted}
        if node.weights:
            found[path] = sum(graph.weights[weight].nbytes for weight in own)
        counted |= own
    return found


def signal_to_noise(
    before: Graph, after: Graph, inputs: Mapping[str, torch.Tensor], new_results: NewResults = MappingProxyType({})
) -> dict[str, float]:
    """Signal-to-noise ratio in decibels of the results of layers with weights, where they differ.

    A layer with a result that no layer had before has no ratio.

    Both graphs run at the same time, so that only a few results are in memory.
    """
    signal: dict[str, float] = defaultdict(float)
    noise: dict[str, float] = defaultdict(float)
    waiting: tuple[Results, Results] = ({}, {})
    was = {former: path for path, former in new_results.items() if former is not None}
    for pair in zip_longest(_results(before, was, inputs), _results(after, _owners(before, after), inputs)):
        for found, own in zip(pair, waiting):
            if found is not None:
                own[found[0]] = found[1]
        for key in waiting[0].keys() & waiting[1].keys():
            y, changed = (own.pop(key).double() for own in waiting)
            if y.shape == changed.shape:
                signal[key[0]] += float((y * y).sum())
                noise[key[0]] += float(((changed - y) ** 2).sum())
    return {
        path: 10 * math.log10(signal[path] / noise[path])
        for path in noise
        if noise[path] and signal[path] and new_results.get(path, path) is not None
    }


def _results(
    graph: Graph, owners: Mapping[str, str], inputs: Mapping[str, torch.Tensor]
) -> Iterator[tuple[Use, torch.Tensor] | None]:
    """Yield each result of a layer with weights; None for any other value, so that two graphs run in step.

    Args:
        owners: for a layer, the layer that it belongs to; the last result of these layers counts.
    """
    last = {owners.get(path, path): path for path, node in graph.layers().items() if node.weights}
    paths: dict[Value, str] = {
        node.results[0]: owner
        for node in graph.nodes()
        if node.path is not None and last.get(owner := owners.get(node.path, node.path)) == node.path
    }
    uses: Counter[str] = Counter()
    for value, tensor in evaluate_all(graph, in_own_dtypes(graph, inputs)):
        path = paths.get(value)
        if path is None or not tensor.is_floating_point():
            yield None
            continue
        yield (path, uses[path]), tensor
        uses[path] += 1
