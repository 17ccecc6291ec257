"""Removal of whole channels from a graph, in the groups of `archc.analysis.coupling`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.shrinkable_axes import NodeIndex
from archc.ir.graph import Graph
from archc.passmanager import Context

from ._width_alignment import is_aligned

Scope = Literal["global", "layer"]
Wanted = Callable[[str], bool]
"""Predicate on the path of a layer: True if the layer may lose channels."""


def choose_groups(
    coupling: Coupling, sparsity: float, scope: Scope, wanted: Wanted = lambda path: True, multiple: int | None = 1
) -> list[ChannelGroup]:
    """Choose the groups to remove, the least important first.

    Args:
        sparsity: share of the removable groups of a pool that are removed.
        scope: "global" for one pool of all groups; "layer" for separate pools, each of groups with the same producers.
        multiple: a layer that becomes narrower gets a width that is aligned with this number (see `is_aligned`).
    """
    norms = _Norms(coupling.graph)
    pools: list[list[tuple[float, ChannelGroup]]] = []
    for groups in candidates(coupling, wanted):
        importances = np.array([norms.of(group) for group in groups])
        finite = np.isfinite(importances)  # groups with NaN or infinite weights cannot be ranked, and are kept
        if scope == "global" and finite.any():
            importances /= importances[finite].mean() or 1.0
        pools.append([(float(importances[k]), groups[k]) for k in np.flatnonzero(finite)])
    ranked_together = [[ranked for pool in pools for ranked in pool]] if scope == "global" else pools
    left = dict(coupling.sizes)
    chosen = [group for pool in ranked_together for group in _least_important(pool, int(sparsity * len(pool)), left)]
    if multiple == 1:
        return chosen
    numbers = {group.number for group in chosen}
    aligned: list[ChannelGroup] = []
    for pool in pools:
        ranking = [group for _, group in sorted(pool, key=lambda ranked: ranked[0])]
        aligned += align_width(coupling, ranking, [group for group in ranking if group.number in numbers], multiple)
    return aligned


def candidates(coupling: Coupling, wanted: Wanted) -> list[list[ChannelGroup]]:
    """The groups that may be removed, in one list for each set of layers that produces them."""
    return [
        [group for group in family if _is_removable(coupling, group) and all(map(wanted, group.producers))]
        for family in coupling.families()
    ]


def remove_groups(context: Context, coupling: Coupling, removed: set[int]) -> None:
    """Remove groups from all weights, and change the extents of the operators accordingly."""
    graph = coupling.graph
    operators, weights = {}, {}
    for node in graph.nodes():
        extents, before = coupling.extents(node, removed), node.op.infer(node.types).solution.extents
        if extents != {name: before[name] for name in extents}:
            operators[node] = node.op.with_extents(node.types, extents)
    for path, weight in graph.weights.items():
        kept = [coupling.kept((path, number), removed) for number in range(len(weight.shape))]
        if tuple(map(len, kept)) != weight.shape:
            weights[path] = kept
    context.rewriter.resize(operators, weights)


class _Norms:
    """Squared norms of the slices of trainable weights, computed once for each axis."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._squares: dict[tuple[str, int], np.ndarray] = {}

    def of(self, group: ChannelGroup) -> float:
        """Importance of a group: the L2 norm of its trainable weights."""
        return float(
            np.sqrt(
                sum(
                    self._of_axis(path, axis)[elements].sum()
                    for (path, axis), elements in group.slices.items()
                    if self._graph.weights[path].trainable
                )
            )
        )

    def _of_axis(self, path: str, axis: int) -> np.ndarray:
        if (path, axis) not in self._squares:
            values = self._graph.weight_values(path).astype(np.float64)
            others = tuple(number for number in range(values.ndim) if number != axis)
            self._squares[path, axis] = (values**2).sum(axis=others)
        return self._squares[path, axis]


def _is_removable(coupling: Coupling, group: ChannelGroup) -> bool:
    """Return whether each axis of the group also has elements outside the group."""
    return all(count < coupling.sizes[spot] for spot, count in group.index_counts.items())


def _least_important(
    pool: Sequence[tuple[float, ChannelGroup]], count: int, left: dict[NodeIndex, int]
) -> list[ChannelGroup]:
    """Up to `count` least important groups of a pool, such that no index loses its last element."""
    chosen: list[ChannelGroup] = []
    for _, group in sorted(pool, key=lambda ranked: ranked[0]):
        if len(chosen) == count:
            break
        if all(number < left[spot] for spot, number in group.index_counts.items()):
            chosen.append(group)
            for spot, number in group.index_counts.items():
                left[spot] -= number
    return chosen


