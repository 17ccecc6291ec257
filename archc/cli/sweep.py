"""`archc show --sweep depth=2..48`: costs of a model over the values of one attribute."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from archc.cli import output
from archc.cli.figures import new_figure, save_figure
from archc.diagnostics import ArchcError, Diagnostics, Note, Source
from archc.frozen_dataclass import frozen_dataclass

MOST_POINTS = 64  # largest number of values of a range without a step
_BAR = 24  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FIGURES = {"parameters": "parameters", "multiply_adds": "multiply-adds", "activation_bytes": "activation bytes"}


@frozen_dataclass
class Sweep:
    """An attribute, and the values that the sweep gives it."""

    attribute: str
    values: tuple[int | float, ...]


@frozen_dataclass
class Point:
    """Costs of the model at one value."""

    value: int | float
    parameters: int
    multiply_adds: int
    activation_bytes: int


def sweep(text: str) -> Sweep:
    """The sweep of `depth=2..48`, `width=64..1024..64` or `heads=1,2,4,8`.

    Both ends of a range are included.  A range without a step has the smallest step that gives at most `MOST_POINTS`
    values.
    """
    name, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"`{text}` is not a sweep such as depth=2..48 or width=64,128,256")
    try:
        if ".." not in given:
            return Sweep(name, tuple(_number(part) for part in given.split(",")))
        first, last, *step = (int(part) for part in given.split(".."))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"`{given}` is neither a range such as 2..48 or 64..1024..64, nor numbers such as 64,128,256"
        ) from None
    if last < first or len(step) > 1 or (step and step[0] < 1):
        raise argparse.ArgumentTypeError(f"`{given}` is not an increasing range such as 2..48 or 64..1024..64")
    stride = step[0] if step else max(1, -(-(last - first + 1) // MOST_POINTS))
    return Sweep(name, tuple(range(first, last + 1, stride)))


def _number(text: str) -> int | float:
    return int(text) if text.strip().lstrip("-").isdigit() else float(text)


def points(
    file: Path | Source,
    model: str | None,
    values: Mapping[str, Any],
    sizes: Mapping[str, int],
    over: Sweep,
    diagnostics: Diagnostics,
    allow_absolute_imports: bool = False,
    progress: Callable[[str], None] = lambda task: None,
) -> list[Point]:
    """The costs of a model at each value; no weights are allocated.

    Raises:
        ArchcError: the model has errors; for errors at one value of the sweep, a note names the value.
    """
    from archc.analysis.cost import NodeCosts, cost
    from archc.driver.parsing import build, open_module
    from archc.passmanager.sizes import choose_sizes, warn_of_assumed

    module = open_module(file, diagnostics, allow_absolute_imports)
    found = []
    for value in over.values:
        progress(f"{over.attribute} = {value}")
        try:
            graph = build(module, model, {**values, over.attribute: value}, Diagnostics())
        except ArchcError as failure:
            notes = (Note(f"with {over.attribute} = {value}"),)
            raise ArchcError([replace(each, notes=(*each.notes, *notes)) for each in failure.diagnostics]) from None
        chosen = choose_sizes(graph, sizes)
        warn_of_assumed(chosen, diagnostics)
        figures = cost(graph, chosen.values)
        costs = NodeCosts(graph, chosen.values)
        activations = sum(costs.activations(node) for node in graph.nodes())
        found.append(Point(value, figures.parameters, figures.multiply_adds, activations))
    return found


def to_json(over: Sweep, found: Sequence[Point]) -> dict[str, Any]:
    """The object of `archc show --sweep --json`."""
    return {"attribute": over.attribute, "points": [asdict(point) for point in found]}


def text(over: Sweep, found: Sequence[Point]) -> str:
    """A table of costs, each with a bar that is proportional to it."""
    columns: list[tuple[str, output.Align]] = [(over.attribute, "right")]
    for title in _FIGURES.values():
        columns += [(title, "right"), ("", "left")]
    largest = {name: max(getattr(point, name) for point in found) or 1 for name in _FIGURES}
    rows = []
    for point in found:
        row = [str(point.value)]
        for name in _FIGURES:
            figure = getattr(point, name)
            row += [f"{figure:,}", bar(figure / largest[name])]
        rows.append(row)
    return output.table(columns, rows)


def bar(share: float) -> str:
    """A bar for a share from 0 to 1, rounded to an eighth of a character."""
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def plot(over: Sweep, found: Sequence[Point], path: Path, title: str) -> None:
    """Plot the costs into a file; its suffix gives the format (.svg, .png, .pdf).

    Raises:
        ArchcError: matplotlib is not installed (`plot-needs-matplotlib`), or the file cannot be written.
    """
    figure = new_figure(10, 3.2)
    for axes, (name, label) in zip(figure.subplots(1, len(_FIGURES)), _FIGURES.items(), strict=True):
        axes.plot([point.value for point in found], [getattr(point, name) for point in found], marker=".")
        axes.set(xlabel=over.attribute, title=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    save_figure(figure, path)
