"""`archc compile`: write a model as executable programs."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from archc.cli import options, output
from archc.cli.plugins import load_plugins
from archc.cli.reports import check_report, latency_text, pass_report
from archc.codegen.python_source import Activations
from archc.codegen.target import OnnxOperators
from archc.diagnostics import Diagnostics, error
from archc.driver.arguments import REPORTS
from archc.ir.given_sizes import settings_text
from archc.targets.registry import BUILT_IN, default_targets, find_target, names_of, target_names

if TYPE_CHECKING:
    from archc.driver.compiled import Compiled

_EPILOG = """\
examples:
  archc compile specs/cnn.arch
  archc compile specs/cnn.arch --set classes=100 --emit torch -o build
  archc compile specs/cnn.arch --weights cnn.safetensors --calib digits.npz \\
      --passes "lowrank(energy=0.95, on='fc*'), quant(int8, keep='fc2')" --explain
  archc compile specs/cnn.arch --passes edge  the pipeline `edge` of the file

The command writes <model>.py, <model>.onnx, <model>.arch, <model>.safetensors (the weights of all three) and
report.json: all of them, or none if there is an error.  Equal inputs give equal bytes, except for the latency of
`--measure`.  With `--report html`, the command also writes report.html: one file with the charts inside.
With `--emit onnx`, the ONNX model contains the weights, and the command writes no <model>.safetensors.  Weights of
100 MB or more are then in <model>.onnx.data.
The PyTorch module and the ONNX model run once on random inputs, in a separate process, and are compared with the
graph; `--no-check` skips the comparison, and `--check` runs it for expensive models, too.
For a model in stages (`partition`), the command also writes a module, weights and an ONNX model for each stage, and
<model>_pipeline.py, which runs them.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "compile",
        help="compile a model to PyTorch and ONNX, with passes",
        description="Check a model, run passes over it, and write a PyTorch module, an ONNX model and .arch text.",
        epilog=_EPILOG,
    )
    options.add_file(parser)
    options.add_model(parser)
    options.add_compilation(parser)
    parser.add_argument(
        "--emit",
        metavar="TARGETS",
        type=options.words,
        help=f"targets to write (default: {names_of(BUILT_IN)}; without weights "
        f"{names_of(default_targets(with_weights=False))}); `--load` and installed packages add targets",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="out", help="output folder, created if necessary (default: out)"
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run the written programs on random inputs, and fail unless they agree with the graph; "
        "default: --check if a run takes at most 20 billion multiply-adds and 1 GB of memory",
    )
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="write int8 and packed layers into the PyTorch module, not into files beside it",
    )
    parser.add_argument(
        "--activations",
        choices=get_args(Activations),
        default="functions",
        help="activations in the PyTorch module: functions (F.relu, the default) or modules (an nn.ReLU for each use), "
        "which guided backpropagation and DeepLift need",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the latency of the written programs on one thread and one sample, in turns with the programs "
        "before the passes",
    )
    parser.add_argument(
        "--onnx",
        choices=get_args(OnnxOperators),
        default="microsoft",
        help="operators of the ONNX model: also those of ONNX Runtime's domain com.microsoft (microsoft, the default), "
        "which can be faster, or only those of the ONNX standard (standard)",
    )
    parser.add_argument(
        "--report",
        choices=REPORTS,
        default="json",
        help="html: also write report.html, with tables and charts of what the passes did to each layer, in one file",
    )
    parser.add_argument("--explain", action="store_true", help="print the remarks of every pass on every layer")
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    found = Diagnostics()
    load_plugins(arguments.load, found)
    for name in arguments.emit or ():
        if find_target(name) is None:
            raise options.no_choice("--emit", name, target_names())
    folder = arguments.output
    with ExitStack() as watched:
        progress = watched.enter_context(output.progress())
        _warn_of_options(arguments, found)
        compiled = options.compiled(
            arguments, found, progress, baseline=arguments.measure or arguments.report == "html"
        )
        if arguments.explain:
            _refer_to_remarks(found)
        if arguments.strict and found.warnings and arguments.explain and not arguments.json and compiled.passes:
            watched.close()
            print(pass_report.explanation(compiled.passes), end="\n\n")  # warnings refer to these remarks
        options.hold_to_strict(arguments, found)

        def announce(report: dict[str, Any]) -> None:
            options.hold_to_strict(arguments, found)
            watched.close()  # nothing is printed while the progress is shown
            _print(arguments, compiled, report, found)

        compiled.write(
            folder,
            check=arguments.check,
            progress=progress,
            announce=announce,
            measure=arguments.measure,
            report=arguments.report,
        )
    return 0


