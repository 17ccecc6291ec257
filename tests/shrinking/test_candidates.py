"""Candidates: what they keep, and how later rounds come nearer."""

from __future__ import annotations

import math
import re

import pytest

from archc.shrinking.candidates import ROUNDS, CandidatePlan, Model
from archc.shrinking.goal import Figures, Goal
from archc.shrinking.trial import Trial

ORIGINAL = Figures(1_000_000, 2_000_000, 250_000, {})
MODEL = Model(ORIGINAL)


def budgets(passes: str, name: str) -> list[int]:
    return [int(number) for number in re.findall(rf"{name} = (\d+)", passes)]


@pytest.mark.parametrize("name", ["macs", "params"])
def test_every_structure_ends_at_the_limit(name: str) -> None:
    limit = 120_000
    plan = CandidatePlan(Goal({name: limit}, None), Model(ORIGINAL, before=["fold"]))  # type: ignore[dict-item]
    found = plan.first()
    assert all(passes.startswith("fold") for passes in found)
    structures = [passes for passes in found if budgets(passes, name)]
    assert len(structures) == 3
    trials = [Trial(each, Figures(9, 9, 9, {}), 0.9 + ("channel" in each) / 20, 0.0) for each in found]
    structures += (pairs := [passes for passes in plan.refined(trials, 1) if passes.count(f"{name} = ") == 2])
    for other in ("lowrank", "depth"):
        orders = {passes.index("channel") < passes.index(other) for passes in pairs if other in passes}
        assert orders == {False, True}
    for passes in structures:
        numbers = budgets(passes, name)
        assert numbers[-1] == limit
        assert numbers == sorted(numbers, reverse=True)
    both = pairs[0]
    assert budgets(both, name)[0] == pytest.approx(math.sqrt(limit * getattr(ORIGINAL, name)), rel=1e-4)


def test_every_structure_under_a_byte_limit_ends_in_the_budget_of_bytes() -> None:
    found = CandidatePlan(Goal({"bytes": 100_000}, None), MODEL).first()
    assert "quant(bytes = 100000)" in found
    structures = [passes for passes in found if "params" in passes]
    assert structures and all(passes.endswith("-> quant(bytes = 100000)") for passes in structures)


@pytest.mark.parametrize("goal", [Goal({"macs": 1_000_000}, None), Goal({"bytes": 100_000}, 0.9), Goal({}, 0.9)])
def test_later_rounds_try_new_candidates_and_find_a_better_split(goal: Goal) -> None:
    """The agreement of this imaginary model is best if pruning keeps m^0.75."""

    def tried(passes: str) -> Trial:
        first = (budgets(passes, "macs") or budgets(passes, "params") or [0])[0]
        total = ORIGINAL.macs if "macs" in passes else ORIGINAL.params
        wanted = 0.5**0.75
        agreement = 1 - abs(first / total - wanted) if "channel" in passes else 0.5
        size = (budgets(passes, "bytes") or [ORIGINAL.bytes])[-1]
        macs = (budgets(passes, "macs") or [ORIGINAL.macs])[-1]
        return Trial(passes, Figures(size, macs, ORIGINAL.params, {}), agreement, 0.0)

    plan = CandidatePlan(goal, MODEL)
    names = plan.first()
    trials = [tried(passes) for passes in names]
    for round in range(1, ROUNDS + 1):
        new = plan.refined(trials, round)
        assert not set(new) & {each.passes for each in trials}
        trials += [tried(passes) for passes in new]
    if "macs" in goal.limits:
        splits = [budgets(each.passes, "macs")[0] / ORIGINAL.macs for each in trials if "prune" in each.passes]
        assert any(abs(split - 0.5**0.75) < 1e-3 for split in splits)
    assert len(trials) > len(names)


def test_candidates_that_miss_a_limit_by_their_estimate_are_not_tried() -> None:
    wide, narrow = (CandidatePlan(Goal({"bytes": size}, None), MODEL).first() for size in (300_000, 100_000))
    assert "quant" in wide and "quant" not in narrow
    assert all("macs" in passes for passes in CandidatePlan(Goal({"macs": 1_000_000}, None), MODEL).first())


@pytest.mark.parametrize(("name", "limit", "sparsity"), [("params", 125_000, 0.63), ("bytes", 600_000, 0.54)])
def test_weights_are_masked_where_this_can_meet_the_limit(name: str, limit: int, sparsity: float) -> None:
    """Of 200,000 weights, 125,000 must go, or 400,000 of 800,000 bytes, without the mask."""
    goal = Goal({name: limit}, None)  # type: ignore[dict-item]
    assert f'prune({sparsity}, storage = "sparse")' in CandidatePlan(goal, Model(ORIGINAL, 200_000)).first()
    assert not any("sparse" in passes for passes in CandidatePlan(goal, Model(ORIGINAL, 100_000)).first())


def test_the_next_candidate_is_at_the_limit_on_the_latency() -> None:
    """Half of the multiply-adds take 0.6 of the latency, so 0.375 of them are expected to take half."""
    plan = CandidatePlan(Goal({}, None, 0.5), MODEL)
    trials = [
        Trial(passes, Figures(9, 9, 9, {"onnx": 0.6 if "macs" in passes else 1.0}), 0.9, 0.0) for passes in plan.first()
    ]
    refined = plan.refined(trials, 1)
    assert any(budgets(passes, "macs")[-1:] == [int(0.375 * ORIGINAL.macs)] for passes in refined)


def test_estimates_use_up_the_budgets() -> None:
    plan = CandidatePlan(Goal({"bytes": 100_000}, None), MODEL)
    for passes in plan.first():
        predicted = plan.predicted(passes)
        assert predicted.bytes == (100_000 if "bytes" in passes else 250_000 if passes else 1_000_000)
        assert predicted.params <= ORIGINAL.params
