"""Trials that are stopped when the first passes already agree too little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archc
from archc.driver.compiled import Compiled
from archc.shrinking.agreement import cosine
from archc.shrinking.candidates import CandidatePlan, Model
from archc.shrinking.goal import Figures, Goal
from archc.shrinking.record import Record
from archc.shrinking.samples import divide
from archc.shrinking.search import Search

AGREEMENTS = {"a": 0.99, "b": 0.9, "b -> c": 0.8, "d": 0.995, "d -> c": 0.992, "": 1.0}
"""Agreement after the passes of an imaginary pipeline."""


class Imaginary(str):
    """The text of a pipeline, in place of the model that it makes."""

    passes = (SimpleNamespace(changed=True),)


class Runs:
    """Imaginary pipelines, which note what ran."""

    def __init__(self, model: Compiled):
        self.model, self.ran = model, list[str]()

    def steps(self, passes: str) -> Iterator[tuple[Imaginary, int]]:
        names = passes.split(" -> ")
        for number in range(1, len(names) + 1):
            self.ran.append(" -> ".join(names[:number]))
            yield Imaginary(self.ran[-1]), len(names) - number


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Search:
    data = {"x": np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)}
    model = archc.compile("model m { input x: f32[N, 2]  output y = x -> relu }", calib=data)

    def agreement(search: Search, passes: Any) -> float:
        return AGREEMENTS["" if passes is model else passes]

    monkeypatch.setattr(Search, "_agreement", agreement)
    monkeypatch.setattr(Search, "figures", lambda search, passes: Figures(100 if passes is model else 50, 1, 1, {}))
    runs: Any = Runs(model)
    return Search(runs, model, divide(data, 0), cosine, [], Record(tmp_path, "key"))


def plan(goal: Goal) -> CandidatePlan:
    return CandidatePlan(goal, Model(Figures(100, 1, 1, {})))


def test_a_pipeline_stops_if_its_beginning_is_worse_than_the_best_one(search: Search) -> None:
    goal = Goal({"bytes": 60}, None)
    search.run(goal, plan(goal), ["a", "b -> c", "d -> c"])
    runs: Any = search.runs
    assert runs.ran == ["a", "b", "d", "d -> c"]
    stopped = search.record.trials["b -> c"]
    assert (stopped.stopped, stopped.agreement, stopped.figures) == ("b", 0.9, None)
    best = search.chosen(goal)
    assert best is not None and best.passes == "d -> c"


def test_a_stopped_trial_is_repeated_for_a_goal_that_may_need_it(search: Search, tmp_path: Path) -> None:
    goal = Goal({"bytes": 60}, None)
    search.run(goal, plan(goal), ["a", "b -> c"])
    runs: Any = search.runs
    runs.ran.clear()
    search.record = Record(tmp_path, "key")
    assert search.record.trials["b -> c"].stopped == "b"
    search.run(goal, plan(goal), ["a", "b -> c"])
    assert runs.ran == []
    looser = Goal({}, 0.75)
    search.run(looser, plan(looser), ["b -> c"])
    assert runs.ran == ["b", "b -> c"]
    assert search.record.trials["b -> c"].agreement == 0.8


def test_an_agreement_above_that_of_the_original_model_is_refused(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.expect_reachable(Goal({}, 1.0))
    monkeypatch.setitem(AGREEMENTS, "", 0.9)
    with pytest.raises(archc.ArchcError, match=r"keep at most 0\.9"):
        search.expect_reachable(Goal({}, 0.95))
