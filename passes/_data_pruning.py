"""Masks that are chosen by the calibration data, with weights that compensate for the masked elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_metric import LARGEST_MODEL
from archc.compression.calibration.sequential import CompressedMatrix, compress_sequentially
from archc.compression.pruning.pruned_matrix import DataMethod, PrunedWeight, pruner
from archc.compression.pruning.shares import masked_shares
from archc.compression.pruning.sparsity import KeptPattern, RemovedShare, Sparsity
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Masked
from archc.types.tensor_type import DType

from ._calibration_batches import calibration_batches
from ._calibration_statistics import operand_statistics, output_metrics
from ._prunable_weights import Mask, Scope, elements_left

METHODS: Mapping[DataMethod, str] = {"sparsegpt": "SparseGPT", "wanda": "Wanda"}
"""Names of the methods in remarks."""


def mask_by_data(
    graph: Graph,
    context: Context,
    method: DataMethod,
    goal: float | KeptPattern,
    scope: Scope,
    paths: Sequence[str],
) -> list[str]:
    """Mask elements of weights layer by layer, and fit weights and biases to the original results.

    Args:
        goal: share of the elements that is masked afterwards, or a pattern.
        scope: "global" to choose the share of each weight by its effect on the outputs, "layer" for equal shares.

    Returns:
        The paths of the other weights, to which the method does not apply; each layer has a note with the reason.
    """
    nodes, others = _nodes(graph, context, paths)
    left = {node: elements_left(graph, node.weights["weight"]) for node in nodes}
    if not any(_missing(goal, mask) for mask in left.values()):
        return others
    batches = calibration_batches(graph, context, METHODS[method])
    context.progress("measure the effect of each layer on the outputs")
    small = sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL
    metrics = output_metrics(graph, context, nodes, batches) if small else {}
    goals: dict[Node, float | KeptPattern] = dict.fromkeys(nodes, goal)
    if scope == "global" and method == "sparsegpt" and not isinstance(goal, KeptPattern):
        goals |= masked_shares(graph, left, operand_statistics(graph, context, batches, metrics), metrics, goal)
    missing = {node: _missing(goals[node], mask) for node, mask in left.items()}
    solvers = {node: pruner(method, each, left[node]) for node, each in missing.items() if each is not None}
    done = 0

    def store(node: Node, found: CompressedMatrix[PrunedWeight]) -> None:
        nonlocal done
        done += 1
        context.progress(f"prune {node.path} ({done} of {len(solvers)})")
        path, pruned = node.weights["weight"], found.result
        if not pruned.by_data:
            context.note(node.title, "pruned by magnitude: its operand has infinite or NaN elements")
        context.rewriter.set_storage(path, Masked(), {path: pruned.values, f"{path}_mask": pruned.kept})
        if found.bias is not None:
            context.rewriter.set_weight(node.weights["bias"], found.bias)

    compress_sequentially(graph, Lockstep(graph, batches), solvers, metrics, store, refit=method == "sparsegpt")
    return others


def _nodes(graph: Graph, context: Context, paths: Sequence[str]) -> tuple[list[Node], list[str]]:
    """Nodes whose weights the calibration data can choose, and the paths of the other weights, with notes."""
    layers = {path: layer for layer in layers_with_weights(graph) for path in layer.weights.values()}
    nodes, others = [], []
    for path in paths:
        layer = layers.get(path)
        obstacle = "its weight is a vector" if layer is None else _obstacle(graph, layer)
        if layer is None or obstacle is not None:
            others.append(path)
            context.note(path.rpartition(".")[0] if layer is None else layer.path, f"pruned by magnitude: {obstacle}")
        else:
            nodes.append(layer.node)
    return nodes, others


def _obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why the calibration data cannot choose the mask of a layer's weight, or None."""
    if layer.tied_to is not None:
        return f"it shares a weight with `{layer.tied_to}`"
    if layer.node.transposed:
        return "its weight is transposed"
    obstacle = matrix_obstacle(graph, layer)
    if obstacle is None and (dtype := graph.weights[layer.weights["weight"]].dtype) is not DType.f32:
        return f"its weight is {dtype}"
    return obstacle


def _missing(goal: float | KeptPattern, left: Mask) -> Sparsity | None:
    """Removal from the elements that are left; None if the weight is sparse enough."""
    if not isinstance(goal, KeptPattern):
        count = round(goal * left.size) - int(left.size - left.sum())
        return RemovedShare(count / int(left.sum())) if count > 0 else None
    import torch

    mask = torch.from_numpy(left.copy()).flatten(1)
    return None if torch.equal(goal.kept_of_rows(mask.float(), mask), mask) else goal
