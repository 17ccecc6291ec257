"""Bytes of the emitted program, by the storage formats of its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from archc.ir.graph import Graph
from archc.passmanager.targets import ProgramBytes
from archc.types.storage import PackedIntegers, Storage
from archc.weights.dtype_conversion import numpy_dtype
from archc.weights.tensor import ComputedTensor, Weights

LARGEST_EMITTED = 1 << 28
"""Bytes of the weights of a program up to which it is emitted to count its bytes.

For larger programs, the estimate has a reserve of about 1 %.
"""
PROGRAM_BYTES = 40_000
"""Estimate of the bytes of a program without weights, and `NODE_BYTES` more for each operator.

The files that an emitted module imports have up to 30,000 bytes.
"""
NODE_BYTES = 1000
UNPACKING_BYTES = 5500
"""Estimate of the bytes of the operators that unpack one weight in an ONNX model."""

Formats = Mapping[str, Storage]
"""Storage formats of weights by path."""


class ProgramSize:
    """The bytes of the largest emitted program for each choice of formats of the weights.

    The bytes are those of emitted programs with weights of zeros.  Without targets, and above `LARGEST_EMITTED`, they
    are estimated.

    Args:
        measure: the bytes of the emitted programs of a graph; see `TargetFacts.program_bytes`.
        choices: the possible formats of weights, by path; other weights stay as they are.

    Attributes:
        fixed: bytes of the weights that stay as they are.
    """

    def __init__(self, graph: Graph, measure: ProgramBytes, choices: Mapping[str, Sequence[Storage]]):
        self._graph, self._measure = graph, measure
        self.fixed = sum(weight.nbytes for path, weight in graph.weights.items() if path not in choices)
        self._by_class: dict[type[Storage], int] = {}
        self._program = PROGRAM_BYTES + NODE_BYTES * len(graph)
        found: dict[type[Storage], int] = {}
        for each in dict.fromkeys(type(storage) for several in choices.values() for storage in several):
            alike = {
                path: next((storage for storage in several if type(storage) is each), several[0])
                for path, several in choices.items()
            }
            total = self._emitted(alike)
            if total is not None:
                found[each] = total - self.weight_bytes(alike)
        if found:
            self._program = min(found.values())
            count = sum(len(several) > 1 for several in choices.values()) or 1
            self._by_class = {each: (extra - self._program) // count for each, extra in found.items()}

    def cost(self, path: str, storage: Storage) -> int:
        """Bytes of a weight and of the operators that unpack it, on average over all weights."""
        unpacking = UNPACKING_BYTES if not self._by_class and isinstance(storage, PackedIntegers) else 0
        return self._nbytes(path, storage) + self._by_class.get(type(storage), unpacking)

    def of(self, formats: Formats) -> int:
        """Bytes of the program with weights in these formats."""
        emitted = self._emitted(formats)
        if emitted is not None:
            return emitted
        unpacking = sum(self.cost(path, storage) - self._nbytes(path, storage) for path, storage in formats.items())
        return self._program + self.weight_bytes(formats) + unpacking

    def _emitted(self, formats: Formats) -> int | None:
        return max(self.by_target(formats).values(), default=None)

    def by_target(self, formats: Formats) -> Mapping[str, int]:
        """Bytes of the emitted programs by target, with weights in these formats; empty if not known."""
        if self.weight_bytes(formats) > LARGEST_EMITTED:
            return {}
        return self._measure(with_zeros(self._graph, formats))

    def weight_bytes(self, formats: Formats) -> int:
        """Bytes of all weights of the program, with some of them in these formats."""
        weights = self._graph.weights
        return sum(self._nbytes(path, formats.get(path, weight.storage)) for path, weight in weights.items())

    def _nbytes(self, path: str, storage: Storage) -> int:
        return replace(self._graph.weights[path], storage=storage).nbytes


def with_zeros(graph: Graph, formats: Formats) -> Graph:
    """A graph with the same nodes, in which some weights have other storage formats, and are zero.

    The zeros are made on demand, so that the graph takes no memory.
    """
    trial = copy.copy(graph)
    changed = {path: replace(graph.weights[path], storage=storage) for path, storage in formats.items()}
    trial.weights = {**graph.weights, **changed}
    tensors = dict(graph.tensors or {})
    for path, weight in changed.items():
        for name in graph.weights[path].tensors:
            tensors.pop(name, None)
        for name, (shape, dtype) in weight.tensors.items():
            zeros = partial(np.zeros, shape, numpy_dtype(dtype.value))
            tensors[name] = ComputedTensor(shape, dtype.value, zeros)
    trial.tensors = Weights(tensors)
    return trial
