"""Weights stored as two factors, for layers that do not split into two: recurrent ones, and parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage import LowRankStorage

from ._layers import Layer
from ._svd import Svd

Ranks = Callable[[Svd], list[int]]
"""Function that gives the candidate ranks, the best one first."""


def store_factors(graph: Graph, context: Context, layer: Layer, ranks: Ranks) -> None:
    """Store each weight of a layer as two factors if that is smaller, and add a remark on each.

    The layer still computes with the product, so its multiply-adds do not change.
    """
    for name, path in layer.weights.items():
        values = graph.weight_values(path)
        matrix = values.reshape(len(values), -1)
        title = name if len(layer.weights) > 1 else "its weight"
        if not np.isfinite(matrix).all():
            context.left(layer.path, f"{title} holds numbers that are not finite")
            continue
        svd = Svd.of(matrix)
        m, n = matrix.shape
        rank = min(ranks(svd))
        before, after = m * n, rank * (m + n)
        figures = {"rank": rank, "full_rank": min(m, n), "parameters_before": before, "parameters_after": after}
        if after >= before:
            why = f"would not make it smaller: r(m + n) = {after:,} ≥ mn = {before:,}"
            context.left(layer.path, f"{title}: rank {rank} of {min(m, n)} {why}", **figures)
            continue
        right, left = svd.factors(rank)
        stored = {path: left, f"{path}_right": right.reshape(rank, *values.shape[1:])}
        dtype = values.dtype
        storage = LowRankStorage(rank)
        context.rewriter.set_storage(path, storage, {key: factor.astype(dtype) for key, factor in stored.items()})
        context.rewrote(
            layer.path,
            f"{title} stored as {storage}: rank {rank} of {min(m, n)}, {after / before:.0%} of the parameters,"
            f" {svd.error(rank):.1%} error in the weight",
            **figures,
            energy=round(svd.kept(rank), 6),
            error=round(svd.error(rank), 6),
        )
