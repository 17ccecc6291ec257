"""Store the weights of layers as int8."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from archc.ir.graph import Graph
from archc.ir.storage import Int8, Masked
from archc.ir.types import DType
from archc.passmanager import Context

from ._layers import Layer

SCALES = 0.1
"""The largest share of a weight's bytes that its scales may take, where the axis they belong to is chosen."""


@dataclass(frozen=True)
class Stored:
    """What storing the weights of a layer did.

    Attributes:
        before, after: their bytes.
        error: the relative error of all of them together, in the Frobenius norm.
    """

    before: int
    after: int
    error: float


def obstacles(graph: Graph, layer: Layer) -> dict[str, str]:
    """The weights of a layer that cannot be stored as integers, by name, each with the reason."""
    reasons = ((name, _obstacle(graph, layer, name)) for name in layer.weights)
    return {name: reason for name, reason in reasons if reason is not None}


def _obstacle(graph: Graph, layer: Layer, name: str) -> str | None:
    path = layer.weights[name]
    weight, said = graph.weights[path], "its weight" if name == "weight" else f"its `{name}`"
    if not weight.storage.elementwise:
        return f"{said} is stored as {weight.storage} already"
    if name in layer.node.transposed:
        return f"{said} is `{path}` transposed, whose scales would lie inside its sums"
    if weight.dtype is not DType.f32:
        return f"{said} is {weight.dtype}, and integer kernels take f32"
    if not np.isfinite(graph.weight_values(path)).all():
        return f"{said} holds numbers that are not finite"
    return None


def store(graph: Graph, context: Context, layer: Layer, names: Iterable[str], by_channel: bool) -> Stored:
    """Store these weights of a layer as int8, those that an earlier layer shares excepted: they are stored already."""
    before = after = 0
    errors, norms = [], []
    for name in names:
        path = layer.weights[name]
        values = graph.weight_values(path)
        before += graph.weights[path].size * graph.weights[path].dtype.size
        if graph.weights[path].storage.elementwise:
            if isinstance(graph.weights[path].storage, Masked):
                context.note(layer.path, "its mask is gone: what it left out is zero in int8, too")
            axis = layer.op.channel_axis if layer.op.channel_axis is not None else _best_axis(values)
            context.rewriter.set_storage(path, Int8(axis if by_channel else None))
        after += graph.weights[path].nbytes
        errors.append(_norm(graph.weight_values(path) - values))
        norms.append(_norm(values))
    return Stored(before, after, math.hypot(*errors) / (math.hypot(*norms) or 1.0))


def _best_axis(values: np.ndarray) -> int | None:
    """The axis along which scales lose least, among those that have few places; None for a single scale."""
    axes: list[int | None] = [None]
    axes += [axis for axis, extent in enumerate(values.shape) if extent > 1 and 4 * extent <= SCALES * values.size]
    return min(axes, key=lambda axis: _norm(_stored_as(Int8(axis), values) - values))


def _stored_as(storage: Int8, values: np.ndarray) -> np.ndarray:
    return storage.decode("w", storage.encode("w", values))


def _norm(values: np.ndarray) -> float:
    """The Frobenius norm, in float64 and without BLAS, whose sums depend on the number of its threads."""
    return math.sqrt(np.square(values, dtype=np.float64).sum())
