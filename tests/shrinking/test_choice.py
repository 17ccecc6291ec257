"""Goals, the Pareto front, and the choice among trials."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.shrinking.amounts import amount, seconds, share
from archc.shrinking.choice import best_of, meets
from archc.shrinking.goal import Figures, Goal, Quantity, limit_of
from archc.shrinking.trial import Trial, front

NUMBERS = st.integers(1, 6)
TRIALS = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.integers(0, 5)),
    min_size=1,
    max_size=8,
).map(lambda rows: [trial(str(k), size, macs, level / 5) for k, (size, macs, level) in enumerate(rows)])


def trial(passes: str, size: int, macs: int, agreement: float) -> Trial:
    return Trial(passes, Figures(size, macs, size, {}), agreement, 0.0)


def figures(each: Trial) -> Figures:
    assert each.figures is not None
    return each.figures


@given(TRIALS)
def test_no_trial_exceeds_one_of_the_front_and_some_of_the_front_equals_or_exceeds_each(trials: list[Trial]) -> None:
    def at_least(one: Trial, other: Trial) -> bool:
        a, b = figures(one), figures(other)
        return a.bytes <= b.bytes and a.macs <= b.macs and one.agreement >= other.agreement

    best = front(trials)
    for one, other in itertools.product(trials, best):
        assert not at_least(one, other) or at_least(other, one)
    for each in trials:
        assert any(at_least(one, each) for one in best)


@given(TRIALS, st.sampled_from(["bytes", "macs"]), NUMBERS, st.none() | st.integers(0, 5).map(lambda k: k / 5))
def test_the_best_agreement_within_the_limits_is_chosen(
    trials: list[Trial], quantity: Quantity, limit: int, keep: float | None
) -> None:
    goal = Goal({quantity: limit}, keep)
    best = best_of(trials, goal)
    assert best is not None
    meeting = [each for each in trials if meets(each, goal)]
    if meeting:
        assert best in meeting and best.agreement == max(each.agreement for each in meeting)
        rivals = [each for each in meeting if each.agreement == best.agreement]
        assert figures(best).bytes == min(figures(each).bytes for each in rivals)
    else:
        assert goal.excess(figures(best)) == min(goal.excess(figures(each)) for each in trials)


@given(TRIALS, st.integers(0, 5).map(lambda k: k / 5))
def test_without_limits_the_smallest_is_chosen(trials: list[Trial], keep: float) -> None:
    goal = Goal({}, keep)
    meeting = [figures(each).bytes for each in trials if meets(each, goal)]
    best = best_of(trials, goal)
    assert best is not None
    if meeting:
        assert figures(best).bytes == min(meeting)
    else:
        assert best.agreement == max(each.agreement for each in trials)


def test_an_agreement_within_the_noise_does_not_outweigh_bytes() -> None:
    goal, large = Goal({"bytes": 10}, None), trial("large", 9, 9, 0.98)
    assert best_of([large, small := trial("small", 5, 9, 0.9795)], goal) is small
    assert best_of([large, trial("small", 5, 9, 0.9785)], goal) is large
    assert best_of([trial("large", 9, 9, 1 - 1e-9), same := trial("small", 5, 9, 1 - 1e-7)], goal) is same


def test_failed_trials_are_never_chosen() -> None:
    failed = Trial("quant", None, 0.0, 0.0, "it failed")
    assert best_of([failed], Goal({}, 0.0)) is None
    assert front([failed]) == []


@pytest.mark.parametrize(("given_amount", "before", "limit"), [(0.6, 50, 30), (1, 50, 50), (7, 50, 7)])
def test_limits(given_amount: float, before: int, limit: int) -> None:
    assert limit_of(given_amount, before) == limit


@pytest.mark.parametrize(
    ("text", "number"), [("15MB", 15e6), ("1.5MiB", 1.5 * 2**20), ("0.6", 0.6), ("60%", 0.6), ("15 MB", 15e6)]
)
def test_amounts_of_bytes(text: str, number: float) -> None:
    assert amount(text, "bytes") == pytest.approx(number)


@pytest.mark.parametrize("text", ["15Mb", "0", "", "MB", "-1", "15s", "1e6x"])
def test_wrong_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`|number"):
        amount(text, "bytes")


def test_shares_and_durations() -> None:
    assert (share("99%"), share("0.99"), seconds("10m"), seconds("1.5h")) == (0.99, 0.99, 600, 5400)
    for read, text in ((share, "99"), (share, "5MB"), (seconds, "3 days")):
        with pytest.raises(ValueError, match="write for example"):
            read(text)
