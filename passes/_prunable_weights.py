"""Weights that can lose elements, and the masks of earlier passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from archc.ir.graph import Graph, Node
from archc.types.signature import Axis, Index, Pattern
from archc.types.storage import Masked

Mask = npt.NDArray[np.bool_]
Scope = Literal["global", "layer"]
Wanted = Callable[[str], bool]
"""Predicate on the path of a layer: True if the layer may lose weights."""


def layers_with_parameters(graph: Graph) -> dict[str, list[str]]:
    """Layers that have trainable weights, in order, with the paths of these weights."""
    layers = {path: list(dict.fromkeys(node.weights.values())) for path, node in graph.layers().items()}
    trained = {layer: [path for path in paths if graph.weights[path].trainable] for layer, paths in layers.items()}
    return {layer: paths for layer, paths in trained.items() if paths}


def pruning_obstacles(
    graph: Graph, layers: Mapping[str, Sequence[str]], wanted: Wanted, in_rows: bool = False
) -> dict[str, str | None]:
    """Weights that are contracted with data, each with the reason to leave it unmasked, or None.

    Args:
        in_rows: True if the masked elements are chosen along the rows of a matrix, which has the first axis of the
            weight.
    """
    users: dict[str, list[str]] = {}
    for layer, paths in layers.items():
        for path in paths:
            users.setdefault(path, []).append(layer)
    found = [(node.weights[name], axis) for node in graph.nodes() for name, axis in _summed_axes(node)]
    summed, across = {path for path, _ in found}, {path for path, axis in found if axis == 0 and in_rows}
    obstacles = {path: _obstacle(graph, path, layers, wanted) for path, layers in users.items() if path in summed}
    return {
        path: f"the first axis of `{path}` is that of its inputs" if obstacle is None and path in across else obstacle
        for path, obstacle in obstacles.items()
    }


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


def _summed_axes(node: Node) -> Iterator[tuple[str, int]]:
    """Parameters of a node that are contracted with data, with each axis that is contracted.

    Such a parameter shares an index with the data, and no result has this index (`i` of `weight[o, i]`).  A parameter
    with an index twice is contracted with the state of the previous step (`weight_hh[g*h, h]`).
    """
    signature = node.op.infer(node.types).solution.signature
    data = {name for pattern in signature.operands if pattern.name not in node.weights for name in _names(pattern)}
    gone = data - {name for pattern in signature.results for name in _names(pattern)}
    for pattern in signature.operands:
        if pattern.name in node.weights:
            seen: set[str] = set()
            for axis, names in enumerate(map(_names_of_axis, pattern.axes)):
                if not (gone | seen).isdisjoint(names):
                    yield pattern.name, axis
                seen.update(names)


def _names(pattern: Pattern) -> Iterator[str]:
    return (name for axis in pattern.axes for name in _names_of_axis(axis))


def _names_of_axis(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]


def elements_left(graph: Graph, path: str) -> Mask:
    """Mask of the elements of a weight that are not masked yet."""
    if not isinstance(graph.weights[path].storage, Masked):
        return np.ones(graph.weights[path].shape, np.bool_)
    assert graph.tensors is not None, "weights are bound before passes run"
    return graph.tensors[f"{path}_mask"].numpy()
