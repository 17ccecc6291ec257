"""One trial: a pipeline, and the figures and the agreement of the model that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.frozen_dataclass import frozen_dataclass
from archc.shrinking.goal import Figures


@frozen_dataclass
class Trial:
    """A pipeline and what it gave.

    Attributes:
        passes: the pipeline as text; empty for the original model.
        figures: size and cost; None if the pipeline failed or was stopped.
        agreement: agreement with the original model on the samples for the choice.
        seconds: duration.
        failure: message of the error; empty if there was none.
        stopped: the first passes, after which the agreement was already too small; empty if all passes ran.
    """

    passes: str
    figures: Figures | None
    agreement: float
    seconds: float
    failure: str = ""
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON object of the trial."""
        figures = None if self.figures is None else self.figures.to_json()
        return {
            "passes": self.passes,
            "figures": figures,
            "agreement": self.agreement,
            "seconds": round(self.seconds, 3),
            "failure": self.failure,
            "stopped": self.stopped,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Trial:
        """The trial of a JSON object that `to_json` made."""
        figures = None if given["figures"] is None else Figures.from_json(given["figures"])
        texts = given["failure"], given["stopped"]
        return cls(given["passes"], figures, given["agreement"], given["seconds"], *texts)


def front(trials: list[Trial]) -> list[Trial]:
    """The Pareto front: trials that no other one equals or exceeds in bytes, multiply-adds and agreement.

    In the order of decreasing bytes.
    """
    able = [trial for trial in trials if trial.figures is not None]
    points = {trial.passes: _point(trial) for trial in able}
    best = [
        trial for trial in able if not any(_dominates(points[other.passes], points[trial.passes]) for other in able)
    ]
    return sorted(best, key=lambda trial: points[trial.passes])


def _point(trial: Trial) -> tuple[float, float, float]:
    assert trial.figures is not None
    return -trial.figures.bytes, -trial.figures.macs, trial.agreement


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
