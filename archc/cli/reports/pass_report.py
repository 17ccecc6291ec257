"""Reports of passes for `compile` and `show`: a table, and with `--explain` each remark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archc.cli.output import Align, heading, table
from archc.driver.figure_text import error_text

if TYPE_CHECKING:
    from archc.analysis.cost import Cost
    from archc.passmanager import Remark
    from archc.passmanager.report import PassReport

_FIGURES = ("nodes", "parameters", "bytes", "multiply_adds")


def pass_table(steps: Sequence[PassReport]) -> str:
    """A table with the costs before and after each pass, and the relative error at the outputs.

    With several passes, a last row shows the combined effect of all passes.
    """
    names = [*(name.replace("_", "-") for name in _FIGURES), "error"]
    columns: list[tuple[str, Align]] = [("pass", "left"), *((name, "right") for name in names)]
    rows = [[step.text, *_changes(step.before, step.after), error_text(step.error)] for step in steps]
    total = [["all", *_changes(steps[0].before, steps[-1].after), error_text(steps[-1].total_error)]]
    return table(columns, rows, total if len(steps) > 1 else ())


def _changes(before: Cost, after: Cost) -> list[str]:
    pairs = ((getattr(before, name), getattr(after, name)) for name in _FIGURES)
    return [f"{old:,}" if old == new else f"{old:,} → {new:,}" for old, new in pairs]


def explanation(steps: Sequence[PassReport]) -> str:
    """The remarks of all passes, with their figures."""
    paragraphs = []
    for step in steps:
        lines = [heading(f"{step.text}  ({step.preserves})")]
        width = max((len(remark.layer) for remark in step.remarks), default=0)
        lines += [f"  {line}" for remark in step.remarks for line in _remark(remark, width)]
        if step.changed and not any(remark.kind == "rewrote" for remark in step.remarks):
            lines.append(f"  changed the graph without a remark: {_nodes(step)}")
        elif not step.remarks:
            lines.append("  nothing to do")
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def _nodes(step: PassReport) -> str:
    """The number of nodes before and after a pass."""
    before, after = step.before.nodes, step.after.nodes
    return f"{before:,} → {after:,} nodes" if before != after else f"{after:,} nodes before and after"


def _remark(remark: Remark, width: int) -> list[str]:
    """The lines of a remark: its message, then its figures on a separate line."""
    lines = [f"{remark.kind:<8}{remark.layer:<{width}}  {remark.message}"]
    if remark.figures:
        figures = (f"{name.replace('_', ' ')} {_figure(value)}" for name, value in remark.figures.items())
        lines.append(f"{'':<{width + 10}}{', '.join(figures)}")
    return lines


def _figure(value: float | int | str) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:.4g}"
