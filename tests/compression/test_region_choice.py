"""Choice of replaced regions, and the measured losses of regions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from archc.analysis.regions import Region, Regions
from archc.compression.calibration.output_error import relative_error
from archc.compression.pruning.region_choice import Replacement, choose_replacements, most_saving
from archc.compression.pruning.region_losses import region_losses
from archc.compression.pruning.ridge_map import AffineMap
from archc.interpreter.evaluate import evaluate, evaluate_all
from archc.ir.graph import Graph, Value
from tests.passes.graphs import Build


def chain(blocks: int) -> Graph:
    """Return a chain of residual blocks with norms between, and a mask that all blocks use."""
    build = Build()
    x, gate = build.layer("linear", build.input(3), 4, name="stem"), build.input(4, name="gate")
    for number in range(blocks):
        up = build.layer("relu", build.layer("linear", build.layer("mul", x, gate), 6, name=f"up{number}"))
        x = build.layer("add", x, build.layer("linear", up, 4, name=f"down{number}"))
        x = build.layer("layer_norm", x, name=f"norm{number}")
    return build.done(build.layer("linear", x, 2, name="head"))


def disjoint(chosen: tuple[Replacement, ...]) -> bool:
    nodes = [node for option in chosen for node in option.region.nodes]
    return len(nodes) == len(set(nodes))


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_all_choices(seed: int) -> None:
    generator = np.random.default_rng(seed)
    options = [
        Replacement(region, None, int(generator.integers(1, 20)) * region.steps, None, float(generator.random()))
        for region in Regions(chain(4), {}).runs(3)
        for _ in range(1 + (region.steps == 1))
    ]
    assert len(options) == 13
    every = [
        chosen
        for size in range(len(options) + 1)
        for chosen in itertools.combinations(options, size)
        if disjoint(chosen)
    ]
    savings = {chosen: sum(option.saving for option in chosen) for chosen in every}
    assert sum(option.saving for option in most_saving(options)) == max(savings.values())
    for needed in (1, 10, 25, max(savings.values())):
        best = min(sum(option.loss for option in chosen) for chosen in every if savings[chosen] >= needed)
        found = choose_replacements(options, needed)
        assert found is not None
        assert disjoint(tuple(found))
        assert sum(option.saving for option in found) >= needed
        assert sum(option.loss for option in found) == pytest.approx(best)
    assert choose_replacements(options, max(savings.values()) + 1) is None


def test_losses_of_regions() -> None:
    """Same as the error of an evaluation in which the exit is replaced."""
    graph = chain(3)
    batches = [{name: torch.randn(5, width) for name, width in (("x", 3), ("gate", 4))} for _ in range(2)]
    found = AffineMap(torch.randn(4, 4), torch.randn(4))
    trials = [(region, own) for region in Regions(graph, {}).runs(2) for own in (found, None)]
    assert len(trials) == 10
    expected = [np.mean([error_with(graph, batch, *trial) for batch in batches]) for trial in trials]
    assert region_losses(graph, trials, batches) == pytest.approx(expected, rel=1e-4)


def error_with(graph: Graph, batch: dict[str, torch.Tensor], region: Region, found: AffineMap | None) -> float:
    values: dict[Value, torch.Tensor] = {}

    def change(value: Value, tensor: torch.Tensor) -> torch.Tensor:
        if value is region.exit:
            tensor = values[region.entry]
            tensor = tensor if found is None else torch.nn.functional.linear(tensor, found.weight, found.bias)
        values[value] = tensor
        return tensor

    for _ in evaluate_all(graph, batch, change=change):
        pass
    outputs = {name: values[value] for name, value in graph.outputs.items()}
    return relative_error(outputs, evaluate(graph, batch))
