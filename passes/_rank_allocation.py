"""Choice of a rank for each weight under a budget for the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from archc.analysis.cost import cost, parameters
from archc.compression.allocation import Option, allocate_total, best_options
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.diagnostics import ArchcError, error
from archc.ir.copying import copied
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.passmanager import Context
from archc.types.storage import Dense, LowRankStorage, Storage

from ._low_rank_factors import Evidence, parts_of, split_layer
from ._low_rank_matrices import Matrix, Rank
from ._model_budget import NAMES, Measure, ModelBudget
from ._program_size import LARGEST_EMITTED, NODE_BYTES, PROGRAM_BYTES, with_zeros
from ._rank_losses import losses_of

STEP = 8
"""Step of ranks: the number of f32 lanes in a vector of 256 bits."""
MOST_EXACT = 4096
"""Elements of a window up to which their second moments are used; for 8192, they take minutes."""
MARGIN = 100
"""Rounding of an advised number of bytes, upwards; the text of a program contains the number."""

Ranks = Mapping[Matrix, Rank]
"""Ranks of the weights that become factors."""
Choice = Mapping[Matrix, Option[Rank | None]]
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
    graph: Graph,
    context: Context,
    matrices: Sequence[Matrix],
    budget: ModelBudget,
    by_data: bool,
    form: str | None,
) -> Allocation:
    """Ranks of weights such that the model is within a budget, with the smallest expected error.

    The sum over the weights of the expected squared errors of the outputs is minimal; without calibration data, the sum
    of the relative squared errors of the weights.  A weight stays dense if this is better.  If the model is within the
    budget already, there are no ranks.

    Args:
        by_data: True to use the calibration data.
        form: the form of convolutions; None for the best one.

    Raises:
        ArchcError: no ranks are within the budget (`budget-too-small`).
    """
    total = _total(graph, context, budget.measure)
    before, name = total({}), NAMES[budget.measure]
    limit = budget.limit(before)
    if before <= limit:
        context.note(graph.name, f"the model has {before:,} {name}, within the budget of {limit:,}: no layer changes")
        return Allocation({})
    candidates = {matrix: _candidates(graph, context, matrix, budget.measure, by_data, form) for matrix in matrices}
    candidates = {matrix: ranks for matrix, ranks in candidates.items() if ranks}
    smallest = {matrix: _smallest(matrix, ranks, budget.measure) for matrix, ranks in candidates.items()}
    least = total(smallest)
    if least > limit:
        raise _too_small(graph, budget, before, limit, least)
    losses, evidence = losses_of(graph, context, candidates, by_data)
    options: dict[Matrix, list[Option[Rank | None]]] = {}
    for matrix, of_ranks in losses.items():
        own = [Option[Rank | None](rank, _cost(matrix, rank, budget.measure), of_ranks[rank]) for rank in of_ranks]
        options[matrix] = [*best_options(own), Option(None, _cost(matrix, None, budget.measure), 0.0)]
    least_options = {matrix: min(own, key=lambda option: option.cost) for matrix, own in options.items()}
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


def _cost(matrix: Matrix, rank: Rank | None, measure: Measure) -> int:
    """Part of a weight in the budget; for bytes, without the text of the program."""
    if measure == "macs":
        return matrix.multiply_adds_at(rank)
    return matrix.parameters_at(rank) * (1 if measure == "params" else matrix.element_size)


def _smallest(matrix: Matrix, ranks: Sequence[Rank], measure: Measure) -> Rank:
    return min(ranks, key=lambda rank: _cost(matrix, rank, measure))


def _candidates(
    graph: Graph, context: Context, matrix: Matrix, measure: Measure, by_data: bool, form: str | None
) -> list[Rank]:
    """Ranks of a weight that make its layer smaller and not slower; a remark if there are none.

    A convolution has the ranks of all forms.  Those of the form `channel` are those of `Operator.factors`, if the data
    give the second moments of whole windows.
    """
    if measure == "macs" and not matrix.splits:
        context.left(matrix.layer.path, f"factors of {matrix.title} would be stored, which saves no multiply-adds")
        return []
    paired = matrix.paired
    if by_data and matrix.kernels and paired:
        paired = matrix.shape[1] <= MOST_EXACT and matrix_obstacle(graph, matrix.layer) is None
    ranks: list[Rank] = []
    if paired and (form in (None, "channel") or not matrix.kernels):
        ranks += range(STEP, matrix.full_rank, STEP)
    for name, costs in matrix.kernels.items():
        if form in (None, name) and (name != "channel" or not paired):
            ranks += costs.choices(STEP)
    obstacles = {rank: matrix.obstacle_to_size(rank) or matrix.obstacle_to_speed(rank) for rank in ranks}
    found = [rank for rank, obstacle in obstacles.items() if obstacle is None]
    if not found and ranks:
        context.left(matrix.layer.path, f"{matrix.title_of(ranks[0])} {obstacles[ranks[0]]}")
    elif not found:
        context.left(matrix.layer.path, f"{matrix.title} has at most rank {STEP}")
    return found


def _too_small(graph: Graph, budget: ModelBudget, before: int, limit: int, least: int) -> ArchcError:
    if budget.measure == "bytes":
        least = -(-(least + MARGIN) // MARGIN) * MARGIN
    option, name, share = budget.measure, NAMES[budget.measure], math.ceil(100 * least / before) / 100
    if least >= before:
        return error(
            "budget-too-small",
            f"`lowrank` cannot reduce `{graph.name}` below {before:,} {name}: as two factors, no layer"
            " is both smaller and at least as fast",
            help="leave out the pass, or ask for factors with `rank`, such as `rank = 4`",
        )
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
            for node in split_layer(rewriter, [copies[node] for node in matrix.layer.nodes], parts_of(matrix, rank)):
                storages.update(dict.fromkeys(node.weights.values(), Dense()))
        elif isinstance(rank, int):
            storages[matrix.path] = LowRankStorage(rank)
    rewriter.remove_unused_weights()
    return with_zeros(trial, storages)
