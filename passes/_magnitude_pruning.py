"""Masks for the smallest weights of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.compression.pruning.sparsity import KeptPattern
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage import Masked

from ._prunable_weights import Scope, elements_left

Array = npt.NDArray[Any]


def _magnitudes(graph: Graph, path: str) -> npt.NDArray[np.uint32]:
    """Absolute values in float32, reinterpreted as integers, which have the same order."""
    return np.abs(graph.weight_values(path).astype(np.float32)).view(np.uint32)


class _SmallestElements:
    """Selection of the elements with the smallest magnitudes in a pool, masked elements excluded.

    A radix selection finds the largest selected magnitude m exactly, with one weight in memory at a time.  A histogram
    of the upper 16 bits of all magnitudes gives the upper 16 bits of m.  A second histogram, of the lower 16 bits of
    the magnitudes with these upper bits, gives the lower 16 bits of m.
    """

    def __init__(self, graph: Graph, pool: Sequence[str], count: int):
        self._graph = graph
        self._bound = 0
        self._ties = max(count, 0)
        if self._ties:
            upper = self._take(sum(np.bincount(m >> 16, minlength=1 << 16) for m in self._alive(pool)))
            halves = (m[m >> 16 == upper] & 0xFFFF for m in self._alive(pool))
            self._bound = upper << 16 | self._take(sum(np.bincount(half, minlength=1 << 16) for half in halves))

    def _alive(self, pool: Sequence[str]) -> Iterator[npt.NDArray[np.uint32]]:
        return (_magnitudes(self._graph, path)[elements_left(self._graph, path)] for path in pool)

    def _take(self, counts: Array | int) -> int:
        """Upper or lower half of m, given the histogram of the halves.

        The elements with smaller halves are subtracted from the number of elements that are still to be selected.
        """
        totals = np.cumsum(counts)
        number = int(np.searchsorted(totals, self._ties))
        self._ties -= int(totals[number - 1]) if number else 0
        return number

    def mask(self, context: Context, path: str) -> None:
        """Mask the selected elements of one weight."""
        alive, magnitudes = elements_left(self._graph, path), _magnitudes(self._graph, path)
        below = alive & (magnitudes < self._bound)
        # Several elements may equal the bound; the first ones are masked.
        ties = np.flatnonzero(alive & (magnitudes == self._bound))[: self._ties]
        self._ties -= len(ties)
        below.flat[ties] = True
        if below.any():
            kept = alive & ~below
            values = self._graph.weight_values(path).copy()
            values[~kept] = 0
            context.rewriter.set_storage(path, Masked(), {path: values, f"{path}_mask": kept})


def mask_smallest(graph: Graph, context: Context, sparsity: float, scope: Scope, paths: Sequence[str]) -> None:
    """Mask the smallest elements of weights, such that the share `sparsity` of the elements is masked.

    Args:
        scope: "global" for one threshold, "layer" for the same share of each weight.
    """
    for pool in [paths] if scope == "global" else [[path] for path in paths]:
        weights = [graph.weights[path] for path in pool]
        masked = sum(weight.size - int(elements_left(graph, weight.path).sum()) for weight in weights)
        least = _SmallestElements(graph, pool, round(sparsity * sum(weight.size for weight in weights)) - masked)
        for path in pool:
            least.mask(context, path)


def mask_to_pattern(graph: Graph, context: Context, pattern: KeptPattern, paths: Sequence[str]) -> None:
    """Mask all but the largest elements of each group of a pattern."""
    import torch

    for path in paths:
        values, left = graph.weight_values(path), elements_left(graph, path)
        rows = torch.from_numpy(np.abs(values.astype(np.float32))).flatten(1)
        kept = pattern.kept_of_rows(rows, torch.from_numpy(left.copy()).flatten(1)).numpy().reshape(values.shape)
        if (kept != left).any():
            masked = np.where(kept, values, np.zeros((), values.dtype))
            context.rewriter.set_storage(path, Masked(), {path: masked, f"{path}_mask": kept})
