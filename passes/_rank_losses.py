"""Losses of the ranks of each weight: by the weight alone, or by calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.layer_statistics import LayerStatistics
from archc.compression.calibration.output_error import OutputError, measured_ratio
from archc.compression.factorization.kernel_chain import KernelChain, whitened_groups
from archc.compression.factorization.kernel_factors import WhitenedKernel
from archc.compression.factorization.low_rank import Array, Factors, Svd
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

from ._calibration_statistics import operand_statistics
from ._kernel_ranks import KernelRanks
from ._low_rank_factors import Evidence
from ._low_rank_matrices import Matrix, Rank

if TYPE_CHECKING:
    import torch

MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the error of the outputs is measured for each layer."""

Candidates = Mapping[Matrix, Sequence[Rank]]
Losses = dict[Matrix, dict[Rank, float]]


def losses_of(graph: Graph, context: Context, candidates: Candidates, by_data: bool) -> tuple[Losses, Evidence | None]:
    """Losses by weight and rank, and the data that give them, if `by_data` is True."""
    return _losses_by_data(graph, context, candidates) if by_data else (_plain_losses(graph, candidates), None)


def _plain_losses(graph: Graph, candidates: Candidates) -> Losses:
    """Relative squared errors of the weights."""
    found: Losses = {}
    for matrix, ranks in candidates.items():
        values, own = matrix.values(graph), found.setdefault(matrix, {})
        pairs, forms = _divided(ranks)
        if pairs:
            svd = Svd.of(values)
            own.update({rank: svd.error(rank) ** 2 for rank in pairs})
        if forms:
            groups = whitened_groups(matrix.layer.op, graph.weight_values(matrix.path))
            total = sum(group.total for group in groups) or 1.0
            for kernel_ranks in forms.values():
                own.update({rank: loss / total for rank, loss in _kernel_losses(groups, kernel_ranks).items()})
    return found


def _losses_by_data(graph: Graph, context: Context, candidates: Candidates) -> tuple[Losses, Evidence]:
    """Expected squared errors of the outputs by weight and rank, and the data that give them.

    The losses of a weight are the discarded squared singular values, in the norm of the outputs, times a factor that is
    measured at one rank of each form.
    """
    divided = {matrix: _divided(ranks) for matrix, ranks in candidates.items()}
    paired = [matrix for matrix, (pairs, _) in divided.items() if pairs]
    evidence = Evidence.collect(graph, context, paired, [matrix for matrix, (_, forms) in divided.items() if forms])
    context.progress("measure the operands of each layer")
    statistics = operand_statistics(graph, context, evidence.batches, evidence.known_metrics)
    shares = {node: own.frequencies for node, own in statistics.items() if own.frequencies is not None}
    question = "losses of ranks", tuple((matrix.path, tuple(ranks)) for matrix, ranks in candidates.items())
    losses = context.calibration.findings.of(
        graph, question, lambda: _measured_losses(graph, context, candidates, evidence, statistics)
    )
    found: Losses = {}
    for matrix, of_ranks in zip(candidates, losses, strict=True):
        if of_ranks:
            found[matrix] = of_ranks
        else:
            context.left(matrix.layer.path, "its effect on the outputs cannot be measured")
    return found, replace(evidence, frequencies=shares)


def _measured_losses(
    graph: Graph,
    context: Context,
    candidates: Candidates,
    evidence: Evidence,
    statistics: Mapping[Node, LayerStatistics],
) -> list[dict[Rank, float]]:
    """Losses of the ranks of each weight; empty if its loss cannot be measured."""
    errors = OutputError(graph, evidence.batches[:MEASURED_BATCHES])
    found = []
    for matrix, ranks in candidates.items():
        context.progress(f"measure the ranks of {matrix.layer.path}")
        pairs, forms = _divided(ranks)
        losses: dict[Rank, float] = {}
        if pairs:
            losses.update(_pair_losses(graph, matrix, pairs, statistics.get(matrix.layer.node), evidence, errors))
        if forms:
            losses.update(_measured_kernel_losses(graph, matrix, forms.values(), evidence, errors))
        found.append(losses)
    return found


def _divided(ranks: Sequence[Rank]) -> tuple[list[int], dict[str, list[KernelRanks]]]:
    """Ranks of `Operator.factors`, and those of forms by name."""
    pairs, forms = list[int](), dict[str, list[KernelRanks]]()
    for rank in ranks:
        if isinstance(rank, KernelRanks):
            forms.setdefault(rank.form.name, []).append(rank)
        else:
            pairs.append(rank)
    return pairs, forms


