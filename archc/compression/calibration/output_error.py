"""Measured error of the outputs of a graph with other values of some weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.compression.calibration.output_gradients import sample_count
from archc.interpreter.evaluate import evaluate
from archc.interpreter.partial_run import PartialRun
from archc.ir.graph import Graph, Node
from archc.ir.scans import Scan, schedule
from archc.types.storage import Dense
from archc.weights.tensor import ArrayTensor, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch

    Outputs = dict[str, torch.Tensor]

MOST_RATIO = 32
"""Largest correction of a predicted error, up or down."""


class OutputError:
    """The outputs of a graph on some batches, and the error that other values of weights cause.

    The nodes before the first changed weight run once for several questions in the order of the data flow.
    """

    def __init__(self, graph: Graph, batches: Sequence[Mapping[str, torch.Tensor]]):
        self._graph, self._batches = graph, batches
        self._items = schedule(graph)
        self._expected = [_floats(evaluate(graph, batch)) for batch in batches]
        self._runs: list[PartialRun] = []

    def of(self, values: Mapping[str, np.ndarray]) -> float | None:
        """Squared error of the outputs, relative to their mean squares, for the mean sample.

        The errors of several outputs are summed, as for `output_metric`.  None if an output is infinite or NaN.

        Args:
            values: values of weights by path; the graph is not changed.
        """
        trial = with_weights(self._graph, values)
        total, samples = 0.0, 0
        for run, expected in zip(self._before(values), self._expected):
            count = sample_count([*expected.values()])
            samples += count
            total += count * relative_error(run.finished(trial), expected)
        return total / samples if samples and math.isfinite(total) else None

    def _before(self, paths: Collection[str]) -> list[PartialRun]:
        """Runs of the graph up to the first item that uses one of the weights."""
        place = next((place for place, item in enumerate(self._items) if _uses(item, paths)), len(self._items))
        if not self._runs or self._runs[0].place > place:
            self._runs = [PartialRun(self._graph, batch) for batch in self._batches]
        for run in self._runs:
            run.advance(place)
        return self._runs


def relative_error(found: Outputs, expected: Outputs) -> float:
    """Squared error of floating-point outputs, relative to their mean squares, summed over the outputs."""
    total = 0.0
    for name, tensor in _floats(expected).items():
        scale = float(tensor.double().square().mean()) or 1.0
        total += float((found[name] - tensor).double().square().mean()) / scale
    return total


def measured_ratio(measured: float | None, predicted: float) -> float:
    """Factor that corrects the predictions for a layer by the measured error of one of them.

    A prediction takes the errors of different positions for independent.  In an attention layer, for example, they are
    not: the measured error of rounded weights of MiniLM's values is an eighth of the prediction.  The factor is 1 if
    the error could not be measured.
    """
    return 1.0 if measured is None or not predicted else min(MOST_RATIO, max(1 / MOST_RATIO, measured / predicted))


def with_weights(graph: Graph, values: Mapping[str, np.ndarray]) -> Graph:
    """A graph with the same nodes, and with dense weights of other values."""
    trial = copy.copy(graph)
    trial.weights = {**graph.weights, **{path: replace(graph.weights[path], storage=Dense()) for path in values}}
    trial.tensors = Weights({**(graph.tensors or {}), **{path: ArrayTensor(array) for path, array in values.items()}})
    return trial


def _uses(item: Node | Scan, paths: Collection[str]) -> bool:
    nodes = item.nodes if isinstance(item, Scan) else (item,)
    return any(path in paths for node in nodes for path in node.weights.values())


def _floats(outputs: Outputs) -> Outputs:
    return {name: tensor for name, tensor in outputs.items() if tensor.is_floating_point()}
