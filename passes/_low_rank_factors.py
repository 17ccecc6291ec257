"""Factors of weights: computed from the weights or by calibration data, and put into the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np

from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.matrix_layers import matrix_obstacle, use_obstacle
from archc.compression.calibration.output_metric import LARGEST_MODEL, OutputMetric
from archc.compression.calibration.sequential import CompressedMatrix, Product, Solver, compress_sequentially
from archc.compression.factorization.kernel_chain import KernelChain, chain_refitter, whitened_groups
from archc.compression.factorization.low_rank import Array, Factors, Svd, factorizer
from archc.declaration.base import Operator
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.passmanager import Context
from archc.types.storage import LowRankStorage

from ._calibration_batches import calibration_batches
from ._calibration_statistics import output_metrics
from ._kernel_evidence import KernelEvidence, kernel_evidence
from ._kernel_ranks import KernelRanks
from ._low_rank_matrices import Matrix, Rank

if TYPE_CHECKING:
    import torch


AnyFactors = Factors | KernelChain
"""Two factors, or the convolutions of a form."""


@dataclass(frozen=True)
class Evidence:
    """Calibration data, and the effect of layers on the outputs.

    Attributes:
        batches: the data.
        metrics: output metric of the node of each matrix whose factors can be chosen by the data; None if it is not
            known.
        frequencies: shares of the selected rows of tables.
        kernels: metric of each group of channels of a convolution, for the forms of its kernel.
    """

    batches: Sequence[Mapping[str, torch.Tensor]]
    metrics: Mapping[Node, OutputMetric | None]
    frequencies: Mapping[Node, torch.Tensor] = field(default_factory=dict)
    kernels: Mapping[Node, KernelEvidence] = field(default_factory=dict)

    @property
    def known_metrics(self) -> dict[Node, OutputMetric]:
        """The metrics of `metrics` without None."""
        return {node: metric for node, metric in self.metrics.items() if metric is not None}

    @classmethod
    def collect(
        cls, graph: Graph, context: Context, matrices: Sequence[Matrix], kernels: Collection[Matrix] = ()
    ) -> Evidence:
        """Measure the effects of the layers of matrices.

        Args:
            matrices: those for which `Operator.factors` is used.
            kernels: those for which a form of a convolution is used.
        """
        nodes, convolutions = list[Node](), list[Node]()
        for matrix in dict.fromkeys([*matrices, *kernels]):
            obstacles = []
            if matrix in matrices:
                obstacles.append((matrix_obstacle(graph, matrix.layer), nodes))
            if matrix in kernels:
                obstacles.append((use_obstacle(graph, matrix.layer), convolutions))
            for obstacle, found in obstacles:
                if obstacle is None:
                    found.append(matrix.layer.node)
            obstacle = next((obstacle for obstacle, _ in obstacles if obstacle is not None), None)
            if obstacle is not None:
                context.note(matrix.layer.path, f"plain singular value decomposition: {obstacle}")
        batches = calibration_batches(graph, context, "`lowrank`")
        metrics: Mapping[Node, OutputMetric] = {}
        if sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL:
            context.progress("measure the effect of each layer on the outputs")
            metrics = output_metrics(graph, context, list(dict.fromkeys([*nodes, *convolutions])), batches)
        known = kernel_evidence(graph, context, convolutions, batches, metrics)
        return cls(batches, {node: metrics.get(node) for node in nodes}, kernels=known)

    @classmethod
    def of_ranks(cls, graph: Graph, context: Context, ranks: Mapping[Matrix, Rank]) -> Evidence:
        """Measure the effects of the layers of matrices, as their ranks need them."""
        kernels = [matrix for matrix, rank in ranks.items() if isinstance(rank, KernelRanks)]
        return cls.collect(graph, context, [matrix for matrix in ranks if matrix not in kernels], kernels)


@dataclass
class Outcome:
    """Factors of weights, and what they change.

    Attributes:
        factors: by matrix.
        errors: relative errors of the weights in the Frobenius norm.
    """

    factors: dict[Matrix, AnyFactors] = field(default_factory=dict)
    errors: dict[Matrix, float] = field(default_factory=dict)

    def add(self, matrix: Matrix, factors: AnyFactors, values: Array) -> None:
        """Add the factors of a weight with these values."""
        error = np.linalg.norm(values.astype(np.float64) - factors.product) / (np.linalg.norm(values) or 1.0)
        self.factors[matrix], self.errors[matrix] = factors, float(error)


def factors_of(
    graph: Graph,
    context: Context,
    ranks: Mapping[Matrix, Rank],
    plain: Mapping[Matrix, AnyFactors],
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
    by_data = {} if evidence is None else {m.layer.node: m for m, rank in ranks.items() if _known(evidence, m, rank)}
    others = [matrix for matrix in ranks if matrix.layer.node not in by_data]
    for matrix in others:
        values = matrix.values(graph)
        factors = plain[matrix] if matrix in plain else plain_factors(graph, matrix, ranks[matrix])
        outcome.add(matrix, factors, values)
    if evidence is None or not by_data:
        return outcome

    def store(node: Node, found: CompressedMatrix[AnyFactors]) -> None:
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
    solvers, products = dict[Node, Solver[Any]](), dict[Node, Product]()
    for node, matrix in by_data.items():
        rank = ranks[matrix]
        if isinstance(rank, KernelRanks):
            groups = whitened_groups(node.op, graph.weight_values(matrix.path), evidence.kernels[node].metrics)
            chain = KernelChain.of(node.op, groups, rank.form, rank.ranks)
            solvers[node], products[node] = chain_refitter(chain), chain.last_product
        else:
            solvers[node] = factorizer(rank, evidence.frequencies.get(node))
    compress_sequentially(graph, steps, solvers, evidence.known_metrics, store, products=products)
    return outcome


def plain_factors(graph: Graph, matrix: Matrix, rank: Rank) -> AnyFactors:
    """Factors by the weights alone."""
    if isinstance(rank, KernelRanks):
        op = matrix.layer.op
        return KernelChain.of(op, whitened_groups(op, graph.weight_values(matrix.path)), rank.form, rank.ranks)
    values = matrix.values(graph)
    return Factors.of(Svd.of(values), rank, values.dtype)


def rank_of(factors: AnyFactors) -> Rank:
    """The rank of factors."""
    return KernelRanks(factors.form, factors.ranks) if isinstance(factors, KernelChain) else factors.rank


def _known(evidence: Evidence, matrix: Matrix, rank: Rank) -> bool:
    """Return whether the factors of a rank can be chosen by the data."""
    return matrix.layer.node in (evidence.kernels if isinstance(rank, KernelRanks) else evidence.metrics)


def _set_product(graph: Graph, rewriter: Rewriter, matrix: Matrix, factors: AnyFactors) -> None:
    values = graph.weight_values(matrix.path)
    rewriter.set_weight(matrix.path, factors.product.astype(values.dtype).reshape(values.shape))


def put_factors(graph: Graph, rewriter: Rewriter, matrix: Matrix, factors: AnyFactors) -> None:
    """Replace a layer by several, or store its weight as two factors."""
    shape = graph.weights[matrix.path].shape
    if not matrix.splits:
        assert isinstance(factors, Factors), "only convolutions have chains"
        right = factors.right.reshape(factors.rank, *shape[1:])
        stored = {matrix.path: factors.left, f"{matrix.path}_right": right}
        rewriter.set_storage(matrix.path, LowRankStorage(factors.rank), stored)
        return
    node = matrix.layer.node
    bias = graph.weight_values(node.weights["bias"]) if "bias" in node.weights else None
    if isinstance(factors, KernelChain):
        chain, values_of = factors.parts, factors.weights
    else:
        chain = parts_of(matrix, factors.rank)
        values_of = [factors.left, factors.right.T] if matrix.selects_rows else [factors.right, factors.left]
    made = split_layer(rewriter, matrix.layer.nodes, chain)
    for each, values in zip(made, values_of, strict=True):
        path = each.weights["weight"]
        rewriter.set_weight(path, values.reshape(graph.weights[path].shape))
    if bias is not None:
        rewriter.set_weight(made[-1].weights["bias"], bias)


def parts_of(matrix: Matrix, rank: Rank) -> Sequence[Operator]:
    """The operators that replace a layer."""
    if isinstance(rank, KernelRanks):
        return matrix.layer.op.kernel_chain(rank.form, rank.ranks)
    pair = matrix.layer.op.factors(rank)
    assert pair is not None, "a matrix with a rank is paired"
    return pair


def split_layer(rewriter: Rewriter, nodes: Sequence[Node], parts: Sequence[Operator]) -> list[Node]:
    """Replace a layer by several without values, and return the nodes of its first use.

    Args:
        nodes: the uses of the layer.
    """
    chains = [_chain(rewriter, node, parts) for node in nodes]
    for node, chain in zip(nodes, chains, strict=True):
        rewriter.replace(node, chain[-1].results)
    return chains[0]


def _chain(rewriter: Rewriter, node: Node, parts: Sequence[Operator]) -> list[Node]:
    chain: list[Node] = []
    for letter, op in zip(ascii_lowercase, parts):
        operands = chain[-1].results if chain else node.operands
        chain.append(rewriter.add(op, operands, name=f"{node.name}.{letter}", near=node))
    return chain
