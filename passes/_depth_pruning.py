"""Depth pruning: one fitted layer in place of the layers of a residual block, or of several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archc.analysis.layers import layers_with_weights
from archc.analysis.regions import Regions
from archc.compression.pruning.region_choice import Replacement, choose_replacements, most_saving
from archc.compression.pruning.region_fit import RegionFit
from archc.compression.pruning.region_losses import region_losses
from archc.diagnostics import error
from archc.ir.copying import copied
from archc.ir.graph import Graph, Value
from archc.passmanager import Context

from ._calibration_batches import calibration_batches
from ._channel_pruning import Wanted
from ._depth_candidates import Candidates, DepthCosts
from ._model_budget import NAMES, ModelBudget
from ._region_replacement import add_layer, remove_nodes, replacing_operator

MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the loss of each candidate is measured."""


def prune_depth(graph: Graph, context: Context, budget: ModelBudget, wanted: Wanted) -> None:
    """Replace regions until the model is within a budget, and add a remark on every layer with weights.

    Raises:
        ArchcError: there are no calibration data for trained weights (`needs-calibration`), or the smallest model is
            above the budget (`budget-too-small`).
    """
    original = copied(graph)
    costs = DepthCosts(original, context, budget)
    candidates = Candidates(Regions(original, context.sizes), costs, wanted)
    replaced: list[Replacement] = []
    if not candidates.steps:
        context.note(graph.name, "no selected layers map a value to a value of its type at more cost than one layer")
    elif costs.needed <= 0:
        context.note(graph.name, f"within the budget of {costs.limit:,} {NAMES[budget.measure]}: no layer changes")
    else:
        _check_data(context)
        fit = RegionFit(original, calibration_batches(original, context, "depth pruning"))
        replaced = _chosen(original, context, candidates, costs, budget, fit)
        _replace(graph, original, context, replaced, fit)
    _remark(original, context, candidates, replaced, wanted)


def _check_data(context: Context) -> None:
    """Refuse trained weights without data; layers that are fitted to random inputs would be useless."""
    if context.calibration.trained and not context.calibration.real:
        raise error(
            "needs-calibration",
            '`prune(scheme = "depth")` fits layers to data in place of others, but there are no calibration data',
            help="give representative inputs: `--calib FILE`, an .npz file with an array for each input",
        )


def _chosen(
    original: Graph, context: Context, candidates: Candidates, costs: DepthCosts, budget: ModelBudget, fit: RegionFit
) -> list[Replacement]:
    """Replacements with which the model is within the budget, in topological order."""
    # To drop a region of several steps is to drop each of them.
    options = [
        Replacement(region, op, costs.saving(region, op))
        for region in candidates.regions()
        for op in ((replacing_operator(region), None) if region.steps == 1 else (replacing_operator(region),))
    ]
    _check(original, budget, costs, options)
    context.progress("fit a layer to each region")
    # The loss is measured on data that the maps are not fitted to, if there are enough.
    held_out = MEASURED_BATCHES if len(fit.batches) >= 2 * MEASURED_BATCHES else 0
    maps = fit.maps([option.region for option in options if option.op is not None], held_out)
    trials = [
        replace(option, fitted=maps[option.region] if option.op is not None else None)
        for option in options
        if option.region in maps
    ]
    context.progress("measure the effect of each region on the outputs")
    pairs = [(option.region, option.fitted) for option in trials]
    losses = region_losses(original, pairs, fit.batches[:MEASURED_BATCHES])
    measured = [replace(option, loss=loss) for option, loss in zip(trials, losses, strict=True) if loss is not None]
    _check(original, budget, costs, measured)
    chosen = choose_replacements(measured, costs.needed)
    assert chosen is not None, "all of them together save enough"
    position = {node: number for number, node in enumerate(original.nodes())}
    return sorted(chosen, key=lambda option: position[option.region.nodes[-1]])


def _check(graph: Graph, budget: ModelBudget, costs: DepthCosts, options: Sequence[Replacement]) -> None:
    """Refuse a budget below the least cost of the model."""
    least = costs.total - sum(option.saving for option in most_saving(options))
    if least > costs.limit:
        raise error(
            "budget-too-small",
            f"`prune` cannot reduce `{graph.name}` to {costs.limit:,} {NAMES[budget.measure]}: with all blocks replaced"
            f" that can be, it has {least:,}",
            help=f"give at least `{budget.measure} = {least}`, or let more layers be replaced with `on` and `keep`",
        )


def _replace(graph: Graph, original: Graph, context: Context, replaced: Sequence[Replacement], fit: RegionFit) -> None:
    """Replace regions in the order of the data flow, each fitted on its present entry."""
    nodes = dict(zip(original.nodes(), graph.nodes(), strict=True))
    present: dict[Value, Value] = dict(zip(original.inputs, graph.inputs, strict=True))
    for old, new in nodes.items():
        present.update(zip(old.results, new.results, strict=True))
    for number, option in enumerate(replaced):
        region = option.region
        context.progress(f"replace {region.title} ({number + 1} of {len(replaced)})")
        made, exit = present[region.entry], present[region.exit]
        title = "nothing: the entry of its block is the result of the block"
        if option.op is not None:
            fitted = fit.sequential(region, graph, made) or option.fitted
            assert fitted is not None, "an operator has a map"
            node = add_layer(graph, context.rewriter, made, exit, option.op, fitted)
            made, title = node.result, f"`{node.title}`, `{option.op}`"
        remove_nodes(context.rewriter, exit, made, [nodes[node] for node in region.nodes])
        present[region.exit] = made
        for layer in region.layers:
            context.rewrote(layer, f"replaced by {title}")
        context.note(
            region.layers[0],
            f"{region.title}: expected squared error of the outputs: {option.loss:.1e}",
            predicted_error=option.loss,
            saved=option.saving,
        )


def _remark(
    original: Graph, context: Context, candidates: Candidates, replaced: Sequence[Replacement], wanted: Wanted
) -> None:
    """Add a remark on every layer with weights that stays."""
    gone = {path for option in replaced for path in option.region.layers}
    for layer in layers_with_weights(original):
        if layer.path in gone:
            continue
        if layer.path not in candidates.possible:
            why = "in no block that one layer can replace: a block maps a value to a value of its type, at more cost"
            context.inapplicable(layer.path, why)
        elif not wanted(layer.path):
            context.left(layer.path, "not selected")
        else:
            context.left(layer.path, "within the budget, its block can stay")
