"""Regions that depth pruning may replace, and the cost that each replacement saves."""

from __future__ import annotations

from archc.analysis.cost import NodeCosts, cost, parameters
from archc.analysis.regions import Region, Regions
from archc.declaration.base import Operator
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.dims import evaluate
from archc.types.storage.weight import Weight
from archc.types.tensor_type import DType

from ._channel_pruning import Wanted
from ._model_budget import ModelBudget
from ._program_size import ProgramSize
from ._region_replacement import replacing_operator

MOST_REGIONS = 48
"""Number of regions up to which regions of more steps are candidates."""


class DepthCosts:
    """The cost that a budget bounds.

    Attributes:
        total: cost of the model.
        limit: the most that may remain.
    """

    def __init__(self, graph: Graph, context: Context, budget: ModelBudget):
        self._graph, self._sizes, self._measure = graph, context.sizes, budget.measure
        self._nodes = NodeCosts(graph, context.sizes)
        if budget.measure == "macs":
            self.total = cost(graph, context.sizes).multiply_adds
        elif budget.measure == "params":
            self.total = parameters(graph)
        else:
            self.total = ProgramSize(graph, context.targets.program_bytes, {}).of({})
        self.limit = budget.limit(self.total)

    @property
    def needed(self) -> int:
        """The cost to save."""
        return self.total - self.limit

    def saving(self, region: Region, op: Operator | None) -> int:
        """Cost of a region, less that of the operator in its place."""
        if self._measure == "macs":
            before = sum(map(self._nodes.multiply_adds, region.nodes))
        else:
            paths = {path for node in region.nodes for path in node.weights.values()}
            before = sum(map(self._weight_cost, map(self._graph.weights.__getitem__, paths)))
        return before - (self._added(region, op) if op is not None else 0)

    def _added(self, region: Region, op: Operator) -> int:
        types = [region.entry.type]
        if self._measure == "macs":
            return evaluate(op.multiply_adds(op.infer(types), types), sizes=self._sizes)
        size = region.channels * (region.channels + 1)
        return size if self._measure == "params" else size * DType.f32.size

    def _weight_cost(self, weight: Weight) -> int:
        return weight.parameters if self._measure == "params" else weight.nbytes


class Candidates:
    """Regions that may be replaced.

    Attributes:
        steps: those of one step.
        possible: paths of the layers of all regions that one operator can replace, also those that are not selected.
    """

    def __init__(self, regions: Regions, costs: DepthCosts, wanted: Wanted):
        self._regions, self._costs, self._wanted = regions, costs, wanted
        self.possible = {path for run in regions.runs(2) if self._is_cheaper(run) for path in run.layers}
        self.steps = [step for step in regions.steps if self._is_cheaper(step) and self._is_selected(step)]

    def regions(self) -> list[Region]:
        """The candidates: the longest ones have as many steps as `MOST_REGIONS` allows.

        A region is no candidate if a shorter one at the same place saves enough.
        """
        longest, found = 1, self.steps
        while longest < len(self.steps):
            more = [run for run in self._regions.runs(longest + 1) if self._is_cheaper(run) and self._is_selected(run)]
            if len(more) > MOST_REGIONS or len(more) == len(found):
                break
            longest, found = longest + 1, more
        enough = [region for region in found if self.saving(region) >= self._costs.needed]
        return [region for region in found if not any({*each.nodes} < {*region.nodes} for each in enough)]

    def saving(self, region: Region) -> int:
        """The cost that one operator in place of a region saves."""
        return self._costs.saving(region, replacing_operator(region))

    def _is_selected(self, region: Region) -> bool:
        return all(map(self._wanted, region.layers))

    def _is_cheaper(self, region: Region) -> bool:
        """Return whether an operator can replace a region and costs less."""
        known = region.entry.type.dtype is DType.f32 and replacing_operator(region) is not None
        return known and self.saving(region) > 0
