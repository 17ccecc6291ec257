"""Masks for the smallest weights of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.signature import Index, Pattern
from archc.types.storage import Masked

Array = npt.NDArray[Any]
Wanted = Callable[[str], bool]
"""Predicate on the path of a layer: True if the layer may lose weights."""


def mask_smallest(
    graph: Graph, context: Context, sparsity: float, scope: Literal["global", "layer"], wanted: Wanted
) -> None:
    """Mask the smallest weights of the selected layers, and add a remark on every layer that has weights."""
    layers = _layers(graph)
    obstacles, always = _obstacles(graph, layers, wanted), _obstacles(graph, layers, lambda layer: True)
    free = [path for path, obstacle in obstacles.items() if obstacle is None]
    before = {path: graph.weights[path].size - int(_alive(graph, path).sum()) for path in free}
    after = dict(before)
    for pool in [free] if scope == "global" else [[path] for path in free]:
        wished = round(sparsity * sum(graph.weights[path].size for path in pool))
        least = _SmallestElements(graph, pool, wished - sum(before[path] for path in pool))
        for path in pool:
            after[path] += least.mask(context, path)
    size, zeros = sum(graph.weights[path].size for path in free), sum(after.values())
    masks = sum(graph.weights[path].size for path in free if isinstance(graph.weights[path].storage, Masked))
    stored = f"; the masks add {masks:,} bytes" if masks else ""
    context.note(graph.name, f"{zeros:,} of {size:,} selected weights are zero{stored}", weights=size, zeros=zeros)
    for layer, paths in layers.items():
        parts = [path for path in paths if path in after]
        if parts:
            size = sum(graph.weights[path].size for path in parts)
            zeros = sum(after[path] for path in parts)
            _remark(context, layer, size, sum(before[path] for path in parts), zeros)
            if scope == "global" and zeros > sum(before[path] for path in parts):
                _warn_of_share(context, layer, zeros / max(size, 1), sparsity)
        elif any(path in always and always[path] is None for path in paths):
            reason = next((reason for path in paths if (reason := obstacles.get(path))), "")
            context.left(layer, reason if wanted(layer) else "not selected")
        else:
            obstacle = next((obstacle for path in paths if (obstacle := always.get(path))), None)
            context.inapplicable(layer, obstacle or "none of its weights is contracted with data")


def _remark(context: Context, layer: str, size: int, before: int, after: int) -> None:
    """Add a remark on the number of zero weights of a layer.

    Args:
        size: number of weights.
        before, after: number of masked weights before and after the pass.
    """
    share = after / max(size, 1)
    figures = {"weights": size, "zeros": after, "sparsity": round(share, 6)}
    if after == size > before:
        context.rewrote(layer, f'all {size:,} weights are zero: `scope = "layer"` keeps some', **figures)
    elif after > before:
        context.rewrote(layer, f"{after:,} of {size:,} weights are zero ({share:.1%})", **figures)
    elif after:
        context.left(layer, f"{share:.1%} of its weights are zero already", **figures)
    else:
        context.left(layer, "none of its weights is among the smallest", **figures)


def _warn_of_share(context: Context, layer: str, share: float, sparsity: float) -> None:
    """Warn if a layer loses far more than its share of weights (`layer-nearly-masked`)."""
    if share <= most_of_a_layer(sparsity):
        return
    message = f"`{layer}` loses {share:.1%} of its weights; the sparsity of the model is {sparsity:.1%}"
    way = f'`keep = "{layer}"` excludes it; `scope = "layer"` masks the same share of every layer'
    context.note(layer, f"{message}: {way}", share=round(share, 6))
    context.diagnostics.warn("layer-nearly-masked", message, help=way)


def most_of_a_layer(sparsity: float) -> float:
    """Largest share of a layer's weights that is masked without a warning: (1 - sparsity) / 2 must stay."""
    return (1 + sparsity) / 2


# Candidate weights ---------------------------------------------------------------------------------------------


