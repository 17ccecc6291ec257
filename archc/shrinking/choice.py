"""Choice of the best trial for a goal."""

from __future__ import annotations

from collections.abc import Sequence

from archc.shrinking.goal import Goal
from archc.shrinking.trial import Trial


def best_of(trials: Sequence[Trial], goal: Goal) -> Trial | None:
    """The best trial for a goal, also if none meets it; None if all trials failed.

    Among the trials that meet the goal, it is the one with the best agreement, or without limits the smallest one.
    Else it is the one that comes nearest: by limits, then by agreement.
    """
    able = [trial for trial in trials if trial.figures is not None]
    meeting = [trial for trial in able if meets(trial, goal)]
    if meeting:
        return min(meeting, key=lambda trial: _rank(trial, goal))
    return min(able, key=lambda trial: _distance(trial, goal), default=None)


def meets(trial: Trial, goal: Goal) -> bool:
    """Return whether a trial is within the limits and agrees enough, on the samples for the choice."""
    return (
        trial.figures is not None and goal.within(trial.figures) and (goal.keep is None or trial.agreement >= goal.keep)
    )


def _rank(trial: Trial, goal: Goal) -> tuple[float, ...]:
    assert trial.figures is not None, "failed trials are left out"
    figures = trial.figures
    if goal.limits:
        return (-trial.agreement, figures.bytes, figures.macs)
    return (figures.bytes, -trial.agreement, figures.macs)


def _distance(trial: Trial, goal: Goal) -> tuple[float, float]:
    assert trial.figures is not None, "failed trials are left out"
    return goal.excess(trial.figures), -trial.agreement
