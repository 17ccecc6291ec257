"""The inputs that passes run a graph on: a user's calibration data, or seeded random ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from archc.ir.graph import Graph

if TYPE_CHECKING:
    import numpy as np
    import torch

BATCH = 32
MAXIMUM_SAMPLES = 512


class Calibration:
    """Inputs by name, cut into batches.

    Args:
        graph: for which inputs they are; its inputs must stay what they are.
        arrays: real data, samples along the first axis; None for random inputs.
        seed: of the random inputs.
    """

    def __init__(self, graph: Graph, arrays: Mapping[str, np.ndarray] | None = None, seed: int = 0):
        self._graph = graph
        self._arrays = arrays
        self._seed = seed

    @property
    def real(self) -> bool:
        """Whether the inputs are a user's data."""
        return self._arrays is not None

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The samples by input name, at most `MAXIMUM_SAMPLES` of them."""
        from archc.ops.samples import random_inputs

        if self._arrays is None:
            return random_inputs(self._graph, self._seed)
        if not self._batched:
            return self._arrays
        return {name: array[:MAXIMUM_SAMPLES] for name, array in self._arrays.items()}

    @property
    def _batched(self) -> bool:
        """Whether every input's first axis is a size that the user may choose, so that batches can be cut."""
        return all(value.type.shape and not isinstance(value.type.shape[0], int) for value in self._graph.inputs)

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The samples in batches of at most `BATCH`."""
        import torch

        tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        if not self._batched:
            yield tensors
            return
        count = min((len(tensor) for tensor in tensors.values()), default=0)
        for start in range(0, count, BATCH):
            yield {name: tensor[start : start + BATCH] for name, tensor in tensors.items()}

    def outputs(self, graph: Graph) -> dict[str, torch.Tensor]:
        """The outputs of a graph for the first batch."""
        from archc.ops.evaluate import evaluate

        return evaluate(graph, next(self.batches()))
