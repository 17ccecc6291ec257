"""Text that `archc compile --measure` prints: the latency of the programs before and after the passes."""

from __future__ import annotations

from typing import Any

from archc.cli.output import Align, table
from archc.driver.figure_text import seconds_text


def text(latency: dict[str, Any]) -> str:
    """A table with the median and the quartiles of each program, from the entry `latency` of report.json."""
    from archc.driver.emitted_programs import title_of

    rows = [
        [title_of(name), _shown(each["before"]), _shown(each["after"]), _ratio(each), f"{each['after']['runs']:,}"]
        for name, each in latency["programs"].items()
    ]
    shapes = ", ".join(f"{name} {shape}" for name, shape in latency["inputs"].items())
    numbers = ("before", "after", "times as fast", "runs")
    columns: list[tuple[str, Align]] = [("latency", "left"), *((name, "right") for name in numbers)]
    return f"{table(columns, rows)}\nmedian and quartiles on one thread, for {shapes}"


def _shown(latency: dict[str, Any] | None) -> str:
    if latency is None:
        return "-"
    return f"{seconds_text(latency['seconds'])} ({seconds_text(latency['low'])} to {seconds_text(latency['high'])})"


def _ratio(program: dict[str, Any]) -> str:
    before, after = program["before"], program["after"]
    return "-" if before is None else f"{before['seconds'] / after['seconds']:.2f}"
