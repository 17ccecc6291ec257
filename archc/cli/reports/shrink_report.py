"""Text and figure of `archc shrink`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archc.cli import output
from archc.cli.figures import new_figure, save_figure
from archc.shrinking.goal import UNITS, Figures, Quantity
from archc.shrinking.shrunk import Shrunk
from archc.shrinking.trial import Trial

MOST_FAILURES = 4
"""Maximum number of failed pipelines that are listed."""


def text(found: Shrunk) -> str:
    """The Pareto front, the choice, and the verdict."""
    parts = [f"goal: {found.goal.text}"]
    if not found.trials:
        return "\n\n".join([*parts, "planned pipelines of the first round, with estimates\n" + _planned(found)])
    parts.append("Pareto front of bytes, multiply-adds and agreement\n" + _table(found, _listed(found)))
    parts += _stopped(found) + _failures(found)
    parts.append(_choice(found))
    return "\n\n".join(parts)


def plot(found: Shrunk, path: Path) -> None:
    """Plot agreement over bytes and over multiply-adds of all trials into a file (.svg, .png, .pdf).

    Raises:
        ArchcError: matplotlib is not installed (`plot-needs-matplotlib`), or the file cannot be written.
    """
    figure = new_figure(11, 5)
    front = {trial.passes for trial in found.front}
    scales: tuple[tuple[Quantity, str], ...] = (
        ("bytes", "bytes of a program (MB)"),
        ("macs", "millions of multiply-adds"),
    )
    for axes, (quantity, label) in zip(figure.subplots(1, 2, sharey=True), scales, strict=True):
        kinds = {
            "tried": ([each for each in found.trials if each.passes not in front], "."),
            "Pareto front": (found.front, "o"),
            "chosen": ([] if found.chosen is None else [found.chosen], "*"),
        }
        for name, (trials, mark) in kinds.items():
            points = [(each.figures.of(quantity) / 1e6, each.agreement) for each in trials if each.figures is not None]
            axes.plot([x for x, _ in points], [y for _, y in points], mark, label=name)
        axes.set(xlabel=label, ylabel=f"agreement ({found.measure})")
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def _listed(found: Shrunk) -> list[Trial]:
    """The Pareto front, and the chosen trial, which may be faster than a trial on the front."""
    chosen = [] if found.chosen is None or found.chosen in found.front else [found.chosen]
    return [*found.front, *chosen]


def _planned(found: Shrunk) -> str:
    rows = [[passes, *_cells(figures, found.original)] for passes, figures in found.planned.items()]
    return _columns(["passes", *UNITS.values()], rows)


def _table(found: Shrunk, trials: Sequence[Trial]) -> str:
    names = list(found.original.latency)
    heads = ["passes", *UNITS.values(), f"agreement ({found.measure})", *(f"latency, {name}" for name in names)]
    rows = []
    for trial in trials:
        assert trial.figures is not None, "trials of the front did not fail"
        shares = [_latency(trial.figures, name) for name in names]
        mark = "* " if trial is found.chosen else ""
        figures = _cells(trial.figures, found.original)
        rows.append([f"{mark}{trial.passes or 'none'}", *figures, f"{trial.agreement:.4f}", *shares])
    return _columns(heads, rows)


def _cells(figures: Figures, original: Figures) -> list[str]:
    pairs = ((figures.of(quantity), original.of(quantity)) for quantity in UNITS)
    return [f"{own:,} ({own / max(before, 1):.0%})" for own, before in pairs]


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(output.columns([list(heads), *map(list, rows)], indent=2))


def _latency(figures: Figures, name: str) -> str:
    """Share of the original model's latency, with two standard errors."""
    if name not in figures.latency:
        return ""
    return f"{figures.latency[name]:.2f}× ± {figures.spread.get(name, 0.0):.2f}"


def _stopped(found: Shrunk) -> list[str]:
    stopped = [trial for trial in found.trials if trial.stopped]
    if not stopped:
        return []
    rows = [[f"  {trial.passes}", f"{trial.agreement:.4f} after `{trial.stopped}`"] for trial in stopped]
    return ["\n".join(["stopped, since the agreement was too small already:", *output.columns(rows)])]


def _failures(found: Shrunk) -> list[str]:
    failed = [trial for trial in found.trials if trial.failure]
    if not failed:
        return []
    lines = [f"  {trial.passes}: {trial.failure}" for trial in failed[:MOST_FAILURES]]
    if len(failed) > MOST_FAILURES:
        lines.append(f"  and {len(failed) - MOST_FAILURES} more; trials.json has all")
    return ["\n".join(["pipelines that gave no model of their own:", *lines])]


def _choice(found: Shrunk) -> str:
    """The chosen pipeline, and its agreement on samples that chose nothing."""
    if found.chosen is None or found.figures is None or found.verdict is None:
        return "no pipeline could be compiled"
    lines = [] if found.complete else ["the time was over before all pipelines were tried; the same command continues"]
    figures = ", ".join(f"{found.figures.of(quantity):,} {unit}" for quantity, unit in UNITS.items())
    lines += [
        f"chosen: {found.chosen.passes or 'the model without passes: no pipeline is better'}",
        f"  {figures}",
        f"  agreement {found.verdict:.4f} on samples that chose nothing, {found.chosen.agreement:.4f} in the choice",
        *_latencies(found, found.figures),
    ]
    if found.meets:
        lines.append(f"written to {found.folder}")
    else:
        lines.append(f"no pipeline meets the goal; this one comes nearest: {_shortfall(found, found.verdict)}")
    return "\n".join(lines)


def _latencies(found: Shrunk, figures: Figures) -> list[str]:
    """The latency of the chosen model, and a remark if a limit is within its uncertainty."""
    if not figures.latency:
        return []
    shares = ", ".join(f"{_latency(figures, name)} for {name}" for name in figures.latency)
    lines, limit = [f"  latency as a share of the original model's: {shares}"], found.goal.latency
    name = max(figures.latency, key=lambda each: figures.latency[each])
    if limit is not None and abs(figures.latency[name] - limit) < figures.spread.get(name, 0.0):
        lines.append(f"  the limit of {limit:.1%} is within the uncertainty: repeat the command on a quiet machine")
    return lines


def _shortfall(found: Shrunk, verdict: float) -> str:
    assert found.figures is not None, "there is a chosen pipeline"
    figures, goal = found.figures, found.goal
    missing = [
        f"{figures.of(quantity):,} {UNITS[quantity]} of {limit:,}"
        for quantity, limit in goal.limits.items()
        if figures.of(quantity) > limit
    ]
    if goal.latency is not None and figures.slowest > goal.latency:
        missing.append(f"{figures.slowest:.1%} of the latency instead of {goal.latency:.1%}")
    if goal.keep is not None and verdict < goal.keep:
        missing.append(f"agreement {verdict:.4f} of {goal.keep:g}")
    return ", ".join(missing)
