"""Loss of the removal of channel groups, predicted by the calibration data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.layers import layers_with_weights
from archc.analysis.narrowed_cost import Left
from archc.analysis.shrinkable_axes import AxisUse, NodeIndex
from archc.compression.calibration.layer_statistics import LayerStatistics, layer_statistics
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_error import OutputError, measured_ratio
from archc.compression.calibration.output_metric import OutputMetric, output_metric
from archc.compression.pruning.column_removal import ColumnRemoval
from archc.compression.pruning.gate_loss import gate_losses
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import schedule
from archc.types.storage import Dense

if TYPE_CHECKING:
    import torch

    Columns = Mapping[Node, Mapping[int, torch.Tensor]]

POOL = 2
"""Number of candidates in one step, relative to the number of groups that are removed.

The losses of these groups are updated after the removal of each group.
"""


@dataclass(frozen=True)
class Removal:
    """Groups of one family to remove next, and the loss."""

    groups: Sequence[ChannelGroup]
    loss: float


class ChannelLosses:
    """Losses of the removal of groups, after the removal of others.

    The loss is the expected squared error of the outputs, relative to their mean squares.  A removed channel is a
    column of the weights that use it, whose other columns compensate (`ColumnRemoval`).  Where something else uses
    it, such as a recurrent layer, the loss is that of a gate (`gate_losses`).

    Args:
        families: groups that may be removed; the groups of a family have the same producers.
        batches: the calibration data.

    Attributes:
        columns: for each layer whose other columns can compensate, the columns of each group, by its number.
        metrics: output metrics of these layers.
    """

    def __init__(
        self,
        graph: Graph,
        coupling: Coupling,
        families: Sequence[Sequence[ChannelGroup]],
        batches: Sequence[Mapping[str, torch.Tensor]],
    ):
        self._graph, self._batches = graph, batches
        groups = [group for family in families for group in family]
        nodes = matrix_consumers(graph)
        self.metrics: Mapping[Node, OutputMetric] = {}
        self._statistics: Mapping[Node, LayerStatistics] = {}
        wanted = columns_of(graph, nodes, groups)
        metrics = output_metric(graph, wanted, batches)
        statistics = layer_statistics(graph, batches, metrics)
        usable = [node for node in metrics if node in statistics and all(e.finite for e in statistics[node].moments)]
        self.metrics = {node: metrics[node] for node in usable}
        self._statistics = statistics
        self.columns: Columns = {node: wanted[node] for node in usable}
        self._consumers: dict[int, list[Node]] = {group.number: [] for group in groups}
        for node, columns in self.columns.items():
            for number in columns:
                self._consumers[number].append(node)
        self._removals = {node: self._removal(node) for node in usable}
        self._rows: dict[str, list[Node]] = {}
        for node in usable:
            self._rows.setdefault(node.weights["weight"], []).append(node)
        self._gates, self.unknown = self._other_losses(coupling, groups)

    @property
    def metrics_by_place(self) -> dict[int, OutputMetric]:
        """The output metrics by the place of the layer's node among all nodes."""
        return {place: self.metrics[node] for place, node in enumerate(self._graph.nodes()) if node in self.metrics}

    def next_removal(self, groups: Sequence[ChannelGroup], count: int, left: Left) -> Removal | None:
        """The `count` groups to remove next, chosen one by one; None if an index would lose its last element.

        Args:
            groups: groups of one family that are not removed yet.
        """
        import torch

        removals = {node: self._removals[node] for group in groups for node in self._consumers[group.number]}
        first = self._losses(removals, self.columns, groups)
        pool = [groups[number] for number in torch.argsort(first, stable=True)[: POOL * count].tolist()]
        parts, places = {}, {}
        for node, removal in removals.items():
            own = {each.number: self.columns[node][each.number] for each in pool if each.number in self.columns[node]}
            if own:
                parts[node] = removal.restricted(torch.cat([*own.values()]))
                sizes = np.cumsum([0, *map(len, own.values())]).tolist()
                places[node] = {number: torch.arange(*ends) for number, ends in zip(own, pairwise(sizes))}
        chosen: list[ChannelGroup] = []
        loss, counts = 0.0, dict(left)
        while len(chosen) < count:
            pool = [
                group for group in pool if all(number < counts[spot] for spot, number in group.index_counts.items())
            ]
            if not pool:
                return None
            losses = self._losses(parts, places, pool)
            best = int(losses.argmin())
            group, loss = pool.pop(best), loss + float(losses[best])
            chosen.append(group)
            for spot, number in group.index_counts.items():
                counts[spot] -= number
            for node in self._consumers[group.number]:
                parts[node].remove(places[node][group.number])
        return Removal(chosen, loss)

    def remove(self, groups: Iterable[ChannelGroup]) -> set[Node]:
        """Remove groups; return the layers whose losses change."""
        import torch

        changed: dict[Node, list[torch.Tensor]] = {}
        rows: dict[Node, list[torch.Tensor]] = {}
        for group in groups:
            for node in self._consumers[group.number]:
                changed.setdefault(node, []).append(self.columns[node][group.number])
            for (path, axis), elements in group.slices.items():
                for node in self._rows.get(path, ()) if axis == 0 else ():
                    rows.setdefault(node, []).append(torch.from_numpy(elements))
        for node, several in changed.items():
            self._removals[node].remove(torch.cat(several))
        for node, several in rows.items():
            self._removals[node].remove_rows(torch.cat(several))
        return {*changed, *rows}

    def consumers(self, groups: Iterable[ChannelGroup]) -> set[Node]:
        """The layers whose columns are in these groups."""
        return {node for group in groups for node in self._consumers[group.number]}

    def measured_ratio(self, removal: Removal, errors: OutputError) -> float:
        """Measured loss of a removal from the original model, relative to the predicted loss."""
        import torch

        values: dict[str, np.ndarray] = {}
        nodes = dict.fromkeys(node for group in removal.groups for node in self._consumers[group.number])
        for node in nodes:
            trial, path = self._removals[node].copy(), node.weights["weight"]
            trial.remove(
                torch.cat(
                    [own for group in removal.groups if (own := self.columns[node].get(group.number)) is not None]
                )
            )
            before, after = self._graph.weight_values(path), trial.weight
            values[path] = after.float().numpy().reshape(before.shape)
            bias = node.weights.get("bias")
            if bias is not None:
                moments = self._statistics[node].moments
                change = torch.from_numpy(before.copy()).flatten(1).double() - after
                parts = torch.split(change, len(change) // len(moments))
                shift = torch.cat([part @ each.mean for part, each in zip(parts, moments)])
                values[bias] = self._graph.weight_values(bias) + shift.float().numpy()
        values |= masked_values(self._graph, self.gated(removal.groups), nodes, values)
        return measured_ratio(errors.of(values), removal.loss)

    def gated(self, groups: Iterable[ChannelGroup]) -> list[ChannelGroup]:
        """The groups that layers use whose columns cannot compensate."""
        return [group for group in groups if group.number in self._gates]

    def _losses(
        self, removals: Mapping[Node, ColumnRemoval], columns: Columns, groups: Sequence[ChannelGroup]
    ) -> torch.Tensor:
        import torch

        total = torch.tensor([self._gates.get(group.number, 0.0) for group in groups], dtype=torch.float64)
        for node, removal in removals.items():
            by_size: dict[int, list[int]] = {}
            for place, group in enumerate(groups):
                if group.number in columns[node]:
                    by_size.setdefault(len(columns[node][group.number]), []).append(place)
            for places in by_size.values():
                own = torch.stack([columns[node][groups[place].number] for place in places])
                total[places] += removal.losses(own)
        return total

    def _removal(self, node: Node) -> ColumnRemoval:
        import torch

        weight = torch.from_numpy(self._graph.weight_values(node.weights["weight"]).copy()).flatten(1)
        return ColumnRemoval.of(weight, self._statistics[node].moments, self.metrics[node].matrix)

    def _other_losses(self, coupling: Coupling, groups: Sequence[ChannelGroup]) -> tuple[dict[int, float], set[int]]:
        """Losses of gates, by number of the group, and the numbers of groups without a known loss."""
        outside = set(schedule(self._graph))
        wanted = {group.number for group in groups}
        gates: dict[Value, tuple[int, np.ndarray]] = {}
        unknown: set[int] = set()
        for use in contractions(coupling):
            if use.node in self.columns:
                continue
            numbers = coupling.group_numbers(use.tensor_axis)
            numbers = np.where(np.isin(numbers, [*wanted]), numbers, -1)
            if (numbers < 0).all():
                continue
            value, axis = use.tensor_axis
            assert isinstance(value, Value), "weights are no operands"
            if use.node not in outside or not value.type.dtype.floating:
                unknown |= set(numbers[numbers >= 0].tolist())
            else:
                gates[value] = axis, numbers
        losses = gate_losses(self._graph, gates, self._batches) if gates else {}
        unknown |= {number for number, loss in losses.items() if not math.isfinite(loss)}
        return losses, unknown


def _fits(group: ChannelGroup, left: Left) -> bool:
    """Return whether every index keeps an element without a group."""
    return all(count < left[spot] for spot, count in group.index_counts.items())


def contractions(coupling: Coupling) -> list[AxisUse]:
    """Uses of operands by nodes that contract the channels: their indices are in no result of the node.

    If two operands are contracted with each other, it is the first one.
    """
    results: set[NodeIndex] = {index for use in coupling.shrinkable.uses if use.is_result for index in use.indices()}
    found: dict[tuple[Node, NodeIndex], AxisUse] = {}
    for use in coupling.shrinkable.uses:
        if use.is_operand and use.tensor_axis not in coupling.shrinkable.fixed_axes:
            for index in use.indices():
                if index not in results and index not in coupling.shrinkable.fixed_indices:
                    found.setdefault((use.node, index), use)
    return list(dict.fromkeys(found.values()))


def matrix_consumers(graph: Graph) -> list[Node]:
    """Nodes that multiply their operand by a weight of their own, whose columns can be refitted."""
    users = Counter(path for node in graph.nodes() for path in {*node.weights.values()})
    return [
        layer.node
        for layer in layers_with_weights(graph)
        if matrix_obstacle(graph, layer) is None
        and users[layer.weights["weight"]] == 1
        and not layer.op.has(SELECTS_ROWS)
        and not layer.node.transposed
        and graph.weights[layer.weights["weight"]].storage == Dense()
    ]


def columns_of(graph: Graph, nodes: Iterable[Node], groups: Iterable[ChannelGroup]) -> Columns:
    """Columns of the weights of nodes that belong to groups, by number of the group."""
    import torch

    of_path = {node.weights["weight"]: node for node in nodes}
    found: dict[Node, dict[int, torch.Tensor]] = {}
    for group in groups:
        for (path, axis), elements in group.slices.items():
            if axis == 1 and path in of_path:
                inner = math.prod(graph.weights[path].shape[2:])
                own = torch.from_numpy(elements)[:, None] * inner + torch.arange(inner)
                found.setdefault(of_path[path], {})[group.number] = own.flatten()
    return found


def masked_values(
    graph: Graph, groups: Iterable[ChannelGroup], products: Collection[Node], known: Mapping[str, np.ndarray] = {}
) -> dict[str, np.ndarray]:
    """Values of the trainable weights of groups, with zeros for the groups, by path.

    Args:
        products: layers whose columns are zero already.
        known: changed values of weights.
    """
    columns = {(node.weights["weight"], 1) for node in products}
    found: dict[str, np.ndarray] = {}
    for group in groups:
        for (path, axis), elements in group.slices.items():
            if graph.weights[path].trainable and (path, axis) not in columns:
                if path not in found:
                    found[path] = known[path].copy() if path in known else graph.weight_values(path).copy()
                np.moveaxis(found[path], axis, 0)[elements] = 0
    return found
