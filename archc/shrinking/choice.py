"""Choice of the best trial for a goal."""

from __future__ import annotations

from collections.abc import Sequence

from archc.shrinking.goal import Goal
from archc.shrinking.trial import Trial

NOISE = 0.05
"""Relative difference of two losses 1 - agreement that says nothing about other samples."""
ROUNDING = 1e-6
"""Difference of two agreements by the rounding of floats."""


def best_of(trials: Sequence[Trial], goal: Goal) -> Trial | None:
    """The best trial for a goal, also if none meets it; None if all trials failed.

    Among the trials that meet the goal, it is the smallest one that agrees as well as the best one, or without limits
    the smallest of all.  Else it is the one that comes nearest: by limits, then by agreement.
    """
    able = [trial for trial in trials if trial.figures is not None]
    meeting = [trial for trial in able if meets(trial, goal)]
    if not meeting:
        return min(able, key=lambda trial: _distance(trial, goal), default=None)
    best = max(trial.agreement for trial in meeting)
    near = [trial for trial in meeting if not is_worse(trial.agreement, best)] if goal.limited else meeting
    return min(near, key=_size)


def meets(trial: Trial, goal: Goal) -> bool:
    """Return whether a trial is within the limits and agrees enough, on the samples for the choice."""
    return (
        trial.figures is not None and goal.within(trial.figures) and (goal.keep is None or trial.agreement >= goal.keep)
    )


def is_worse(agreement: float, other: float) -> bool:
    """Return whether an agreement is smaller than another one by more than the noise."""
    return 1 - agreement > (1 - other) * (1 + NOISE) + ROUNDING


def least_useful(trials: Sequence[Trial], goal: Goal) -> float | None:
    """Agreement that a further trial needs to be the best one; None if any agreement can do."""
    meeting = [trial for trial in trials if meets(trial, goal)]
    if goal.limited and meeting:
        return max(trial.agreement for trial in meeting)
    return goal.keep


def _size(trial: Trial) -> tuple[float, ...]:
    assert trial.figures is not None, "failed trials are left out"
    return trial.figures.bytes, trial.figures.macs, -trial.agreement


def _distance(trial: Trial, goal: Goal) -> tuple[float, float]:
    assert trial.figures is not None, "failed trials are left out"
    return goal.excess(trial.figures), -trial.agreement
