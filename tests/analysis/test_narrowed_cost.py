"""Costs of narrower models agree with those of the graphs from which the channels are removed."""

from __future__ import annotations

import pytest

from archc.analysis.cost import cost
from archc.analysis.coupling import Coupling
from archc.analysis.narrowed_cost import NarrowedCost
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.passes._channel_pruning import choose_groups, remove_groups
from archc.passmanager import Context
from archc.passmanager.calibration import Calibration
from tests.passes.awkward import GRAPHS
from tests.passes.graphs import Build


def recurrent() -> Graph:
    """Two recurrent layers."""
    build = Build()
    x = build.layer("lstm", build.input(5, 4), 12, name="lstm1")
    x = build.layer("lstm", x, 8, name="lstm2", num_layers=2)
    return build.done(build.layer("linear", x, 3, name="fc"))


@pytest.mark.parametrize("name", [*GRAPHS, "recurrent"])
def test_the_cost_is_that_of_the_pruned_graph(name: str) -> None:
    graph = recurrent() if name == "recurrent" else GRAPHS[name]()
    sizes = {"N": 3}
    coupling = Coupling(graph)
    costs = {
        "multiply_adds": NarrowedCost(coupling, sizes),
        "parameters": NarrowedCost(coupling, sizes, lambda weight: weight.parameters),
        "bytes": NarrowedCost(coupling, sizes, lambda weight: weight.nbytes),
    }
    groups = choose_groups(coupling, 0.5, "layer")
    assert groups
    before = cost(graph, sizes)
    for measure, narrowed in costs.items():
        assert narrowed.total == getattr(before, measure)
        for part in (groups[::2], groups[1::2]):
            saving = narrowed.saving(part)
            total = narrowed.total
            narrowed.remove(part)
            assert narrowed.total == total - saving
    context = Context(Rewriter(graph), Calibration(graph))
    remove_groups(context, coupling, {group.number for group in groups})
    after = cost(graph, sizes)
    for measure, narrowed in costs.items():
        assert narrowed.total == getattr(after, measure) < getattr(before, measure)
