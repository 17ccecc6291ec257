"""Trials of candidates, round by round, and the verdict on the best one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, silent
from archc.driver.compiled import Compiled
from archc.driver.latency import can_be_measured, measure_graphs
from archc.driver.program_bytes import bytes_of
from archc.passmanager.calibration import Calibration
from archc.shrinking.agreement import Measure, outputs_on
from archc.shrinking.candidates import ROUNDS, CandidatePlan
from archc.shrinking.choice import best_of
from archc.shrinking.goal import Figures, Goal
from archc.shrinking.record import Record
from archc.shrinking.samples import Samples
from archc.shrinking.trial import Trial
from archc.targets.registry import find_target

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

Compile = Callable[[str], Compiled]
"""Function that compiles the model with a pipeline, on the samples for calibration."""


@dataclass
class Search:
    """A search for a pipeline.

    Attributes:
        compile: compiles the model with a pipeline.
        original: the model without passes.
        samples: the data, in three parts.
        measure: agreement of outputs.
        targets: names of the targets that are written.
        record: keeps the trials.
        timed: False to measure no latency.
        progress: called with the name of each task as it begins.
    """

    compile: Compile
    original: Compiled
    samples: Samples
    measure: Measure
    targets: Sequence[str]
    record: Record
    timed: bool = True
    progress: Callable[[str], None] = silent
    _expected: Mapping[str, Any] | None = field(default=None, init=False)

    def figures(self, compiled: Compiled) -> Figures:
        """Size and cost of a compiled model; latencies are shares of those of the original model."""
        graph, targets = compiled.graph, [target for name in self.targets if (target := find_target(name)) is not None]
        sizes = bytes_of(targets, compiled.source_name, compiled.pass_texts, compiled.form)(graph)
        found = cost(graph, self.original.sizes.values)
        latency = {}
        for target in targets if self.timed else ():
            if can_be_measured(target):
                sample = Calibration(graph, self.samples.choice).sample()
                own, other = measure_graphs([graph, self.original.graph], target, sample)
                latency[target.name] = round(own.seconds / other.seconds, 4)
        return Figures(max(sizes.values(), default=found.bytes), found.multiply_adds, found.parameters, latency)

    def run(self, goal: Goal, plan: CandidatePlan, first: Sequence[str], deadline: float | None = None) -> bool:
        """Try the candidates of a plan; return False if the time was over before all were tried.

        Args:
            first: the candidates of the first round.
            deadline: value of `time.monotonic()` after which no trial begins.
        """
        wanted = ["", *first]
        for round in range(ROUNDS + 1):
            for number, passes in enumerate(wanted, 1):
                if passes in self.record.trials:
                    continue
                if deadline is not None and time.monotonic() > deadline and len(self.record.trials) > 1:
                    return False
                place = f"round {round + 1} of {ROUNDS + 1}, pipeline {number} of {len(wanted)}"
                self.progress(f"{place}: {passes or 'none'}")
                self.record.add(self._trial(passes))
            wanted = plan.refined(list(self.record.trials.values()), round + 1)
        return True

    def chosen(self, goal: Goal) -> Trial | None:
        """The best trial so far; see `best_of`."""
        return best_of(list(self.record.trials.values()), goal)

    def verdict(self, compiled: Compiled) -> float:
        """Agreement of a model on the samples that chose nothing."""
        data = self.samples.verdict
        return self.measure(outputs_on(compiled.graph, data), outputs_on(self.original.graph, data), data)

    def _trial(self, passes: str) -> Trial:
        start = time.monotonic()
        try:
            compiled = self.compile(passes) if passes else self.original
            figures = self.figures(compiled)
            agreement = self._agreement(compiled)
        except ArchcError as failure:
            if not passes or failure.diagnostics[0].code == "measure-failed":
                raise  # it would fail for every pipeline
            return Trial(passes, None, 0.0, time.monotonic() - start, failure.diagnostics[0].message)
        return Trial(passes, figures, agreement, time.monotonic() - start)

    def _agreement(self, compiled: Compiled) -> float:
        data = self.samples.choice
        if self._expected is None:
            self._expected = outputs_on(self.original.graph, data)
        return self.measure(outputs_on(compiled.graph, data), self._expected, data)


def judged(goal: Goal, trial: Trial, verdict: float) -> bool:
    """Return whether a trial meets a goal, with its agreement on the samples that chose nothing."""
    return trial.figures is not None and goal.within(trial.figures) and (goal.keep is None or verdict >= goal.keep)
