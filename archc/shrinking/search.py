"""Trials of candidates, round by round, and the verdict on the best one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, error, silent
from archc.driver.compiled import Compiled
from archc.driver.latency import can_be_measured, measure_graphs
from archc.driver.pipeline_runs import PipelineRuns
from archc.driver.program_bytes import bytes_of
from archc.passmanager.calibration import Calibration
from archc.passmanager.latency import Latency
from archc.shrinking.agreement import Measure, outputs_on
from archc.shrinking.candidates import ROUNDS, CandidatePlan
from archc.shrinking.choice import ROUNDING, best_of, is_worse, least_useful
from archc.shrinking.goal import Figures, Goal
from archc.shrinking.record import Record
from archc.shrinking.samples import Samples
from archc.shrinking.trial import Trial
from archc.targets.registry import find_target

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

MEDIAN_ERROR = 0.93
"""Standard error of the median of n samples of a normal distribution, by the interquartile range / √n."""


@dataclass
class Search:
    """A search for a pipeline.

    Attributes:
        runs: compiles the model with pipelines, on the samples for calibration.
        original: the model without passes.
        samples: the data, in three parts.
        measure: agreement of outputs.
        targets: names of the targets that are written.
        record: keeps the trials.
        timed: False to measure no latency.
        progress: called with the name of each task as it begins.
    """

    runs: PipelineRuns
    original: Compiled
    samples: Samples
    measure: Measure
    targets: Sequence[str]
    record: Record
    timed: bool = True
    progress: Callable[[str], None] = silent
    _expected: Mapping[str, Any] | None = field(default=None, init=False)
    _of_beginnings: dict[str, float] = field(default_factory=dict, init=False)

    def figures(self, compiled: Compiled) -> Figures:
        """Size and cost of a compiled model."""
        graph, targets = compiled.graph, [target for name in self.targets if (target := find_target(name)) is not None]
        sizes = bytes_of(targets, compiled.source_name, compiled.pass_texts, compiled.form)(graph)
        found = cost(graph, self.original.sizes.values)
        latency, spread = {}, {}
        for name, (own, other) in self.latencies(compiled).items():
            latency[name] = round(own.seconds / other.seconds, 4)
            spread[name] = round(2 * latency[name] * math.hypot(_relative_error(own), _relative_error(other)), 4)
        size = max(sizes.values(), default=found.bytes)
        return Figures(size, found.multiply_adds, found.parameters, latency, spread)

    def latencies(self, compiled: Compiled) -> dict[str, list[Latency]]:
        """Latency of a model and of the original one, which run in turns, by target that can be measured."""
        found = {}
        for name in self.targets if self.timed else ():
            target = find_target(name)
            if target is not None and can_be_measured(target):
                sample = Calibration(compiled.graph, self.samples.choice).sample()
                found[name] = measure_graphs([compiled.graph, self.original.graph], target, sample)
        return found

    def expect_reachable(self, goal: Goal) -> None:
        """Refuse an agreement that the original model does not have.

        Raises:
            ArchcError: its agreement with itself is smaller (`keep-not-reachable`).
        """
        agreement = self._agreement(self.original)
        if goal.keep is not None and agreement < goal.keep - ROUNDING:
            raise error(
                "keep-not-reachable",
                f"the measure of the original model itself is {agreement:.4g}, less than the {goal.keep:g} to keep",
                help=f"keep at most {max(agreement, 0.0):.4g}, or use a measure that is 1 for equal outputs",
            )

    def run(self, goal: Goal, plan: CandidatePlan, first: Sequence[str], deadline: float | None = None) -> bool:
        """Try the candidates of a plan; return False if the time was over before all were tried.

        Args:
            first: the candidates of the first round.
            deadline: value of `time.monotonic()` after which no trial begins.
        """
        wanted = ["", *first]
        for round in range(ROUNDS + 1):
            for number, passes in enumerate(wanted, 1):
                least = least_useful(self.trials, goal)
                if self._is_done(passes, least):
                    continue
                if deadline is not None and time.monotonic() > deadline and len(self.record.trials) > 1:
                    return False
                place = f"round {round + 1} of {ROUNDS + 1}, pipeline {number} of {len(wanted)}"
                self.progress(f"{place}: {passes or 'none'}")
                self.record.add(self._trial(passes, least))
            wanted = plan.refined(self.trials, round + 1)
        return True

    @property
    def trials(self) -> list[Trial]:
        """The trials so far."""
        return list(self.record.trials.values())

    def chosen(self, goal: Goal) -> Trial | None:
        """The best trial so far; see `best_of`."""
        return best_of(self.trials, goal)

    def verdict(self, compiled: Compiled) -> float:
        """Agreement of a model on the samples that chose nothing."""
        data = self.samples.verdict
        return self.measure(outputs_on(compiled.graph, data), outputs_on(self.original.graph, data), data)

    def _is_done(self, passes: str, least: float | None) -> bool:
        """Return whether a recorded trial need not be repeated; another goal may need one that was stopped."""
        trial = self.record.trials.get(passes)
        return trial is not None and not (trial.stopped and not _is_hopeless(trial.agreement, least))

    def _trial(self, passes: str, least: float | None) -> Trial:
        """Try a pipeline; later passes do not run if the agreement after the first ones is too small already."""
        start = time.monotonic()
        try:
            compiled = self.original
            for compiled, following in self.runs.steps(passes) if passes else ():
                if not compiled.passes[-1].changed:
                    idle = f"`{compiled.passes[-1].text}` changes nothing, so a shorter pipeline gives the same"
                    return Trial(passes, None, 0.0, time.monotonic() - start, idle)
                if not following:
                    break
                beginning = " -> ".join(passes.split(" -> ")[:-following])
                if _is_hopeless(agreement := self._after(beginning, compiled), least):
                    return Trial(passes, None, agreement, time.monotonic() - start, stopped=beginning)
            figures = self.figures(compiled)
            agreement = self._agreement(compiled)
        except ArchcError as failure:
            if not passes or failure.diagnostics[0].code == "measure-failed":
                raise  # it would fail for every pipeline
            return Trial(passes, None, 0.0, time.monotonic() - start, failure.diagnostics[0].message)
        return Trial(passes, figures, agreement, time.monotonic() - start)

    def _after(self, beginning: str, compiled: Compiled) -> float:
        """Agreement after the first passes of a pipeline."""
        if beginning not in self._of_beginnings:
            self._of_beginnings[beginning] = self._agreement(compiled)
        return self._of_beginnings[beginning]

    def _agreement(self, compiled: Compiled) -> float:
        data = self.samples.choice
        if self._expected is None:
            self._expected = outputs_on(self.original.graph, data)
        return self.measure(outputs_on(compiled.graph, data), self._expected, data)


def judged(goal: Goal, figures: Figures, verdict: float) -> bool:
    """Return whether a model meets a goal, with its agreement on the samples that chose nothing."""
    return goal.within(figures) and (goal.keep is None or verdict >= goal.keep)


def _is_hopeless(agreement: float, least: float | None) -> bool:
    return least is not None and is_worse(agreement, least)


def _relative_error(latency: Latency) -> float:
    return MEDIAN_ERROR * (latency.high - latency.low) / (latency.seconds * math.sqrt(latency.runs))
