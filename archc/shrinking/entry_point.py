"""`archc.shrink`: find the pipeline that makes a model small and keeps its outputs."""

from __future__ import annotations

import math
import os
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.compiler import compile
from archc.diagnostics import Diagnostics, Source, error, silent
from archc.driver.arguments import check_types, targets_of
from archc.driver.compiled import Compiled
from archc.driver.output_folder import OutputFolder
from archc.driver.parsing import open_source
from archc.driver.pipeline_runs import PipelineRuns
from archc.shrinking.agreement import measure_of
from archc.shrinking.amounts import amount, seconds, share
from archc.shrinking.candidates import CandidatePlan, Model
from archc.shrinking.goal import Figures, Goal, Quantity, limit_of
from archc.shrinking.latency_limit import latency_limit, read_limit
from archc.shrinking.prunable import prunable_weights
from archc.shrinking.record import Record, key_of
from archc.shrinking.samples import divide
from archc.shrinking.search import Search
from archc.shrinking.shrunk import FILES, RECIPE, Shrunk
from archc.types.attributes import value_text

if TYPE_CHECKING:
    from archc.shrinking.samples import Arrays


def shrink(
    text: str | Path | Source,
    *,
    calib: str | Path | Mapping[str, Any],
    under: float | str | None = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    latency: float | str | None = None,
    keep: float | str | None = None,
    measure: str = "cosine",
    time: float | str | None = None,
    output: str | Path | None = None,
    timed: bool = True,
    dry_run: bool = False,
    strict: bool = False,
    emit: str | Sequence[str] | None = None,
    seed: int = 0,
    set: Mapping[str, Any] | None = None,
    diagnostics: Diagnostics | None = None,
    progress: Callable[[str], None] = silent,
    **options: Any,
) -> Shrunk:
    """Search for the pipeline that makes a model small and keeps its outputs.

    The data are divided: 60 % of the samples are calibration data of the passes, 20 % choose among pipelines, and
    20 % give the verdict on the chosen one.  The candidates divide what must remain between channel pruning and low
    rank, and end in floats, int8 or a mixture of bits.  The chosen one is compiled again, on the first two parts of the
    data.

    Args:
        calib: an .npz file, or arrays by input name, with samples along the first axis.
        under: largest number of bytes of an emitted program, such as "15MB", or a share of the bytes.
        macs, params: largest number of multiply-adds and of parameters: a share up to 1, or a number.
        latency: longest time of a run of each emitted program that can be measured: a share up to 1 of the original
            model's time, or a duration such as "5ms".
        keep: least agreement with the original model, such as 0.99 or "99%".
        measure: "cosine" of the outputs, "top1" for the share of equal predictions, or "package.module:function" for
            a function of the outputs, the expected outputs and the inputs.
        time: seconds, or a text such as "10m", after which no trial begins.
        output: folder for the record of trials and for `Shrunk.write`; a later search with the same arguments
            continues the record.
        timed: False to measure no latency; `latency` then has no effect.
        dry_run: True to plan the first candidates, and to try none.
        strict: True to raise warnings as errors: those on the model and the data before the search.
        options: further options of `archc.compile`, such as `weights`, `rename`, `model` and `sizes`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an amount cannot be read, or there is no goal.
        ArchcError: the text, the weights, the data or the options have errors.
    """
    check_types(text=text, calib=calib, seed=seed, set=set, diagnostics=diagnostics, progress=progress, emit=emit)
    if all(each is None for each in (under, macs, params, keep, latency)):
        raise ValueError("give a goal: `under`, `macs`, `params`, `latency` or `keep`")
    for name in ("passes", "baseline"):
        if name in options:
            raise TypeError(f"`archc.shrink` takes no `{name}`: the search chooses the passes")
    given: dict[Quantity, float | str | None] = {"bytes": under, "macs": macs, "params": params}
    amounts = {quantity: _number(each, quantity) for quantity, each in given.items() if each is not None}
    least = None if keep is None else share(str(keep))
    if latency is not None:
        read_limit(latency)
    limit = None if time is None else clock.monotonic() + (seconds(time) if isinstance(time, str) else time)
    found = diagnostics if diagnostics is not None else Diagnostics()
    emitted = targets_of(emit, with_weights=True)
    targets = [target.name for target in emitted]
    shared = {**options, "emit": targets, "seed": seed}
    chosen_measure = measure_of(measure)
    original = compile(text, calib=calib, set=set, diagnostics=found, progress=progress, **shared)
    if strict:
        found.refuse_warnings()
    original = replace(original, source_name=FILES[0])  # the text that the chosen program names
    assert original.data is not None, "the data are given"
    folder = None if output is None else Path(output)
    if folder is not None and not dry_run:
        _refuse_folder(folder, original, [f"{original.name}{target.suffix}" for target in emitted])
    samples = divide(original.data.arrays, seed)
    base = compile(text, calib=samples.calibration, set=set, **shared)
    runs = PipelineRuns(replace(base, source_name=FILES[0]), emitted)
    before = [] if not _changes(runs, "fold") else ["fold"]
    key = key_of(original.graph, original.data.arrays, [measure, targets, seed, timed, before, original.form])
    search = Search(runs, original, samples, chosen_measure, targets, Record(folder, key), timed, progress)
    figures = search.figures(original)
    goal = Goal(
        {quantity: limit_of(number, figures.of(quantity)) for quantity, number in amounts.items()},
        least,
        None if latency is None else latency_limit(latency, search.latencies(original)),
    )
    search.expect_reachable(goal)
    plan = CandidatePlan(goal, Model(figures, prunable_weights(original.graph), before))
    planned = {passes: plan.predicted(passes) for passes in plan.first()}
    complete = not dry_run and search.run(goal, plan, list(planned), limit)
    chosen = None if dry_run else search.chosen(goal)
    final = None
    if chosen is not None:
        recipe = _recipe(text, folder, original.name, set, chosen.passes)
        final = _final(search, goal, recipe, {**shared, "diagnostics": found}, bool(chosen.passes))
    return Shrunk(
        goal=goal,
        measure=measure,
        original=figures,
        planned=planned,
        trials=search.trials,
        chosen=chosen,
        compiled=None if final is None else final.compiled,
        figures=None if final is None else final.figures,
        verdict=None if final is None else search.verdict(final.compiled),
        complete=complete,
        calibration=samples.calibration if final is None else final.calibration,
        recipe="" if final is None else final.recipe.text,
        folder=folder,
    )


