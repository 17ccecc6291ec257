"""Choice of a rank for each weight under a budget for the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from archc.analysis.cost import cost, parameters
from archc.compression.allocation import Option, allocate_total
from archc.compression.calibration.layer_statistics import LayerStatistics
from archc.compression.calibration.output_error import OutputError, measured_ratio
from archc.compression.low_rank import Array, Factors, Svd
from archc.diagnostics import ArchcError, error
from archc.ir.copying import copied
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.passmanager import Context
from archc.types.storage import Dense, LowRankStorage, Storage

from ._calibration_statistics import operand_statistics
from ._low_rank_factors import Evidence, split_layer
from ._low_rank_matrices import Matrix
from ._model_budget import NAMES, Measure, ModelBudget
from ._program_size import LARGEST_EMITTED, NODE_BYTES, PROGRAM_BYTES, with_zeros

if TYPE_CHECKING:
    import torch

STEP = 8
"""Step of ranks: the number of f32 lanes in a vector of 256 bits."""
MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the error of the outputs is measured for each layer."""
MARGIN = 100
"""Rounding of an advised number of bytes, upwards; the text of a program contains the number."""

Ranks = Mapping[Matrix, int]
"""Ranks of the weights that become factors."""
Choice = Mapping[Matrix, Option[int | None]]
"""The option of each weight; the rank None leaves it dense."""


@dataclass(frozen=True)
class Allocation:
    """Ranks within a budget.

    Attributes:
        losses: expected squared errors of the outputs; empty without calibration data.
        evidence: the calibration data on which the ranks depend, if any.
    """

    ranks: Ranks
    losses: Mapping[Matrix, float] = field(default_factory=dict)
    evidence: Evidence | None = None


def ranks_within(
    graph: Graph, context: Context, matrices: Sequence[Matrix], budget: ModelBudget, by_data: bool
) -> Allocation:
    """Ranks of weights such that the model is within a budget, with the smallest expected error.

    The sum over the weights of the expected squared errors of the outputs is minimal; without calibration data, the sum
    of the relative squared errors of the weights.  A weight stays dense if this is better.  If the model is within the
    budget already, there are no ranks.

    Args:
        by_data: True to use the calibration data.

    Raises:
        ArchcError: no ranks are within the budget (`budget-too-small`).
    """
    total = _total(graph, context, budget.measure)
    before, name = total({}), NAMES[budget.measure]
    limit = budget.limit(before)
    if before <= limit:
        context.note(graph.name, f"the model has {before:,} {name}, within the budget of {limit:,}: no layer changes")
        return Allocation({})
    candidates = {matrix: _candidates(context, matrix, budget.measure) for matrix in matrices}
    candidates = {matrix: ranks for matrix, ranks in candidates.items() if ranks}
    smallest = {matrix: min(ranks) for matrix, ranks in candidates.items()}
    least = total(smallest)
    if least > limit:
        raise _too_small(graph, budget, before, limit, least)
    losses, evidence = _losses_by_data(graph, context, candidates) if by_data else (_losses(graph, candidates), None)
    options: dict[Matrix, list[Option[int | None]]] = {}
    for matrix, of_ranks in losses.items():
        options[matrix] = [Option(rank, _cost(matrix, rank, budget.measure), loss) for rank, loss in of_ranks.items()]
        options[matrix].append(Option(None, _cost(matrix, None, budget.measure), 0.0))
    least_options = {m: next(each for each in own if each.choice == smallest[m]) for m, own in options.items()}
    least = total(_ranks(least_options))
    if least > limit:  # the error of some layers could not be measured
        raise _too_small(graph, budget, before, limit, least)
    chosen = allocate_total(options, limit, least_options, lambda choice: total(_ranks(choice)))
    after = total(_ranks(chosen))
    loss = sum(option.loss for option in chosen.values())
    meaning = "expected squared error of the outputs" if evidence else "sum of the relative squared errors of weights"
    message = f"{after:,} of {before:,} {name} remain; the budget is {limit:,}; {meaning}: {loss:.2e}"
    context.note(graph.name, message, before=before, after=after, budget=limit)
    for matrix, option in chosen.items():
        if option.choice is None:
            context.left(matrix.layer.path, f"within the budget, {matrix.title} can stay dense")
    of_matrices = {matrix: option.loss for matrix, option in chosen.items()} if evidence else {}
    return Allocation(_ranks(chosen), of_matrices, evidence)


def _ranks(chosen: Choice) -> Ranks:
    return {matrix: option.choice for matrix, option in chosen.items() if option.choice is not None}


def _cost(matrix: Matrix, rank: int | None, measure: Measure) -> int:
    """Part of a weight in the budget; for bytes, without the text of the program."""
    if measure == "macs":
        return matrix.multiply_adds_at(rank)
    return matrix.parameters_at(rank) * (1 if measure == "params" else matrix.element_size)


def _candidates(context: Context, matrix: Matrix, measure: Measure) -> list[int]:
    """Ranks of a weight that make its layer smaller and not slower; a remark if there are none."""
    if measure == "macs" and not matrix.splits:
        context.left(matrix.layer.path, f"factors of {matrix.title} would be stored, which saves no multiply-adds")
        return []
    obstacles: dict[int, str | None] = {}
    for rank in range(STEP, matrix.full_rank, STEP):
        obstacles[rank] = matrix.obstacle_to_size(rank) or matrix.obstacle_to_speed(rank)
    found = [rank for rank, obstacle in obstacles.items() if obstacle is None]
    if not found:
        reason = f"rank {STEP} of {matrix.full_rank} {obstacles[STEP]}" if obstacles else f"has at most rank {STEP}"
        context.left(matrix.layer.path, reason if obstacles else f"{matrix.title} {reason}")
    return found


