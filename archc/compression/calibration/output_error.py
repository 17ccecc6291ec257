"""Measured error of the outputs of a graph with other values of some weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.compression.calibration.output_gradients import sample_count
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.types.storage import Dense
from archc.weights.tensor import ArrayTensor, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch

    Outputs = dict[str, torch.Tensor]

MOST_RATIO = 32
"""Largest correction of a predicted error, up or down."""


class OutputError:
    """The outputs of a graph on some batches, and the error that other values of weights cause."""

    def __init__(self, graph: Graph, batches: Sequence[Mapping[str, torch.Tensor]]):
        self._graph, self._batches = graph, batches
        self._expected = [_floats(evaluate(graph, batch)) for batch in batches]

    def of(self, values: Mapping[str, np.ndarray]) -> float | None:
        """Squared error of the outputs, relative to their mean squares, for the mean sample.

        The errors of several outputs are summed, as for `output_metric`.  None if an output is infinite or NaN.

        Args:
            values: values of weights by path; the graph is not changed.
        """
        trial = with_weights(self._graph, values)
        total, samples = 0.0, 0
        for batch, expected in zip(self._batches, self._expected):
            count = sample_count([*expected.values()])
            samples += count
            for name, found in _floats(evaluate(trial, batch)).items():
                scale = float(expected[name].double().square().mean()) or 1.0
                total += count * float((found - expected[name]).double().square().mean()) / scale
        return total / samples if samples and math.isfinite(total) else None


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


def _floats(outputs: Outputs) -> Outputs:
    return {name: tensor for name, tensor in outputs.items() if tensor.is_floating_point()}
