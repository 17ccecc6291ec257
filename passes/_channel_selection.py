"""Choice of the channel groups to remove, by loss and by saved cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RemovalStep:
    """One removal of a sequence.

    Attributes:
        groups: numbers of the removed groups.
        loss: the expected squared error of the outputs that it adds.
        before, after: cost of the model.
    """

    groups: Sequence[int]
    loss: float
    before: int
    after: int


class RemovalSequence:
    """Removals of groups, the one with the least loss for the saved cost first, computed on demand.

    Each step removes groups of the family with the least loss for the saved cost, or, for the scope "layer", of the
    family with the smallest share of removed groups.  After each step, the losses of the groups that are left are
    computed anew: a channel that was redundant may now be needed.

    Attributes:
        losses: the losses of the groups that are left.
    """

    def __init__(
        self,
        coupling: Coupling,
        families: Sequence[Sequence[ChannelGroup]],
        losses: ChannelLosses,
        errors: OutputError,
        cost: RemainingCost,
        scope: Scope,
        multiple: int | None,
        progress: Callable[[str], None],
    ):
        self.losses = losses
        self._cost, self._scope = cost, scope
        self._steps: list[RemovalStep] = []
        self._families = [_Family(family, possible_counts(coupling, family, multiple)) for family in families]
        for family in self._families:
            probe = losses.next_removal(family.groups, family.probe, cost.left) if family.probe else None
            if probe is not None:
                progress(f"measure the removal of channels of {probe.groups[0].producers[0]}")
                family.ratio = losses.measured_ratio(probe, errors)
            self._look_ahead(family)

    def steps(self) -> Iterator[RemovalStep]:
        """Yield all steps, until no more groups can be removed."""
        number = 0
        while number < len(self._steps) or self._advance():
            yield self._steps[number]
            number += 1

    def _advance(self) -> bool:
        """Add a step; return False if there is none."""
        cost = self._cost
        options = [
            (family.share if self._scope == "layer" else family.ratio * family.following.loss / saving, number, family)
            for number, family in enumerate(self._families)
            if family.following is not None and (saving := cost.saving(family.following.groups)) > 0
        ]
        if not options:
            return False
        _, _, family = min(options)
        removal, before = family.following, cost.total
        assert removal is not None, "it is among the options"
        cost.remove(removal.groups)
        changed = self.losses.remove(removal.groups)
        family.remove(removal.groups)
        numbers = [group.number for group in removal.groups]
        self._steps.append(RemovalStep(numbers, family.ratio * removal.loss, before, cost.total))
        for each in self._families:
            if each is family or not changed.isdisjoint(self.losses.consumers(each.groups)):
                self._look_ahead(each)
        return True

    def _look_ahead(self, family: _Family) -> None:
        left = self._cost.left
        family.following = self.losses.next_removal(family.groups, family.step, left) if family.step else None


def steps_within(sequence: RemovalSequence, limit: int, nearest: bool) -> list[RemovalStep]:
    """The first steps of a sequence with which the cost is within a limit, or all steps.

    Args:
        nearest: stop at the cost that is nearest to the limit, also above it.
    """
    chosen: list[RemovalStep] = []
    for step in sequence.steps():
        if step.before <= limit or (nearest and limit - step.after >= step.before - limit):
            break
        chosen.append(step)
        if step.after <= limit:  # the step after the last one takes long
            break
    return chosen


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