def _too_small(graph: Graph, budget: ModelBudget, before: int, limit: int, least: int) -> ArchcError:
    if budget.measure == "bytes":
        least = -(-(least + MARGIN) // MARGIN) * MARGIN
    option, name, share = budget.measure, NAMES[budget.measure], math.ceil(100 * least / before) / 100
    also = f", or `{option} = {share:g}`" if share <= 1 else ""
    return error(
        "budget-too-small",
        f"`lowrank` cannot reduce `{graph.name}` to {limit:,} of {before:,} {name}: with the smallest ranks, it has"
        f" {least:,}",
        notes=["weights that are not factorized count, too: `--explain` names them, with the reasons"],
        help=f"give at least `{option} = {least}`{also}, or use a smaller model",
    )


# Totals of a model ----------------------------------------------------------------------------------------------


def _total(graph: Graph, context: Context, measure: Measure) -> Callable[[Ranks], int]:
    """Function that counts a whole model in which some weights are factors."""
    if measure == "bytes":
        return lambda ranks: _program_bytes(graph, context, ranks)
    dense = parameters(graph) if measure == "params" else cost(graph, context.sizes).multiply_adds
    return lambda ranks: dense + sum(_cost(m, rank, measure) - _cost(m, None, measure) for m, rank in ranks.items())


def _program_bytes(graph: Graph, context: Context, ranks: Ranks) -> int:
    """Bytes of the largest program, emitted with zeros, or estimated."""
    trial = _with_factors(graph, ranks)
    weights = sum(weight.nbytes for weight in trial.weights.values())
    emitted = context.targets.program_bytes(trial) if weights <= LARGEST_EMITTED else {}
    return max(emitted.values(), default=weights + PROGRAM_BYTES + NODE_BYTES * len(trial))


def _with_factors(graph: Graph, ranks: Ranks) -> Graph:
    """A copy of the graph with factors of zeros."""
    trial = copied(graph)
    rewriter, copies = Rewriter(trial), dict(zip(graph.nodes(), trial.nodes(), strict=True))
    storages: dict[str, Storage] = {}
    for matrix, rank in ranks.items():
        if matrix.splits:
            for node in split_layer(rewriter, [copies[node] for node in matrix.layer.nodes], rank):
                storages.update(dict.fromkeys(node.weights.values(), Dense()))
        else:
            storages[matrix.path] = LowRankStorage(rank)
    rewriter.remove_unused_weights()
    return with_zeros(trial, storages)


# Losses ---------------------------------------------------------------------------------------------------------


def _losses(graph: Graph, candidates: Mapping[Matrix, Sequence[int]]) -> dict[Matrix, dict[int, float]]:
    """Relative squared errors of the weights."""
    found = {}
    for matrix, ranks in candidates.items():
        svd = Svd.of(matrix.values(graph))
        found[matrix] = {rank: svd.error(rank) ** 2 for rank in ranks}
    return found


def _losses_by_data(
    graph: Graph, context: Context, candidates: Mapping[Matrix, Sequence[int]]
) -> tuple[dict[Matrix, dict[int, float]], Evidence]:
    """Expected squared errors of the outputs by weight and rank, and the data that give them.

    The losses of a weight are the discarded squared singular values, in the norm of the outputs, times a factor that is
    measured at one rank.
    """
    evidence = Evidence.collect(graph, context, list(candidates))
    context.progress("measure the operands of each layer")
    statistics = operand_statistics(graph, context, evidence.batches, evidence.known_metrics)
    shares = {node: own.frequencies for node, own in statistics.items() if own.frequencies is not None}
    question = "losses of ranks", tuple((matrix.path, tuple(ranks)) for matrix, ranks in candidates.items())
    losses = context.calibration.findings.of(
        graph, question, lambda: _measured_losses(graph, context, candidates, evidence, statistics)
    )
    found = {}
    for matrix, of_ranks in zip(candidates, losses, strict=True):
        if of_ranks is None:
            context.left(matrix.layer.path, "its effect on the outputs cannot be measured")
        else:
            found[matrix] = of_ranks
    return found, replace(evidence, frequencies=shares)


def _measured_losses(
    graph: Graph,
    context: Context,
    candidates: Mapping[Matrix, Sequence[int]],
    evidence: Evidence,
    statistics: Mapping[Node, LayerStatistics],
) -> list[dict[int, float] | None]:
    """Losses of the ranks of each weight; None if its loss cannot be measured."""
    errors = OutputError(graph, evidence.batches[:MEASURED_BATCHES])
    found: list[dict[int, float] | None] = []
    for matrix, ranks in candidates.items():
        context.progress(f"measure the ranks of {matrix.layer.path}")
        own = statistics.get(matrix.layer.node)
        metric = evidence.metrics.get(matrix.layer.node)
        values = matrix.values(graph)
        known = own is not None and metric is not None
        svd = _weighted(values, own, metric.matrix) if own is not None and metric is not None else Svd.of(values)
        probe = ranks[len(ranks) // 2]
        measured, predicted = errors.of(_truncated(graph, matrix, svd, probe, own)), svd.loss(probe)
        if measured is None and not known:
            found.append(None)
            continue
        ratio = measured_ratio(measured, predicted) if known else (measured or 0.0) / (predicted or 1.0)
        found.append({rank: ratio * svd.loss(rank) for rank in ranks})
    return found


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
