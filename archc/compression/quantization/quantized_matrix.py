"""Quantization of one weight of a model by GPTQ, for sequential compression."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from archc.compression.calibration.sequential import Approximation, CompressedMatrix, LayerProblem, Solver
from archc.compression.quantization.gptq import quantize_matrix
from archc.compression.quantization.grids import find_grid
from archc.types.storage import Integers

if TYPE_CHECKING:
    import numpy as np
    import torch

Stored = Mapping[str, "np.ndarray"]
"""The stored tensors of a weight, by path."""
QuantizedMatrix = CompressedMatrix[Stored]

CHUNK = 8 << 20
"""Most elements of rows in memory at a time."""


def quantizer(storage: Integers) -> Solver[Stored]:
    """A solver that chooses the integers of a weight in a format by GPTQ.

    For a layer that selects rows of its weight, such as `embedding`, the metric of its result takes the place of the
    Hessian.
    """
    return partial(_quantized, storage)


def _quantized(storage: Integers, problem: LayerProblem) -> Approximation[Stored]:
    import torch

    if problem.target is None:
        metric = None if problem.metric is None else problem.metric.matrix
        return Approximation(_quantized_rows(storage, problem.path, problem.weight, metric), None)
    channels = len(problem.target) // len(problem.moments)
    importance = torch.cat([each.hessian.diagonal().expand(channels, -1) for each in problem.moments])
    grid = find_grid(storage, problem.target, importance)
    q = torch.cat(
        [
            quantize_matrix(part, each.hessian, grid.of_channels(number * channels, channels))
            for number, (each, part) in enumerate(zip(problem.moments, problem.parts))
        ]
    )
    shape = tuple(problem.weight.shape)
    stored = storage.pack(problem.path, q.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), shape)
    return Approximation(stored, grid.values(q))


def _quantized_rows(storage: Integers, path: str, values: np.ndarray, metric: torch.Tensor | None) -> Stored:
    """Quantize the rows of a weight, a part of them at a time: such weights are the largest of a model."""
    import numpy as np
    import torch

    if metric is None:
        return storage.encode(path, values)
    hessian = metric if metric.dim() == 2 else metric.diag()
    rows = storage.rows(values)
    count = max(1, CHUNK // max(1, rows.shape[1]))
    parts = []
    for start in range(0, len(rows), count):
        chunk = torch.from_numpy(rows[start : start + count].copy())
        grid = find_grid(storage, chunk, hessian.diagonal())
        q = quantize_matrix(chunk, hessian, grid)
        shape = (len(chunk), *values.shape[1:])
        parts.append(storage.pack(path, q.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), shape))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
