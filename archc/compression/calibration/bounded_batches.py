"""Choice of batches of calibration data whose activations fit into memory together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archc.interpreter.evaluate import bind_sizes
from archc.ir.graph import Graph
from archc.types.dims import evaluate

if TYPE_CHECKING:
    import torch

MEMORY = 1 << 30
"""Bytes of activations up to which batches are used."""
LIVE = 8
"""Number of activations of the largest size that are alive at a time, in both models together."""


def bounded_batches(graph: Graph, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[Mapping[str, torch.Tensor]]:
    """Evenly distributed batches, such that `LIVE` of the largest values take at most `MEMORY` bytes.

    `Lockstep` keeps the activations of all its batches at the layer that it reaches.  With these batches, its memory
    does not grow with the number of samples.  There is always one batch.
    """
    sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batches[0].items()})
    values = [*graph.inputs, *(value for node in graph.nodes() for value in node.results)]
    largest = max(
        value.type.dtype.size * math.prod(evaluate(dim, sizes=sizes) for dim in value.type.shape) for value in values
    )
    count = min(len(batches), max(1, MEMORY // (LIVE * max(largest, 1))))
    return [batches[number * len(batches) // count] for number in range(count)]
