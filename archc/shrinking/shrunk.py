"""The result of `archc.shrink`: the trials, the chosen model and its verdict; it can be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import silent
from archc.driver.compiled import Compiled
from archc.shrinking.goal import Figures, Goal
from archc.shrinking.replaced_file import replaced
from archc.shrinking.search import judged
from archc.shrinking.trial import Trial, front

if TYPE_CHECKING:
    from archc.shrinking.samples import Arrays

RECIPE = "recipe"
"""Name of the pipeline in `recipe.arch`."""
FILES = ("recipe.arch", "calibration.npz")
"""Files that are written beside the programs."""


@dataclass
class Shrunk:
    """The outcome of a search.

    Attributes:
        goal: what the model must meet.
        measure: name of the measure of agreement.
        original: figures of the model without passes.
        planned: the pipelines of the first round, with estimates of their figures.
        trials: all trials, in their order; the one without passes is the original model.
        chosen: the best trial; None if all failed.
        compiled: the chosen model, compiled on the samples for calibration and for the choice; None if there is none.
        figures: size and cost of this model.
        verdict: its agreement on samples that chose nothing; None if there is no chosen model.
        complete: False if the search ended before all candidates were tried.
        calibration: the samples that the passes of this model got.
        recipe: text of `recipe.arch`.
        folder: folder to write into; None if `archc.shrink` got none.
    """

    goal: Goal
    measure: str
    original: Figures
    planned: Mapping[str, Figures]
    trials: Sequence[Trial]
    chosen: Trial | None
    compiled: Compiled | None
    figures: Figures | None
    verdict: float | None
    complete: bool
    calibration: Arrays
    recipe: str
    folder: Path | None

    @property
    def meets(self) -> bool:
        """True if the chosen model is within the limits, and agrees enough on the samples that chose nothing."""
        return self.figures is not None and self.verdict is not None and judged(self.goal, self.figures, self.verdict)

    @property
    def front(self) -> list[Trial]:
        """The Pareto front of bytes, multiply-adds and agreement."""
        return front(list(self.trials))

    def to_json(self) -> dict[str, Any]:
        """JSON object of the search."""
        return {
            "limits": dict(self.goal.limits),
            "keep": self.goal.keep,
            "latency": self.goal.latency,
            "measure": self.measure,
            "original": self.original.to_json(),
            "planned": [{"passes": passes, **each.to_json()} for passes, each in self.planned.items()],
            "chosen": None if self.chosen is None else self.chosen.to_json(),
            "figures": None if self.figures is None else self.figures.to_json(),
            "verdict": self.verdict,
            "meets": self.meets,
            "complete": self.complete,
            "front": [trial.passes for trial in self.front],
            "trials": [trial.to_json() for trial in self.trials],
        }

    def write(self, progress: Callable[[str], None] = silent, check: bool | None = None) -> dict[str, Any]:
        """Write the chosen model, `report.html`, `recipe.arch` and `calibration.npz`, and return the report.

        `archc compile recipe.arch --passes recipe --calib calibration.npz`, with the weights of the search, gives the
        same programs again.

        Raises:
            ValueError: there is no chosen model, or no folder.
            ArchcError: as for `Compiled.write`.
        """
        import numpy as np

        if self.compiled is None or self.folder is None:
            raise ValueError("there is nothing to write: no pipeline could be compiled, or `output` was not given")
        folder, calibration = self.folder, self.calibration

        def write_inputs(report: dict[str, Any]) -> None:
            with replaced(folder / "recipe.arch") as stream:
                stream.write(self.recipe.encode())
            with replaced(folder / "calibration.npz") as stream:
                np.savez(stream, allow_pickle=False, **calibration)

        # Before the programs take their places: an error here leaves earlier programs as they are.
        return self.compiled.write(folder, check=check, progress=progress, report="html", announce=write_inputs)