# Forms of convolutions --------------------------------------------------------------------------------------------


def _kernel_losses(groups: Sequence[WhitenedKernel], ranks: Sequence[KernelRanks]) -> dict[Rank, float]:
    """Squared errors of ranks of one form, in the norm of the kernels; for Tucker-2, an upper bound."""
    tails: list[Array] = []
    for group in groups:
        own = [np.append(np.cumsum(each[::-1])[::-1], 0.0) for each in group.spectra(ranks[0].form)]
        tails = [before + each for before, each in zip(tails, own, strict=True)] if tails else own
    return {rank: float(sum(tail[each] for tail, each in zip(tails, rank.ranks, strict=True))) for rank in ranks}


def _measured_kernel_losses(
    graph: Graph, matrix: Matrix, forms: Iterable[Sequence[KernelRanks]], evidence: Evidence, errors: OutputError
) -> dict[Rank, float]:
    """Expected squared errors of the outputs; empty if they are not known."""
    node, own = matrix.layer.node, evidence.kernels.get(matrix.layer.node)
    weight = graph.weight_values(matrix.path)
    groups = whitened_groups(node.op, weight, None if own is None else own.metrics)
    found: dict[Rank, float] = {}
    for ranks in forms:
        losses = _kernel_losses(groups, ranks)
        probe = sorted(ranks, key=matrix.parameters_at)[len(ranks) // 2]
        chain = KernelChain.of(node.op, groups, probe.form, probe.ranks)
        values = {matrix.path: chain.product.astype(weight.dtype).reshape(weight.shape)}
        measured = errors.of(values if own is None else own.with_product(graph, node, chain))
        ratio = _ratio(measured, losses[probe], own is not None and own.output is not None)
        if ratio is not None:
            found.update({rank: ratio * loss for rank, loss in losses.items()})
    return found


def _ratio(measured: float | None, predicted: float, known: bool) -> float | None:
    """Factor from predicted to expected errors of the outputs; None if it cannot be measured.

    Args:
        known: True if the prediction has the unit of the errors of the outputs.
    """
    if known:
        return measured_ratio(measured, predicted)
    return None if measured is None else measured / (predicted or 1.0)


# Pairs of factors -------------------------------------------------------------------------------------------------


def _pair_losses(
    graph: Graph,
    matrix: Matrix,
    ranks: Sequence[int],
    statistics: LayerStatistics | None,
    evidence: Evidence,
    errors: OutputError,
) -> dict[Rank, float]:
    """Expected squared errors of the outputs; empty if they are not known."""
    metric = evidence.metrics.get(matrix.layer.node)
    values = matrix.values(graph)
    if statistics is not None and metric is not None:
        svd = _weighted(values, statistics, metric.matrix)
    else:
        svd = Svd.of(values)
    probe = ranks[len(ranks) // 2]
    measured = errors.of(_truncated(graph, matrix, svd, probe, statistics))
    ratio = _ratio(measured, svd.loss(probe), statistics is not None and metric is not None)
    return {} if ratio is None else {rank: ratio * svd.loss(rank) for rank in ranks}


def _weighted(values: Array, statistics: LayerStatistics, metric: torch.Tensor) -> Svd:
    """The decomposition of a weight in the norm of the outputs."""
    if statistics.frequencies is not None:
        return Svd.weighted(values, statistics.frequencies, metric)
    (moments,) = statistics.moments
    return Svd.weighted(values, metric, moments.hessian)


def _truncated(
    graph: Graph, matrix: Matrix, svd: Svd, rank: int, statistics: LayerStatistics | None
) -> dict[str, Array]:
    """The weight of a rank, and the bias that absorbs the mean error, by path."""
    values, weights = matrix.values(graph), matrix.layer.node.weights
    product = Factors.of(svd, rank, values.dtype).product
    found = {matrix.path: product.astype(values.dtype).reshape(graph.weights[matrix.path].shape)}
    if statistics is not None and "bias" in weights:
        (moments,) = statistics.moments
        bias = graph.weight_values(weights["bias"])
        found[weights["bias"]] = (bias + (values - product) @ moments.mean.numpy()).astype(bias.dtype)
    return found
