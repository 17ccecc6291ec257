"""Choice of the channel groups to remove, by loss and by saved cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.narrowed_cost import Left
from archc.compression.calibration.output_error import OutputError

from ._channel_losses import ChannelLosses, Removal
from ._channel_pruning import Scope, possible_counts

STEPS = 32
"""Number of steps in which a family loses its groups; a step ends at a multiple of the width."""
PROBE = 0.25
"""Share of the groups of a family that a probe removes."""


class RemainingCost(Protocol):
    """Cost of a model while groups are removed; see `NarrowedCost`."""

    @property
    def total(self) -> int:
        """The cost that remains."""

    @property
    def left(self) -> Left:
        """Number of elements of each index that are left."""

    def saving(self, groups: Sequence[ChannelGroup]) -> int:
        """Reduction of the cost by the removal of groups."""

    def remove(self, groups: Sequence[ChannelGroup]) -> None:
        """Remove groups."""


class _Family:
    """A family of groups during the selection.

    Attributes:
        groups: the groups that are left.
        ratio: measured loss relative to the predicted one.
        following: the next removal; None if there is none.
    """

    def __init__(self, groups: Sequence[ChannelGroup], counts: Sequence[int]):
        self.groups = list(groups)
        self.ratio = 1.0
        self.following: Removal | None = None
        self._counts, self._size = counts, len(groups)

    @property
    def share(self) -> float:
        """Share of the groups that are removed."""
        return 1 - len(self.groups) / self._size

    @property
    def step(self) -> int:
        """Number of groups to remove next; 0 if no more can be removed."""
        removed = self._size - len(self.groups)
        later = [count for count in self._counts if count > removed]
        least = removed + max(1, self._size // STEPS)
        return next((count for count in later if count >= least), later[-1]) - removed if later else 0

    @property
    def probe(self) -> int:
        """Number of groups that a probe removes; 0 if none can be removed."""
        return min(self._counts, key=lambda count: abs(count - self._size * PROBE), default=0)

    def remove(self, groups: Sequence[ChannelGroup]) -> None:
        """Remove groups."""
        gone = {group.number for group in groups}
        self.groups = [group for group in self.groups if group.number not in gone]


def choose_by_loss(
    coupling: Coupling,
    families: Sequence[Sequence[ChannelGroup]],
    losses: ChannelLosses,
    errors: OutputError,
    cost: RemainingCost,
    limit: int,
    scope: Scope,
    multiple: int | None,
    progress: Callable[[str], None],
    nearest: bool = False,
) -> tuple[list[ChannelGroup], float]:
    """Choose groups to remove until the cost is within a limit, and return them with their predicted loss.

    Each step removes groups of the family with the least loss for the saved cost, or, for the scope "layer", of the
    family with the smallest share of removed groups.  After each step, the losses of the groups that are left are
    computed anew: a channel that was redundant may now be needed.  If the limit cannot be met, all groups are removed
    that can be.

    Args:
        nearest: stop at the cost that is nearest to the limit, also above it.
    """
    own = [_Family(family, possible_counts(coupling, family, multiple)) for family in families]
    for family in own:
        probe = losses.next_removal(family.groups, family.probe, cost.left) if family.probe else None
        if probe is not None and cost.total > limit:
            progress(f"measure the removal of channels of {probe.groups[0].producers[0]}")
            family.ratio = losses.measured_ratio(probe, errors)
        family.following = losses.next_removal(family.groups, family.step, cost.left) if family.step else None
    chosen: list[ChannelGroup] = []
    total = 0.0
    while cost.total > limit:
        options = [
            (family.share if scope == "layer" else family.ratio * family.following.loss / saving, number, family)
            for number, family in enumerate(own)
            if family.following is not None and (saving := cost.saving(family.following.groups)) > 0
        ]
        if not options:
            break
        _, _, family = min(options)
        removal = family.following
        assert removal is not None, "it is among the options"
        if nearest and limit - (cost.total - cost.saving(removal.groups)) >= cost.total - limit:
            break
        progress(f"remove channels of {removal.groups[0].producers[0]}")
        cost.remove(removal.groups)
        changed = losses.remove(removal.groups)
        family.remove(removal.groups)
        chosen += removal.groups
        total += family.ratio * removal.loss
        for each in own:
            if each is family or not changed.isdisjoint(losses.consumers(each.groups)):
                each.following = losses.next_removal(each.groups, each.step, cost.left) if each.step else None
    return chosen, total


class GroupCount:
    """Number of groups, as the cost of a model; see `RemainingCost`."""

    def __init__(self, coupling: Coupling, total: int):
        self.total, self.left = total, dict(coupling.sizes)

    def saving(self, groups: Sequence[ChannelGroup]) -> int:
        """Number of these groups."""
        return len(groups)

    def remove(self, groups: Sequence[ChannelGroup]) -> None:
        """Remove groups."""
        self.total -= len(groups)
        for group in groups:
            for spot, count in group.index_counts.items():
                self.left[spot] -= count
