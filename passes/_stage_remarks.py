"""Remarks of `partition` on the stages, and the diagnostic for a model that does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from archc.analysis.devices import StageDevice
from archc.analysis.stage_costs import StageCost, duration, stage_costs
from archc.analysis.stage_transfers import required_sizes_by_node, stage_transfers
from archc.diagnostics import ArchcError, error
from archc.ir.graph import Graph, Node
from archc.ir.stages import Stages
from archc.partitioning import Infeasible, SharedMemory
from archc.passmanager import Context

from ._stage_problem import StageProblem

LITTLE_GAIN = 1.1
"""If the speedup over one device is below this factor, a note says that splitting gains little."""


def remark_on_stages(
    graph: Graph,
    context: Context,
    taken: Sequence[StageDevice],
    sizes: Mapping[str, int],
    undivided: float,
    bound: float,
) -> None:
    """Add a remark on each stage and a remark on the whole split.

    Args:
        taken: the device of each stage.
        undivided: seconds that the whole model takes on one device.
        bound: lower bound on the seconds of the slowest stage of every split.
    """
    stages = Stages(graph)
    costs = stage_costs(graph, stages, taken, sizes)
    total = sum(cost.load for cost in costs)
    for cost in costs:
        # One stage without a named device leaves the model unchanged.
        say = context.rewrote if len(costs) > 1 or taken[cost.stage].named else context.note
        _stage(say, cost, taken[cost.stage], total)
    slowest = max(costs, key=lambda cost: cost.load)
    gain = undivided / slowest.load if slowest.load else 1.0
    at = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    count = f"{len(costs)} stage{'' if len(costs) == 1 else 's'}"
    best = slowest.load <= bound or math.isclose(slowest.load, bound)
    how = "no split is faster" if best else f"at most {slowest.load / bound - 1:.1%} above the fastest split"
    context.note(
        graph.name,
        f"{count}{f' at {at}' if at else ''}: one run every {duration(slowest.load)}, {gain:.2f} times as fast as one"
        f" device; {how}",
        bottleneck=slowest.load,
        undivided=undivided,
        gain=round(gain, 4),
        lower_bound=slowest.load if best else bound,
    )
    for source in stage_transfers(graph, stages.of_node, required_sizes_by_node(graph)).size_sources:
        context.note(
            graph.name, f"stage {source.stage} also receives `{source.input.name}`, to read the size {source.size}"
        )
    if gain < LITTLE_GAIN:
        context.note(graph.name, _little_gain(gain, slowest))


def _little_gain(gain: float, slowest: StageCost) -> str:
    """Text of the note that splitting gains little, with the reason."""
    where = f"stage {slowest.stage} takes {duration(slowest.load)}"
    if slowest.transfer > slowest.work:
        return f"splitting gains little ({gain:.2f}x): {where}, {duration(slowest.transfer)} of it for transfers"
    return f"splitting gains little ({gain:.2f}x): {where}, nearly all of the work"


def _stage(say: Callable[..., None], cost: StageCost, place: StageDevice, total: float) -> None:
    """Add the remark on one stage."""
    where = f" on `{place.title}`" if place.named else ""
    share = cost.load / total if total else 0.0
    say(
        f"stage {cost.stage}",
        f"{cost.ends or 'no layers'}{where}: {share:.0%} of the load; receives {cost.received:,} bytes,"
        f" sends {cost.sent:,}, holds {cost.memory:,}",
        device=cost.device,
        operators=cost.operators,
        multiply_adds=cost.multiply_adds,
        work=cost.work,
        transfer=cost.transfer,
        load=cost.load,
        weight_bytes=cost.weights,
        activation_bytes=cost.activations,
    )


def does_not_fit(graph: Graph, stage_problem: StageProblem, failure: Infeasible) -> ArchcError:
    """Diagnostic for a model without a feasible split, with the name of a large tensor."""
    if all(kind.memory == math.inf for kind in stage_problem.problem().kinds):
        return error(
            "too-many-stages",
            f"`{graph.name}` does not split into {len(stage_problem.places)} stages: {failure}",
            help="every stage needs at least one operator: reduce `stages`",
        )
    culprit = failure.culprit
    if isinstance(culprit, SharedMemory):
        node = next(node for node in stage_problem.nodes if culprit.name in node.weights.values())
        return error("does-not-fit", str(failure), node.span, help=f"it is a weight of `{node.title}`")
    if culprit is not None:
        node = next(node for node in stage_problem.nodes if node.title == culprit.name)
        return error("does-not-fit", str(failure), node.span, help=f"most of it is {_largest(stage_problem, node)}")
    node = max(stage_problem.nodes, key=lambda node: sum(stage_problem.tensors_of(node).values()))
    notes = [] if failure.proven else ["the search was incomplete: a split may exist"]
    way = f"the largest operator is `{node.title}`; most of it is {_largest(stage_problem, node)}"
    return error("does-not-fit", f"`{graph.name}` does not fit: {failure}", node.span, notes, way)


def _largest(stage_problem: StageProblem, node: Node) -> str:
    """Text that names the largest tensor of a node."""
    what, size = max(stage_problem.tensors_of(node).items(), key=lambda item: item[1])
    return f"{what} with {size:,} bytes"
