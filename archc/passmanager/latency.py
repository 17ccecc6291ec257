"""Measured latency of emitted programs, which passes ask for through `Context.measure`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median, quantiles

from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph


@frozen_dataclass
class Latency:
    """Wall-clock time of one run of a program, on one thread.

    Attributes:
        seconds: the median of all runs.
        low, high: the lower and the upper quartile of all runs, in seconds.
        runs: number of runs.
    """

    seconds: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, times: Sequence[float]) -> Latency:
        """Summary of the times of at least two runs, in seconds."""
        low, _, high = quantiles(times, n=4, method="inclusive")
        return cls(median(times), low, high, len(times))

    def to_json(self) -> dict[str, float | int]:
        """Return the fields as an object of `report.json`."""
        return {"seconds": self.seconds, "low": self.low, "high": self.high, "runs": self.runs}


Measure = Callable[[Sequence[Graph], str], list[Latency]]
"""Function that measures graphs as programs of a target, given its name, with interleaved runs."""


def cannot_measure(graphs: Sequence[Graph], target: str) -> list[Latency]:
    """Refuse to measure: the value of `TargetFacts.latencies` if nothing supplies the runtimes.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("this context cannot measure: compile with `archc.compile`, or give `targets` to `run_passes`")