def _layers(graph: Graph) -> dict[str, list[str]]:
    """Layers that have trainable weights, in order, with the paths of these weights."""
    layers = {path: list(dict.fromkeys(node.weights.values())) for path, node in graph.layers().items()}
    trained = {layer: [path for path in paths if graph.weights[path].trainable] for layer, paths in layers.items()}
    return {layer: paths for layer, paths in trained.items() if paths}


def _obstacles(graph: Graph, layers: Mapping[str, Sequence[str]], wanted: Wanted) -> dict[str, str | None]:
    """Weights that are contracted with data, each with the reason to leave it unmasked, or None."""
    users: dict[str, list[str]] = {}
    for layer, paths in layers.items():
        for path in paths:
            users.setdefault(path, []).append(layer)
    summed = {node.weights[name] for node in graph.nodes() for name in _summed(node)}
    return {path: _obstacle(graph, path, layers, wanted) for path, layers in users.items() if path in summed}


def _obstacle(graph: Graph, path: str, users: Sequence[str], wanted: Wanted) -> str | None:
    weight = graph.weights[path]
    unwanted = [layer for layer in users if not wanted(layer)]
    if unwanted:
        return f"it shares `{path}` with `{unwanted[0]}`, which is not selected"
    if not weight.storage.elementwise:
        return f"`{path}` is stored as {weight.storage}: run `prune` before the pass that encodes it"
    if not weight.dtype.floating:
        return f"`{path}` is {weight.dtype}, not a floating dtype"
    if not np.isfinite(graph.weight_values(path)).all():
        return f"`{path}` has NaN or infinite elements"
    return None


def _summed(node: Node) -> Iterator[str]:
    """Parameters of a node that are contracted with data.

    Such a parameter shares an index with the data, and no result has this index (`i` of `weight[o, i]`).  A parameter
    with an index twice is contracted with the state of the previous step (`weight_hh[g*h, h]`).
    """
    signature = node.op.infer(node.types).solution.signature
    data = {name for pattern in signature.operands if pattern.name not in node.weights for name in _names(pattern)}
    gone = data - {name for pattern in signature.results for name in _names(pattern)}
    for pattern in signature.operands:
        names = _names(pattern)
        if pattern.name in node.weights and (not gone.isdisjoint(names) or len(names) > len(set(names))):
            yield pattern.name


def _names(pattern: Pattern) -> list[str]:
    return [factor.name for axis in pattern.axes for factor in axis.factors if isinstance(factor, Index)]


# Selection by magnitude -----------------------------------------------------------------------------------------


def _alive(graph: Graph, path: str) -> Array:
    """Mask of the elements of a weight that are not masked yet."""
    if not isinstance(graph.weights[path].storage, Masked):
        return np.ones(graph.weights[path].shape, np.bool_)
    assert graph.tensors is not None, "weights are bound before passes run"
    return graph.tensors[f"{path}_mask"].numpy()


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
        return (_magnitudes(self._graph, path)[_alive(self._graph, path)] for path in pool)

    def _take(self, counts: Array | int) -> int:
        """Upper or lower half of m, given the histogram of the halves.

        The elements with smaller halves are subtracted from the number of elements that are still to be selected.
        """
        totals = np.cumsum(counts)
        number = int(np.searchsorted(totals, self._ties))
        self._ties -= int(totals[number - 1]) if number else 0
        return number

    def mask(self, context: Context, path: str) -> int:
        """Mask the selected elements of one weight, and return their number."""
        alive, magnitudes = _alive(self._graph, path), _magnitudes(self._graph, path)
        below = alive & (magnitudes < self._bound)
        # Several elements may equal the bound; the first ones are masked.
        ties = np.flatnonzero(alive & (magnitudes == self._bound))[: self._ties]
        self._ties -= len(ties)
        below.flat[ties] = True
        count = int(below.sum())
        if count:
            kept = alive & ~below
            values = self._graph.weight_values(path).copy()
            values[~kept] = 0
            context.rewriter.set_storage(path, Masked(), {path: values, f"{path}_mask": kept})
        return count
