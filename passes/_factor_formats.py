"""Formats of weights that `lowrank` has stored as two factors: both factors get the format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.quantization.weight_formats import Array
from archc.declaration.traits import FACTORED_STORAGE
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.storage import Float8Storage, Int8, LowRankStorage, PackedIntegers, Storage, Weight


def has_float_factors(layer: Layer, weight: Weight) -> bool:
    """Return whether a weight is stored as two factors in floats, and computed as their product.

    In other layers, factors in integers would prevent integer kernels.
    """
    storage = weight.storage
    return isinstance(storage, LowRankStorage) and storage.format is None and layer.op.has(FACTORED_STORAGE)


def format_for(weight: Weight, storage: Storage) -> Storage:
    """A format for a weight; for one with factors, the same format for its factors, with scales for rows."""
    present = weight.storage
    if not isinstance(present, LowRankStorage):
        return storage
    if isinstance(storage, Int8 | PackedIntegers | Float8Storage) and storage.axis is not None:
        storage = replace(storage, axis=0)
    return replace(present, format=storage)


def floats_to_store(graph: Graph, path: str) -> tuple[Array, ...]:
    """The elements of a weight, or of its factors, that a format rounds.

    The columns of the left factor have the norm 1.  Each column takes part in the weight with the norm of its row of
    the right factor, so a scale for a row rounds all columns with the same relative error.
    """
    weight, tensors = graph.weights[path], graph.tensors
    if not isinstance(weight.storage, LowRankStorage):
        return (graph.weight_values(path),)
    assert tensors is not None, "weights are bound before passes run"
    stored = {name: tensors[name].numpy() for name in weight.tensors}
    left, right = weight.storage.decode_factors(path, stored, weight.shape, weight.dtype)
    norms = np.linalg.norm(left.astype(np.float64), axis=0)
    norms = np.where(norms > 0, norms, 1)
    return (left / norms).astype(left.dtype), (right.T * norms).T.astype(right.dtype)


def set_format(graph: Graph, rewriter: Rewriter, path: str, storage: Storage) -> None:
    """Store a weight in a format of `format_for`, rounded to nearest."""
    if isinstance(storage, LowRankStorage):
        rewriter.set_storage(path, storage, storage.encode_factors(path, *floats_to_store(graph, path)))
    else:
        rewriter.set_storage(path, storage)
