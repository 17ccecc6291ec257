"""Factors of weights: computed from the weights or by calibration data, and put into the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_metric import LARGEST_MODEL, OutputMetric
from archc.compression.calibration.sequential import CompressedMatrix, compress_sequentially
from archc.compression.low_rank import Array, Factors, Svd, factorizer
from archc.declaration.base import Operator
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.passmanager import Context
from archc.types.storage import LowRankStorage

from ._calibration_batches import calibration_batches
from ._calibration_statistics import output_metrics
from ._low_rank_matrices import Matrix

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Evidence:
    """Calibration data, and the effect of layers on the outputs.

    Attributes:
        batches: the data.
        metrics: output metric of the node of each matrix whose factors can be chosen by the data; None if it is not
            known.
        frequencies: shares of the selected rows of tables.
    """

    batches: Sequence[Mapping[str, torch.Tensor]]
    metrics: Mapping[Node, OutputMetric | None]
    frequencies: Mapping[Node, torch.Tensor] = field(default_factory=dict)

    @property
    def known_metrics(self) -> dict[Node, OutputMetric]:
        """The metrics without None."""
        return {node: metric for node, metric in self.metrics.items() if metric is not None}

    @classmethod
    def collect(cls, graph: Graph, context: Context, matrices: Sequence[Matrix]) -> Evidence:
        """Measure the effects of the layers of matrices."""
        nodes = []
        for matrix in matrices:
            obstacle = matrix_obstacle(graph, matrix.layer)
            if obstacle is None:
                nodes.append(matrix.layer.node)
            else:
                context.note(matrix.layer.path, f"plain singular value decomposition: {obstacle}")
        batches = calibration_batches(graph, context, "`lowrank`")
        metrics: Mapping[Node, OutputMetric] = {}
        if sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL:
            context.progress("measure the effect of each layer on the outputs")
            metrics = output_metrics(graph, context, nodes, batches)
        return cls(batches, {node: metrics.get(node) for node in nodes})


@dataclass
class Outcome:
    """Factors of weights, and what they change.

    Attributes:
        factors: by matrix.
        errors: relative errors of the weights in the Frobenius norm.
    """

    factors: dict[Matrix, Factors] = field(default_factory=dict)
    errors: dict[Matrix, float] = field(default_factory=dict)

    def add(self, matrix: Matrix, factors: Factors, values: Array) -> None:
        """Add the factors of a weight with these values."""
        error = np.linalg.norm(values.astype(np.float64) - factors.product) / (np.linalg.norm(values) or 1.0)
        self.factors[matrix], self.errors[matrix] = factors, float(error)


def factors_of(
    graph: Graph,
    context: Context,
    ranks: Mapping[Matrix, int],
    plain: Mapping[Matrix, Factors],
    evidence: Evidence | None,
) -> Outcome:
    """Factors of the given ranks; the biases of layers change with them.

    By calibration data, the layers are factorized in the order of the data flow, each on the operands that it gets
    after the layers before it, and with the results of the original model as targets.

    Args:
        plain: factors that are known already, from the weights alone.
        evidence: None to use no data.
    """
    outcome = Outcome()
    by_data = {} if evidence is None else {m.layer.node: m for m in ranks if m.layer.node in evidence.metrics}
    others = [matrix for matrix in ranks if matrix.layer.node not in by_data]
    for matrix in others:
        values = matrix.values(graph)
        factors = plain[matrix] if matrix in plain else Factors.of(Svd.of(values), ranks[matrix], values.dtype)
        outcome.add(matrix, factors, values)
    if evidence is None or not by_data:
        return outcome

    def store(node: Node, found: CompressedMatrix[Factors]) -> None:
        matrix = by_data[node]
        context.progress(f"factorize {matrix.layer.path} ({len(outcome.factors) + 1} of {len(ranks)})")
        outcome.add(matrix, found.result, matrix.values(graph))
        _set_product(graph, context.rewriter, matrix, found.result)
        if found.bias is not None:
            context.rewriter.set_weight(node.weights["bias"], found.bias)

    steps = Lockstep(graph, evidence.batches)
    for matrix in others:  # the layers after them compensate their errors
        _set_product(graph, context.rewriter, matrix, outcome.factors[matrix])
        steps.changed(matrix.path)
    solvers = {node: factorizer(ranks[matrix], evidence.frequencies.get(node)) for node, matrix in by_data.items()}
    compress_sequentially(graph, steps, solvers, evidence.known_metrics, store)
    return outcome


def _set_product(graph: Graph, rewriter: Rewriter, matrix: Matrix, factors: Factors) -> None:
    weight = graph.weights[matrix.path]
    rewriter.set_weight(matrix.path, factors.product.astype(factors.left.dtype).reshape(weight.shape))


def put_factors(graph: Graph, rewriter: Rewriter, matrix: Matrix, factors: Factors) -> None:
    """Replace a layer by two, or store its weight as two factors."""
    shape = graph.weights[matrix.path].shape
    if not matrix.splits:
        right = factors.right.reshape(factors.rank, *shape[1:])
        stored = {matrix.path: factors.left, f"{matrix.path}_right": right}
        rewriter.set_storage(matrix.path, LowRankStorage(factors.rank), stored)
        return
    node = matrix.layer.node
    bias = graph.weight_values(node.weights["bias"]) if "bias" in node.weights else None
    first, second = split_layer(rewriter, matrix.layer.nodes, factors.rank)
    values_of = (factors.left, factors.right.T) if matrix.selects_rows else (factors.right, factors.left)
    for each, values in zip((first, second), values_of, strict=True):
        path = each.weights["weight"]
        rewriter.set_weight(path, values.reshape(graph.weights[path].shape))
    if bias is not None:
        rewriter.set_weight(second.weights["bias"], bias)


def split_layer(rewriter: Rewriter, nodes: Sequence[Node], rank: int) -> tuple[Node, Node]:
    """Replace a layer by two without values, and return the nodes of its first use.

    Args:
        nodes: the uses of the layer.
    """
    pair = nodes[0].op.factors(rank)
    assert pair is not None, "`matrices_of_layers` has checked that the operator has factors"
    pairs = [_split(rewriter, node, pair) for node in nodes]
    for node, (_, second) in zip(nodes, pairs, strict=True):
        rewriter.replace(node, second.results)
    return pairs[0]


def _split(rewriter: Rewriter, node: Node, pair: tuple[Operator, Operator]) -> tuple[Node, Node]:
    first = rewriter.add(pair[0], node.operands, name=f"{node.name}.a", near=node)
    second = rewriter.add(pair[1], first.results, name=f"{node.name}.b", near=node)
    return first, second
