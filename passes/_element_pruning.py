"""Masks for single elements of weights: selection of the weights, and remarks on their layers."""

from __future__ import annotations

from dataclasses import dataclass

from archc.compression.pruning.pruned_matrix import DataMethod
from archc.compression.pruning.sparsity import KeptPattern
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage import Masked

from ._data_pruning import METHODS, mask_by_data
from ._magnitude_pruning import mask_smallest, mask_to_pattern
from ._prunable_weights import Scope, Wanted, elements_left, layers_with_parameters, pruning_obstacles


@dataclass(frozen=True)
class ElementPruning:
    """Settings of the masks.

    Attributes:
        goal: share of the elements that is masked afterwards, or a pattern.
        method: the method for weights of layers that are a product with one matrix; None for magnitudes.  Other weights
            are pruned by magnitude.
        scope: "global" for one threshold on the magnitudes or effects of all weights, "layer" for the same share of
            each weight.
    """

    goal: float | KeptPattern
    method: DataMethod | None
    scope: Scope


def mask_elements(graph: Graph, context: Context, pruning: ElementPruning, wanted: Wanted) -> None:
    """Mask elements of the selected layers, and add a remark on every layer that has weights."""
    goal, layers = pruning.goal, layers_with_parameters(graph)
    in_rows = isinstance(goal, KeptPattern)
    obstacles = pruning_obstacles(graph, layers, wanted, in_rows)
    always = pruning_obstacles(graph, layers, lambda layer: True, in_rows)
    free = [path for path, obstacle in obstacles.items() if obstacle is None]
    before = {path: _masked(graph, path) for path in free}
    method, scope, by_magnitude = pruning.method, pruning.scope, free
    if method is not None:
        by_magnitude = mask_by_data(graph, context, method, goal, scope, free)
    if isinstance(goal, KeptPattern):
        mask_to_pattern(graph, context, goal, by_magnitude)
    else:
        mask_smallest(graph, context, goal, scope, by_magnitude)
    after = {path: _masked(graph, path) for path in free}
    size, zeros = sum(graph.weights[path].size for path in free), sum(after.values())
    masks = sum(graph.weights[path].size for path in free if isinstance(graph.weights[path].storage, Masked))
    stored = f"; the masks add {masks:,} bytes" if masks else ""
    context.note(graph.name, f"{zeros:,} of {size:,} selected weights are zero{stored}", weights=size, zeros=zeros)
    for layer, paths in layers.items():
        parts = [path for path in paths if path in after]
        if parts:
            size = sum(graph.weights[path].size for path in parts)
            zeros = sum(after[path] for path in parts)
            own = None if set(parts) & set(by_magnitude) else method
            _remark(context, layer, size, sum(before[path] for path in parts), zeros, own, in_rows)
            pruned = zeros > sum(before[path] for path in parts)
            if pruned and scope == "global" and not isinstance(goal, KeptPattern):
                _warn_of_share(context, layer, zeros / max(size, 1), goal)
        elif any(path in always and always[path] is None for path in paths):
            reason = next((reason for path in paths if (reason := obstacles.get(path))), "")
            context.left(layer, reason if wanted(layer) else "not selected")
        else:
            obstacle = next((obstacle for path in paths if (obstacle := always.get(path))), None)
            context.inapplicable(layer, obstacle or "none of its weights is contracted with data")


def _masked(graph: Graph, path: str) -> int:
    """Number of masked elements of a weight."""
    return int((~elements_left(graph, path)).sum())


def _remark(
    context: Context, layer: str, size: int, before: int, after: int, method: DataMethod | None, in_rows: bool
) -> None:
    """Add a remark on the number of zero weights of a layer.

    Args:
        size: number of weights.
        before, after: number of masked weights before and after the pass.
        method: None for magnitudes.
        in_rows: True for a pattern, which masks weights of every row with more weights than it keeps.
    """
    share = after / max(size, 1)
    figures: dict[str, float | int | str] = {"weights": size, "zeros": after, "sparsity": round(share, 6)}
    if method is not None:
        figures["method"] = method
    how = "" if method is None else f", by {METHODS[method]}"
    if after == size > before:
        context.rewrote(layer, f'all {size:,} weights are zero: `scope = "layer"` keeps some', **figures)
    elif after > before:
        context.rewrote(layer, f"{after:,} of {size:,} weights are zero ({share:.1%}){how}", **figures)
    elif after:
        context.left(layer, f"{share:.1%} of its weights are zero already", **figures)
    else:
        reason = (
            "its rows have no more weights than the pattern keeps"
            if in_rows
            else "none of its weights is among the smallest"
        )
        context.left(layer, reason, **figures)


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
