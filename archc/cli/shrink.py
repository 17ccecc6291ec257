"""`archc shrink`: search for the pipeline that makes a model small and keeps its outputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from archc.cli import options, output
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics
from archc.shrinking.amounts import amount, seconds, share
from archc.shrinking.latency_limit import read_limit
from archc.targets.registry import find_target, target_names

Value = TypeVar("Value")

_EPILOG = """\
examples:
  archc shrink specs/minilm.arch --weights w.safetensors --rename r.names --calib calib.npz --under 15MB --keep 99%
  archc shrink net.arch --weights net.safetensors --calib calib.npz --macs 0.6 --measure top1 --emit onnx
  archc shrink net.arch --weights net.safetensors --calib calib.npz --keep 0.98 --time 10m -o small

The command tries pipelines of pruning, low rank and quantization, coarse ones first, and measures each: bytes of the
programs, multiply-adds, latency as a share of the original model's, and agreement with its outputs.  60 % of the
samples are calibration data for the passes, 20 % choose the pipeline, and 20 % give the verdict on the chosen one,
which is compiled again on the other 80 %: --keep holds for the samples that chose nothing.  A pipeline is stopped if
its first passes already agree less than the best one.  If no pipeline meets the goal, the command prints how near it
came, writes no program, and exits with status 1.

With --under, --macs, --params or --latency, the pipeline with the best agreement within these limits is chosen; with
--keep alone, the one with the fewest bytes.  The output folder gets the programs, report.html, recipe.arch,
calibration.npz, and trials.json.  `archc compile DIR/recipe.arch --passes recipe --calib DIR/calibration.npz`, with the
same weights, writes the same programs again.  The same command continues an interrupted search: it takes the trials of
trials.json.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "shrink",
        help="find the passes that make a model small and keep its outputs",
        description="Try pipelines of passes, measure size, latency and agreement, and write the best model.",
        epilog=_EPILOG,
    )
    options.add_file(parser)
    options.add_model(parser)
    goal = parser.add_argument_group("goal; at least one of")
    goal.add_argument(
        "--under",
        metavar="BYTES",
        type=_typed(partial(amount, measures="bytes")),
        help="largest number of bytes of a program with its weights, such as 15MB, or a share, such as 0.25",
    )
    goal.add_argument(
        "--macs",
        metavar="N",
        type=_typed(amount),
        help="largest number of multiply-adds, or a share, such as 0.6 or 60%%",
    )
    goal.add_argument(
        "--params", metavar="N", type=_typed(amount), help="largest number of parameters, or a share, such as 0.5"
    )
    goal.add_argument(
        "--latency",
        metavar="T",
        type=_checked(read_limit),
        help="longest time of a run on one thread, for each emitted target that can be measured: a duration such as "
        "5ms, or a share of the original model's, such as 50%%; the programs run in turns",
    )
    goal.add_argument(
        "--keep", metavar="SHARE", type=_typed(share), help="least agreement with the original model, such as 99%%"
    )
    parser.add_argument(
        "--measure",
        metavar="NAME",
        default="cosine",
        help="agreement: `cosine` of the outputs (the default), `top1` for the share of equal predictions, or "
        "`package.module:function` of the outputs, the expected outputs and the inputs",
    )
    parser.add_argument(
        "--time", metavar="T", type=_typed(seconds), help="begin no trial after this time, such as 90s, 10m or 1h"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the first pipelines and estimates, and try none")
    parser.add_argument(
        "--no-latency",
        dest="timed",
        action="store_false",
        help="measure no latency; by default, each program is measured in turns with the original model",
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the trials into a file: .svg, .png or .pdf")
    parser.add_argument(
        "--emit",
        metavar="TARGETS",
        type=options.words,
        help="targets to write, whose bytes count (default: all)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="out", help="output folder, created if necessary (default: out)"
    )
    options.add_sizes(parser)
    options.add_weights(parser)
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the trials and the choice")
    kept = "trials.json has the finished trials, and the same command continues"
    parser.set_defaults(run=run, when_interrupted=kept)


def _typed(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """A reader of values for argparse, which shows the message of its error."""

    def typed(text: str) -> Value:
        try:
            return read(text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return typed


def _checked(read: Callable[[str], object]) -> Callable[[str], str]:
    """Like `_typed`, but the value stays a text."""
    typed = _typed(read)

    def checked(text: str) -> str:
        typed(text)
        return text

    return checked


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.cli.reports import shrink_report
    from archc.driver.parsing import parse_settings
    from archc.shrinking.entry_point import shrink

    if all(getattr(arguments, name) is None for name in ("under", "macs", "params", "latency", "keep")):
        raise options.UsageError("give a goal: `--under`, `--macs`, `--params`, `--latency` or `--keep`")
    if arguments.latency is not None and not arguments.timed:
        raise options.UsageError(
            "`--no-latency` measures nothing, so `--latency` cannot be a limit; remove one of them"
        )
    if arguments.calib is None:
        raise options.UsageError("give data with `--calib FILE.npz`: they choose the pipeline, and judge it")
    found = Diagnostics()
    load_plugins(arguments.load, found)
    for name in arguments.emit or ():
        if find_target(name) is None:
            raise options.no_choice("--emit", name, target_names())
    with output.progress() as progress:
        result = shrink(
            options.text_of(arguments.file),
            calib=arguments.calib,
            under=arguments.under,
            macs=arguments.macs,
            params=arguments.params,
            latency=arguments.latency,
            keep=arguments.keep,
            measure=arguments.measure,
            time=arguments.time,
            output=arguments.output,
            timed=arguments.timed,
            dry_run=arguments.dry_run,
            strict=arguments.strict,
            emit=arguments.emit,
            seed=arguments.seed,
            set=parse_settings(arguments.set),
            diagnostics=found,
            progress=progress,
            model=arguments.model,
            weights=arguments.weights,
            rename=arguments.rename,
            sizes=arguments.sizes,
            allow_pickle=arguments.allow_pickle,
            allow_absolute_imports=arguments.allow_absolute_imports,
        )
        options.hold_to_strict(arguments, found)
        if result.meets:
            result.write(progress)
    if arguments.json:
        output.print_json({**result.to_json(), "warnings": [each.to_json() for each in found.warnings]})
    else:
        output.diagnostics(found)
        print(shrink_report.text(result))
    if arguments.plot is not None and not arguments.dry_run:
        shrink_report.plot(result, arguments.plot)
    return 0 if result.meets or arguments.dry_run else 1