def _warn_of_options(arguments: argparse.Namespace, found: Diagnostics) -> None:
    """Warn of options that need another option, or that another option overrides."""
    options.warn_without("passes", arguments, found, ("explain",))
    options.warn_without("weights", arguments, found, ("allow-pickle",))
    if arguments.explain and arguments.json:
        options.warn_without_effect(found, "explain", "with `--json`: the report has all remarks")


def _refer_to_remarks(found: Diagnostics) -> None:
    """Replace the advice to give `--explain` in warnings, since the option is given."""
    from archc.passmanager.effect_warnings import EXPLAIN

    told = "the remarks of the pass give the reason for each layer"
    found.found[:] = [replace(each, help=told) if each.help == EXPLAIN else each for each in found]


def _print(arguments: argparse.Namespace, compiled: Compiled, report: dict[str, Any], found: Diagnostics) -> None:
    """Print the report before the files are moved into place, so that a failure to print leaves no files.

    A closed pipe is not a failure: the reader wants no more output, and the files are written.

    Raises:
        ArchcError: the report cannot be printed (`report-not-printed`).
    """
    try:
        if arguments.json:
            output.print_json(report)
        else:
            output.diagnostics(found)
            print(_text(arguments, compiled, report))
        output.flush()
    except BrokenPipeError:
        output.abandon_stdout()
    except OSError as reason:
        raise error(
            "report-not-printed",
            f"the report cannot be printed: {reason.strerror or reason}; nothing was written",
            help="redirect standard output to a disk with free space, or to /dev/null: report.json has the report too",
        ) from None


def _text(arguments: argparse.Namespace, compiled: Compiled, report: dict[str, Any]) -> str:
    """Text of the report for the terminal."""
    origins = [f"weights: {compiled.weights}"]
    if compiled.passes:
        origins.append(f"calibration: {compiled.calibration}")
    parts = ["\n".join(origins)]
    if arguments.explain and compiled.passes:
        parts.append(pass_report.explanation(compiled.passes))
    figures = pass_report.pass_table(compiled.passes) if compiled.passes else _figures(report)
    if report["sizes"]:
        others = "" if arguments.sizes else "; --sizes gives others"
        figures += f"\nmultiply-adds at {settings_text(report['sizes'])}{others}"
    parts.append(figures)
    parts.append(check_report.text(report["check"]))
    if "latency" in report:
        parts.append(latency_text.text(report["latency"]))
    parts += _contributed(report)
    parts.append(_files(Path(arguments.output), report))
    return "\n\n".join(parts)


def _contributed(report: dict[str, Any]) -> list[str]:
    """Statement on operators outside the standards of the written formats; none without such operators."""
    used = [f"  {name}: {', '.join(found)}" for name, found in report.get("contributed", {}).items() if found]
    return ["\n".join(["operators outside the standard (`--onnx standard` avoids them):", *used])] if used else []


def _figures(report: dict[str, Any]) -> str:
    """Figures of a model without passes."""
    parts = (
        output.count(report["nodes"], "operator"),
        output.count(report["parameters"], "parameter"),
        output.count(report["bytes"], "byte"),
        output.count(report["multiply_adds"], "multiply-add"),
    )
    return f"{report['model']}: {', '.join(parts)}; no passes"


def _files(folder: Path, report: dict[str, Any]) -> str:
    """The files and their sizes, one a line."""
    from archc.driver.emission import report_text

    sizes = {name: f"{file['bytes']:,} bytes" for name, file in report["files"].items()}
    sizes["report.json"] = f"{len(report_text(report).encode()):,} bytes"
    names = [str(folder / name) for name in sizes]
    width, digits = max(map(len, names)), max(map(len, sizes.values()))
    lines = [f"  {name:<{width}}  {size:>{digits}}" for name, size in zip(names, sizes.values(), strict=True)]
    return "\n".join(["written:", *lines])