def remark_on_channels(context: Context, coupling: Coupling, removed: set[int], wanted: Wanted) -> None:
    """Add a remark on every layer with result channels: the number of kept channels, or why all are kept."""
    groups_of: dict[NodeIndex, list[ChannelGroup]] = {}
    for group in coupling.groups:
        for spot in group.index_counts:
            groups_of.setdefault(spot, []).append(group)
    seen: set[str] = set()
    for use, spots in coupling.produced_axes():
        layer = use.node.title
        if layer in seen:
            continue
        seen.add(layer)
        size = coupling.shrinkable.size(use.tensor_axis)
        left = (
            None if use.tensor_axis in coupling.shrinkable.fixed_axes else len(coupling.kept(use.tensor_axis, removed))
        )
        if left is not None and left != size:
            message = f"{left} of {size} channels are left"
            context.rewrote(layer, message, channels_before=str(size), channels_after=left)
        else:
            groups = [group for spot in spots for group in groups_of.get(spot, [])]
            if all(group.reason is not None for group in groups):
                reason = groups[0].reason if groups else coupling.shrinkable.fixed_indices[spots[0]]
                context.inapplicable(layer, f"its channels are fixed: {reason}")
            else:
                context.left(layer, _obstacle(coupling, layer, groups, wanted))


def _obstacle(coupling: Coupling, layer: str, groups: Sequence[ChannelGroup], wanted: Wanted) -> str:
    """Reason why a layer keeps all channels, though some of its groups could be removed."""
    free = [group for group in groups if group.reason is None]
    if not wanted(layer):
        return "not selected"
    others = [other for group in free for other in group.producers if not wanted(other)]
    if others:
        return f"coupled with `{others[0]}`, which is not selected"
    if not any(_is_removable(coupling, group) for group in free):
        return "all its channels form one group, and a layer keeps at least one channel"
    return "too few of its channels are among the least important"


def align_width(
    coupling: Coupling, ranking: Sequence[ChannelGroup], chosen: Sequence[ChannelGroup], multiple: int | None
) -> list[ChannelGroup]:
    """Groups of one family to remove, so that a changed width of their layer is aligned.

    The target is the width that the layer has after the removal of exactly the groups in `chosen`.  The layer may keep
    its width, or get a smaller aligned width.  Of these possible widths, the one nearest to
    the target is chosen, and the larger one of two equally near widths.

    Args:
        ranking: the removable groups of the family, the least important first.
        chosen: the groups to remove if any width is allowed.
    """
    if not chosen or _axis(coupling, ranking) is None:
        return list(chosen)
    counts = [0, *possible_counts(coupling, ranking, multiple)]
    fits = [count for count in counts if _leaves_elements(coupling, ranking[:count])]
    nearest = min(fits, key=lambda count: (abs(count - len(chosen)), count))
    return list(ranking[:nearest])


def possible_counts(coupling: Coupling, family: Sequence[ChannelGroup], multiple: int | None) -> list[int]:
    """Numbers of groups, above 0, whose removal makes the width of their layer an aligned one."""
    axis = _axis(coupling, family)
    counts = range(1, len(family) + 1)
    if axis is None:
        return [*counts]
    size, each = axis
    return [count for count in counts if size > count * each and is_aligned(size - count * each, multiple)]


def _axis(coupling: Coupling, family: Sequence[ChannelGroup]) -> tuple[int, int] | None:
    """Width of the layer that produces a family of groups, and width of one group; None for no layer."""
    for use, _ in coupling.produced_axes():
        size = coupling.shrinkable.size(use.tensor_axis)
        if family and use.node.title in family[0].producers and isinstance(size, int):
            each = size - len(coupling.kept(use.tensor_axis, {family[0].number}))
            if each:
                return size, each
    return None


def _leaves_elements(coupling: Coupling, removed: Sequence[ChannelGroup]) -> bool:
    """Return whether every index keeps an element."""
    gone: dict[NodeIndex, int] = {}
    for group in removed:
        for spot, count in group.index_counts.items():
            gone[spot] = gone.get(spot, 0) + count
    return all(count < coupling.sizes[spot] for spot, count in gone.items())
