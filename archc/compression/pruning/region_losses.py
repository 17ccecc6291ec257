"""Measured error of the outputs of a graph in which other layers compute the exits of regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.analysis.regions import Region
from archc.compression.calibration.output_error import relative_error
from archc.compression.calibration.output_gradients import sample_count
from archc.compression.pruning.ridge_map import AffineMap
from archc.interpreter.evaluate import evaluate
from archc.interpreter.partial_run import PartialRun
from archc.ir.graph import Graph
from archc.ir.scans import results_of, schedule

if TYPE_CHECKING:
    import torch

Trial = tuple[Region, AffineMap | None]
"""A region, and the map that replaces it; None for the identity."""


def region_losses(
    graph: Graph, trials: Sequence[Trial], batches: Iterable[Mapping[str, torch.Tensor]]
) -> list[float | None]:
    """Squared error of the outputs for each trial alone, relative to their mean squares.

    The model runs once for each batch.  When it reaches the exit of a region, the rest of the model runs once for each
    trial of the region.  An error is None if it is infinite or NaN.
    """
    place = {value: place for place, item in enumerate(schedule(graph), 1) for value in results_of(item)}
    order = sorted(range(len(trials)), key=lambda number: place[trials[number][0].exit])
    kept = {trials[number][0].entry: place[trials[number][0].exit] for number in order}
    totals, samples = [0.0] * len(trials), 0
    for batch in batches:
        expected = evaluate(graph, batch)
        count = sample_count([*expected.values()])
        samples += count
        run = PartialRun(graph, batch, kept)
        for number in order:
            region, found = trials[number]
            run.advance(place[region.exit])
            x = run.tensor(region.entry)
            outputs = run.finished(graph, {region.exit: x if found is None else found(x, region.axis)})
            totals[number] += count * relative_error(outputs, expected)
    return [total / samples if samples and math.isfinite(total) else None for total in totals]
