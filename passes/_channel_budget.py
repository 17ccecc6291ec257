"""Removal of channels under a budget, by the calibration data or by the norms of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.narrowed_cost import NarrowedCost
from archc.compression.calibration.output_error import OutputError
from archc.diagnostics import error
from archc.ir.copying import copied
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage.weight import Weight

from ._calibration_batches import calibration_batches
from ._channel_losses import ChannelLosses
from ._channel_pruning import Scope, Wanted, candidates, choose_groups, remark_on_channels, remove_groups
from ._channel_refit import refit
from ._channel_selection import GroupCount, RemainingCost, RemovalSequence, steps_within
from ._model_budget import NAMES, ModelBudget
from ._program_size import ProgramSize

if TYPE_CHECKING:
    import torch

MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the loss of a probe is measured for each family."""
HALVINGS = 20
"""Number of halvings of the interval of the share of groups that is removed by norm."""


def prune_channels(
    graph: Graph,
    context: Context,
    amount: float | ModelBudget,
    scope: Scope,
    wanted: Wanted,
    multiple: int | None,
    by_data: bool,
) -> None:
    """Remove whole channels, and add a remark on every layer with result channels.

    Args:
        amount: the share of the groups to remove, or the budget of the model.
        by_data: True to choose by the calibration data, and to fit the other weights to them.

    Raises:
        ArchcError: the smallest model is above the budget (`budget-too-small`).
    """
    coupling = Coupling(graph)
    if by_data:
        groups = _by_data(graph, context, coupling, amount, scope, wanted, multiple)
    elif isinstance(amount, ModelBudget):
        groups = _by_norm(graph, context, coupling, amount, scope, wanted, multiple)
    else:
        groups = choose_groups(coupling, amount, scope, wanted, multiple)
    removed = {group.number for group in groups}
    remark_on_channels(context, coupling, removed, wanted)
    if removed:
        remove_groups(context, coupling, removed)


def _by_data(
    graph: Graph,
    context: Context,
    coupling: Coupling,
    amount: float | ModelBudget,
    scope: Scope,
    wanted: Wanted,
    multiple: int | None,
) -> list[ChannelGroup]:
    """Choose groups by their loss, and refit the weights that used them."""
    batches = calibration_batches(graph, context, "pruning")
    families = candidates(coupling, wanted)
    cost: RemainingCost
    if isinstance(amount, ModelBudget):
        budget: ModelBudget | None = amount
        cost, limit = _cost(graph, context, coupling, amount)
    else:
        budget, count = None, sum(map(len, families))
        cost, limit = GroupCount(coupling, count), count - int(amount * count)
    if cost.total <= limit:
        return []
    numbers = tuple(tuple(group.number for group in family) for family in families)
    question = "channel removals", budget and budget.measure, scope, multiple, numbers
    sequence = context.calibration.findings.of(
        graph, question, lambda: _removals(graph, context, budget, batches, wanted, scope, multiple)
    )
    steps = steps_within(sequence, limit, nearest=budget is None)
    if budget is not None:
        _check(graph, budget, steps[-1].after if steps else cost.total, limit)
    loss = sum(step.loss for step in steps)
    context.note(
        graph.name, f"expected squared error of the outputs before the refit: {loss:.2e}", predicted_error=loss
    )
    by_number = {group.number: group for family in families for group in family}
    groups = [by_number[number] for step in steps for number in step.groups]
    losses, nodes = sequence.losses, [*graph.nodes()]
    metrics = {nodes[place]: metric for place, metric in losses.metrics_by_place.items()}
    refit(graph, context, batches, metrics, groups, losses.gated(groups))
    return groups


def _removals(
    graph: Graph,
    context: Context,
    budget: ModelBudget | None,
    batches: Sequence[Mapping[str, torch.Tensor]],
    wanted: Wanted,
    scope: Scope,
    multiple: int | None,
) -> RemovalSequence:
    """Removals of groups in the order of their losses, on a copy of the graph, which is not changed later."""
    context.progress("measure the effect of each channel on the outputs")
    own = copied(graph)
    coupling = Coupling(own)
    families = candidates(coupling, wanted)
    losses = ChannelLosses(own, coupling, families, batches)
    known = [[group for group in family if group.number not in losses.unknown] for family in families]
    cost: RemainingCost = GroupCount(coupling, sum(map(len, families)))
    if budget is not None:
        cost, _ = _cost(own, context, coupling, budget)
    errors = OutputError(own, batches[:MEASURED_BATCHES])
    able = [family for family in known if family]
    return RemovalSequence(coupling, able, losses, errors, cost, scope, multiple, context.progress)


def _by_norm(
    graph: Graph,
    context: Context,
    coupling: Coupling,
    budget: ModelBudget,
    scope: Scope,
    wanted: Wanted,
    multiple: int | None,
) -> list[ChannelGroup]:
    """The groups of the smallest share, ranked by norm, with which the model is within a budget."""
    low, high = 0.0, 1.0
    cost, limit = _cost(graph, context, coupling, budget)
    if cost.total <= limit:
        return []
    best = choose_groups(coupling, high, scope, wanted, multiple)
    _check(graph, budget, cost.total - cost.saving(best), limit)
    for _ in range(HALVINGS):
        share = (low + high) / 2
        groups = choose_groups(coupling, share, scope, wanted, multiple)
        if cost.total - cost.saving(groups) <= limit:
            best, high = groups, share
        else:
            low = share
    return best


def _cost(graph: Graph, context: Context, coupling: Coupling, budget: ModelBudget) -> tuple[NarrowedCost, int]:
    """The cost that a budget bounds, and the bound."""
    weigh = {"macs": None, "params": _parameters, "bytes": _bytes}[budget.measure]
    program = ProgramSize(graph, context.targets.program_bytes, {}).of({}) if budget.measure == "bytes" else None
    cost = NarrowedCost(coupling, context.sizes, weigh)
    if program is not None:
        cost.total = program
    return cost, budget.limit(cost.total)


def _parameters(weight: Weight) -> int:
    return weight.parameters


def _bytes(weight: Weight) -> int:
    return weight.nbytes


def _check(graph: Graph, budget: ModelBudget, least: int, limit: int) -> None:
    """Refuse a budget below the least cost of the model."""
    if least > limit:
        raise error(
            "budget-too-small",
            f"`prune` cannot narrow `{graph.name}` to {limit:,} {NAMES[budget.measure]}: with the fewest channels, it"
            f" has {least:,}",
            help=f"give at least `{budget.measure} = {least}`, or let more layers lose channels with `on` and `keep`",
        )
