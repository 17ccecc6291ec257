"""Layers that replace regions of a graph, fitted on calibration data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.analysis.regions import Region
from archc.compression.calibration.output_gradients import output_gradients, watched_run
from archc.compression.calibration.output_metric import LARGEST_MODEL
from archc.compression.calibration.sequential import LEAST_ROWS, ROWS_PER_COLUMN
from archc.compression.pruning.ridge_map import AffineMap, RidgeRegression
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch

MEMORY = 1 << 29
"""Bytes of sums that are collected in one run over the data; there is always one region."""


class RegionFit:
    """Fits of affine maps from entries to exits of regions.

    Rows without an effect on the outputs, such as positions after the end of a text, are left out.  Gradients show the
    effect, unless the model is too large for them.

    Args:
        graph: the original model; it must not change.

    Attributes:
        batches: the calibration data.
    """

    def __init__(self, graph: Graph, batches: Sequence[Mapping[str, torch.Tensor]], seed: int = 0):
        self._graph, self.batches, self._seed = graph, batches, seed
        self._samples = [max((len(tensor) for tensor in batch.values() if tensor.ndim), default=1) for batch in batches]
        self._small = sum(weight.nbytes for weight in graph.weights.values()) <= LARGEST_MODEL
        # For each exit and batch, the rows with an effect.
        self._relevant: dict[tuple[Value, int], torch.Tensor] = {}

    def maps(self, regions: Sequence[Region], first: int = 0) -> dict[Region, AffineMap]:
        """Maps of the values of the original model; regions with values that are not finite have none.

        Args:
            first: number of batches that are left out at the beginning.
        """
        found: dict[Region, AffineMap] = {}
        part: dict[Region, RidgeRegression] = {}
        for region in regions:
            part[region] = RidgeRegression(region.channels)
            if region is regions[-1] or sum(each.nbytes for each in part.values()) > MEMORY:
                self._collect(part, first)
                found |= {own: each.solved() for own, each in part.items() if each.finite}
                part = {}
        return found

    def sequential(self, region: Region, graph: Graph, entry: Value) -> AffineMap | None:
        """Map from the entry in a changed graph to the exit in the original one.

        It is None if a value is not finite.

        Args:
            graph: the changed graph, with the inputs of the original one.
            entry: the entry in this graph.
        """
        regression = RidgeRegression(region.channels)
        for number, batch in enumerate(self.batches):
            x = _values(graph, batch, {entry})[entry]
            y = _values(self._graph, batch, {region.exit})[region.exit]
            self._add(regression, region, number, x, y)
        return regression.solved() if regression.finite else None

    def _collect(self, regressions: Mapping[Region, RidgeRegression], first: int) -> None:
        """Run the model on all data, and add the rows of regions from one batch on."""
        import torch

        wanted = {value for region in regressions for value in (region.entry, region.exit)}
        generator = torch.Generator().manual_seed(self._seed)
        for number, batch in enumerate(self.batches):
            if self._small:
                outputs, watched = watched_run(self._graph, batch, wanted)
                axes = {region.exit: region.axis for region in regressions if region.exit in watched}
                for value, rows in _relevant_rows(outputs, watched, axes, generator).items():
                    self._relevant[value, number] = rows
                found = {value: tensor.detach() for value, tensor in watched.items()}
            else:
                found = _values(self._graph, batch, wanted)
            for region, regression in regressions.items() if number >= first else ():
                self._add(regression, region, number, found[region.entry], found[region.exit])

    def _add(self, regression: RidgeRegression, region: Region, number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the rows of one batch, evenly thinned out if there are many more rows than channels."""
        import torch

        x, y = _rows(x, region.axis), _rows(y, region.axis)
        chosen = torch.arange(len(x))
        if (region.exit, number) in self._relevant:
            chosen = chosen[self._relevant[region.exit, number]]
        stride = max(1, len(x) * len(self.batches) // (ROWS_PER_COLUMN * region.channels + LEAST_ROWS))
        chosen = chosen[::stride]
        # The parts of a single sample count as samples, since the regression needs two.
        several = sum(self._samples) > 1
        count = self._samples[number] if several else 2
        first = sum(self._samples[:number]) if several else 0
        regression.add(x[chosen], y[chosen], first + chosen * count // max(1, len(x)))


def _values(graph: Graph, batch: Mapping[str, torch.Tensor], wanted: Collection[Value]) -> dict[Value, torch.Tensor]:
    """Values of a graph; the evaluation ends with the last one."""
    found: dict[Value, torch.Tensor] = {}
    for value, tensor in evaluate_all(graph, batch):
        if value in wanted:
            found[value] = tensor
            if len(found) == len(wanted):
                break
    return found


def _relevant_rows(
    outputs: Sequence[torch.Tensor],
    watched: Mapping[Value, torch.Tensor],
    axes: Mapping[Value, int],
    generator: torch.Generator,
) -> dict[Value, torch.Tensor]:
    """The rows of values whose gradients are not zero, by the axes of their channels."""
    if not outputs or not axes:
        return {}
    (gradients,) = output_gradients(outputs, [watched[value] for value in axes], 1, generator)
    return {
        value: (_rows(gradient, axis) != 0).any(1)
        for (value, axis), gradient in zip(axes.items(), gradients)
        if gradient is not None
    }


def _rows(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """The vectors of channels along an axis, [rows, channels]."""
    return tensor.movedim(axis, -1).reshape(-1, tensor.shape[axis])