@dataclass(frozen=True)
class _Final:
    """The chosen model.

    Attributes:
        calibration: the samples of its passes.
    """

    compiled: Compiled
    figures: Figures
    recipe: Source
    calibration: Arrays


def _final(search: Search, goal: Goal, recipe: Source, options: Mapping[str, Any], passes: bool) -> _Final:
    """Compile the recipe of the chosen pipeline on all samples but those of the verdict.

    If the model is then above a limit, since for example another operand is smoothed, the samples for calibration
    remain, with which the pipeline was within the limits.
    """
    search.progress("compile the chosen pipeline on the samples for calibration and for the choice")
    for calibration in (search.samples.seen, search.samples.calibration):
        compiled = compile(recipe, passes=RECIPE if passes else "", calib=calibration, baseline=True, **options)
        final = _Final(compiled, search.figures(compiled), recipe, calibration)
        if goal.within(final.figures):
            break
    return final


def _changes(runs: PipelineRuns, passes: str) -> bool:
    """Return whether passes change the model."""
    return any(step.changed for compiled, _ in runs.steps(passes) for step in compiled.passes)


def _refuse_folder(folder: Path, original: Compiled, programs: Sequence[str]) -> None:
    """Refuse, before the search, an output folder that cannot be written.

    Raises:
        ArchcError: a file would replace an input (`output-replaces-input`), or the folder is not writable.
    """
    with OutputFolder(folder):
        pass
    inputs = {file.resolve() for file in original.files}
    for name in (*programs, *FILES):
        if (folder / name).resolve() in inputs:
            raise error(
                "output-replaces-input",
                f"`{folder / name}` is an input of the search, and the output would take its place",
                help="write to another folder: `-o build`",
            )


def _number(given: float | str, quantity: Quantity) -> float:
    number = amount(given, "bytes" if quantity == "bytes" else "a number") if isinstance(given, str) else given
    if not 0 < number < math.inf:
        raise ValueError(f"the limit on {quantity} must be above 0, got {given}")
    return number


def _recipe(
    text: str | Path | Source, folder: Path | None, model: str, set: Mapping[str, Any] | None, passes: str
) -> Source:
    """The text of `recipe.arch`: a file of a model is imported, and a text is repeated."""
    pipeline = f"# Chosen by `archc shrink`.\npipeline {RECIPE} = {passes}\n" if passes else ""
    source = open_source(text)
    if source.path is None or folder is None:
        return Source(f"{source.text.rstrip()}\n\n{pipeline}", "recipe.arch", source.path)
    path = Path(os.path.relpath(source.path.absolute(), folder.absolute())).as_posix()
    settings = ", ".join(f"{name} = {value_text(value)}" for name, value in (set or {}).items())
    derived = f"model {model} = source.{model}" + (f"({settings})" if settings else "")
    return Source(f'import "{path}" as source\n\n{derived}\n\n{pipeline}', "recipe.arch", folder / "recipe.arch")
