"""Pipelines of passes: parse their text, from the command line or an `.arch` file, into passes."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import dropwhile
from typing import Any

from archc.diagnostics import ArchcError, Diagnostics, Source, Span, error
from archc.language.elaboration.modules import Module
from archc.language.syntax import tree
from archc.language.syntax.literals import UNITS, quantity, value_of
from archc.language.syntax.parser import parse_pipeline
from archc.language.syntax.syntax_hints import UNIT
from archc.passmanager import Pass, make_pass, pass_names
from archc.passmanager.order import check_order
from archc.passmanager.registry import pass_help
from archc.types.attributes import AttributeProblem

_QUANTITY = re.compile(r"(?P<number>[0-9]{1,18}(\.[0-9]{1,18})?)(?P<unit>[A-Za-z/]+)")
DEEPEST_PIPELINES = 64  # maximum nesting of pipelines that use pipelines
_FORM = 'passes are joined by commas, and options go in parentheses: `fold, prune(0.5), quant(scheme = "weight")`'
MOST_PASSES = 1000  # maximum number of passes in one pipeline, including those of the pipelines that it uses


def parse_passes(text: str, module: Module | None = None) -> list[Pass]:
    """Parse a pipeline such as `lowrank(energy=0.95), quant(int8)`, or the name of a pipeline in `module`.

    Raises:
        ArchcError: the text is not a pipeline, names an unknown pass or option, or has passes in a wrong order.
    """
    source = Source(text, "--passes")
    diagnostics = Diagnostics()
    stages = _stages(source, diagnostics) if text.strip() else ()
    diagnostics.check()
    placed = _passes(stages, module, diagnostics, open_pipelines=())
    passes, spans = [step for step, _ in placed], [span for _, span in placed]
    check_order(passes, spans)
    return passes


def _stages(source: Source, diagnostics: Diagnostics) -> tuple[tree.ChainStep, ...]:
    """Parse the text of a pipeline; the help of a syntax error shows an example."""
    found = Diagnostics()
    stages = parse_pipeline(source, found)
    for one in found:
        is_form = one.code in ("syntax-error", "invalid-character", "foreign-comment", "reserved-word")
        is_unit = one.help is not None and one.help.startswith(UNIT)
        diagnostics.add(replace(one, help=_FORM) if is_form and not is_unit else one)
    return stages


def check_pipelines(module: Module, diagnostics: Diagnostics) -> None:
    """Report errors in a file's pipelines: unknown passes, wrong options, passes in a wrong order.

    Passes are imported only if a pipeline names them.
    """
    if not module.pipelines:
        return
    names = [*pass_names(), *module.pipelines]
    known = set(names)
    order, recursive = _nesting(module)
    rows: dict[str, list[tuple[Pass, Span]]] = {}  # the passes of each pipeline, with those of nested pipelines
    depths: dict[str, int] = {}
    wrong: set[str] = set()
    for pipeline in order:
        row: list[tuple[Pass, Span]] = []
        depths[pipeline] = 1
        for stage in module.pipelines[pipeline].passes:
            name = _name(stage)
            if name not in known:
                message, way = f"there is no pass `{name}`", pass_help(name, names)
                diagnostics.error("unknown-pass", message, stage.callee.span, help=way)
            elif _is_pipeline(module, stage):
                row += rows.get(name, [])  # a pipeline of a cycle may have no row yet
                if name in wrong:
                    wrong.add(pipeline)
                depths[pipeline] = max(depths[pipeline], 1 + depths.get(name, 0))
                if depths[pipeline] == DEEPEST_PIPELINES + 1:
                    diagnostics.error(*_too_deep(), stage.span)
            elif (made := _loaded_pass(stage, diagnostics)) is not None:
                row.append((made, stage.span))
            if len(row) > MOST_PASSES:
                if pipeline not in wrong:
                    diagnostics.extend(_too_many(stage.span).diagnostics)
                wrong.add(pipeline)
                break
        rows[pipeline] = row[:MOST_PASSES]
        # The error of a nested pipeline is reported once.
        if pipeline not in wrong and not _is_ordered(row, diagnostics):
            wrong.add(pipeline)
    for name in recursive:
        diagnostics.error(*_recursive(name), module.pipelines[name].name.span)


def _is_pipeline(module: Module, stage: tree.ChainStep) -> bool:
    return _name(stage) in module.pipelines and not stage.arguments


def _loaded_pass(stage: tree.ChainStep, diagnostics: Diagnostics) -> Pass | None:
    """The pass of one step; None, with a diagnostic, if it cannot be loaded or its options are wrong."""
    try:
        return _pass(stage, diagnostics, ())
    except ArchcError as failure:
        diagnostics.extend(failure.diagnostics)
        return None


def _is_ordered(placed: Sequence[tuple[Pass, Span]], diagnostics: Diagnostics) -> bool:
    """Return whether passes are in a right order; report an error otherwise."""
    try:
        check_order([step for step, _ in placed], [span for _, span in placed])
    except ArchcError as failure:
        diagnostics.extend(failure.diagnostics)
        return False
    return True


def _nesting(module: Module) -> tuple[list[str], list[str]]:
    """Return two lists: the pipelines in topological order, and the first pipeline of each cycle.

    In the first list, a pipeline comes after the pipelines that it uses.  In a cycle, pipelines use one another; the
    second list has the pipeline of the cycle that is first in the file.
    """
    places = {name: number for number, name in enumerate(module.pipelines)}
    done: dict[str, None] = {}
    told: set[str] = set()
    found: list[str] = []
    for start in module.pipelines:
        if start in done:
            continue
        path, waiting = {start: None}, [_used(module, start)]
        while path:
            inner = next((name for name in waiting[-1] if name not in done), None)
            if inner is None:
                done[path.popitem()[0]] = None
                waiting.pop()
            elif inner not in path:
                path[inner] = None
                waiting.append(_used(module, inner))
            elif inner not in told:
                cycle = list(dropwhile(partial(operator.ne, inner), path))
                told.update(cycle)
                found.append(min(cycle, key=places.__getitem__))
    return list(done), found


def _used(module: Module, name: str) -> Iterator[str]:
    """Names of the pipelines that a pipeline uses."""
    return (_name(stage) for stage in module.pipelines[name].passes if _is_pipeline(module, stage))


def _too_many(span: Span) -> ArchcError:
    return error("too-many-passes", f"the pipeline has more than {MOST_PASSES} passes", span)


def _recursive(name: str) -> tuple[str, str]:
    return "recursive-pipeline", f"the pipeline `{name}` uses itself"


def _too_deep() -> tuple[str, str]:
    return "nesting-too-deep", f"pipelines are nested more than {DEEPEST_PIPELINES} deep"


def _passes(
    stages: Sequence[tree.ChainStep], module: Module | None, diagnostics: Diagnostics, open_pipelines: tuple[str, ...]
) -> list[tuple[Pass, Span]]:
    """Passes of a pipeline, including those of the pipelines that it uses, each with its span."""
    passes: list[tuple[Pass, Span]] = []
    pipelines = sorted(module.pipelines) if module is not None else []
    for stage in stages:
        name = _name(stage)
        pipeline = module.pipelines.get(name) if module is not None else None
        if pipeline is not None and not stage.arguments:
            if name in open_pipelines:
                raise error(*_recursive(name), stage.span)
            if len(open_pipelines) >= DEEPEST_PIPELINES:
                raise error(*_too_deep(), stage.span)
            passes += _passes(pipeline.passes, module, diagnostics, (*open_pipelines, name))
            if diagnostics.errors:
                break  # the errors of a pipeline with several uses are reported once
        elif (made := _pass(stage, diagnostics, pipelines)) is not None:
            passes.append((made, stage.span))
        if len(passes) > MOST_PASSES:
            raise _too_many(stage.span)
    if not open_pipelines:
        diagnostics.check()
    return passes


def _pass(stage: tree.ChainStep, diagnostics: Diagnostics, pipelines: Sequence[str]) -> Pass | None:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    spans: dict[str | int, Span] = {}
    try:
        for argument in stage.arguments:
            spans[argument.name if argument.name is not None else len(positional)] = argument.span
            value = value_of(argument.value, argument.name if argument.name is not None else len(positional))
            if argument.name is None:
                positional.append(value)
            else:
                named[argument.name] = value
        return make_pass(_name(stage), positional, named)
    except AttributeProblem as problem:
        span = spans.get(problem.argument, stage.span) if problem.argument is not None else stage.callee.span
        help_ = problem.help or _unquoted(stage, positional, named, problem.argument)
        notes = [f"the file has the pipelines {', '.join(pipelines)}"] if pipelines else []
        diagnostics.error(problem.code, problem.message, span, notes if problem.code == "unknown-pass" else (), help_)
        return None


def _unquoted(
    stage: tree.ChainStep, positional: list[Any], named: dict[str, Any], argument: str | int | None
) -> str | None:
    """Help for a quantity in quotes (`memory = "2GB"`); None if the pass also rejects it without quotes."""
    value = positional[argument] if isinstance(argument, int) else named.get(argument or "")
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or found["unit"] not in UNITS:
        return None
    digits = found["number"]
    number = float(digits) if "." in digits else int(digits)
    given = [quantity(tree.Number(span=stage.span, value=number, unit=found["unit"]))]
    try:
        if isinstance(argument, int):
            make_pass(_name(stage), [*positional[:argument], *given, *positional[argument + 1 :]], named)
        else:
            make_pass(_name(stage), positional, {**named, str(argument): given[0]})
    except AttributeProblem:
        return None
    return f"remove the quotes: `{digits}{found['unit']}`"


def _name(stage: tree.ChainStep) -> str:
    return stage.callee.name if isinstance(stage.callee, tree.Name) else stage.callee.span.text
