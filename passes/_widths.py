"""Widths of pruned layers, rounded to multiples for vector units and blocked layouts."""

from __future__ import annotations

from collections.abc import Sequence

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.shrinkable_axes import NodeIndex


def align(
    coupling: Coupling, ranking: Sequence[ChannelGroup], chosen: Sequence[ChannelGroup], multiple: int
) -> list[ChannelGroup]:
    """The groups of one family to remove, so that the width of the layer that makes them is a multiple.

    The nearest width is chosen, the wider of two.  No group is removed if no narrower width is a multiple.

    Args:
        ranking: the groups of the family that may be removed, the least important first.
        chosen: the groups to remove if any width is allowed.
    """
    axis = _axis(coupling, ranking)
    if not chosen or axis is None:
        return list(chosen)
    size, each = axis
    counts = [count for count in range(len(ranking) + 1) if count == 0 or (size - count * each) % multiple == 0]
    fits = [count for count in counts if size - count * each > 0 and _leaves_some(coupling, ranking[:count])]
    nearest = min(fits, key=lambda count: (abs(count - len(chosen)), count))
    return list(ranking[:nearest])


def _axis(coupling: Coupling, family: Sequence[ChannelGroup]) -> tuple[int, int] | None:
    """The width of the layer that makes a family of groups, and that of one group; None without such a layer."""
    for use, _ in coupling.produced_axes():
        size = coupling.shrinkable.size(use.place)
        if family and use.node.title in family[0].producers and isinstance(size, int):
            each = size - len(coupling.kept(use.place, {family[0].number}))
            if each:
                return size, each
    return None


def _leaves_some(coupling: Coupling, removed: Sequence[ChannelGroup]) -> bool:
    """Return whether no index loses its last element."""
    gone: dict[NodeIndex, int] = {}
    for group in removed:
        for spot, count in group.index_counts.items():
            gone[spot] = gone.get(spot, 0) + count
    return all(count < coupling.sizes[spot] for spot, count in gone.items())
