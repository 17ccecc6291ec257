"""`archc show`: a table of the layers of a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.cli import figures, options, output, sweep
from archc.cli.plugins import load_plugins
from archc.cli.reports import pass_report
from archc.diagnostics import Diagnostics, Source

if TYPE_CHECKING:
    from archc.analysis.devices import Devices
    from archc.driver.compiled import Compiled
    from archc.ir.graph import Graph

_EPILOG = """\
examples:
  archc show specs/cnn.arch
  archc show specs/resnet18.arch --set classes=10 --sizes N=32
  archc show specs/cnn.arch --weights cnn.safetensors --passes "lowrank, quant"
  archc show specs/cnn.arch --passes "partition(stages=2)" --sizes N=32
  archc show specs/large_model.arch --sweep depth=1..8 --plot depth.svg

Costs are those of one run of the model at the sizes that --sizes gives: with `--sizes N=32`, of a batch of 32 samples.
The default is a batch of 1; any other size that is not given is assumed, with a warning.
Multiply-adds are counted for matrix products, convolutions and similar operators; activation bytes are the bytes of
each result.  A shared weight counts once, at its first use.  With passes, the table shows the model after them, and
another table compares the widths of the layers before and after.  For a model with stages (`to_stage`), a table shows
the cost of each stage.  The load of a stage is the time of its operators and transfers, as `archc passes partition`
explains.  A sweep shows the cost of the whole model for each value of one attribute.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "show",
        help="print a model's layers, shapes and costs",
        description="Print a table of a model: layer, operator, output, parameters, multiply-adds, activation bytes.",
        epilog=_EPILOG,
    )
    options.add_file(parser)
    options.add_model(parser)
    parser.add_argument(
        "--sweep",
        metavar="NAME=A..B",
        type=sweep.sweep,
        help="show the model's figures for each value of an attribute: depth=2..48, width=64..1024..64, heads=1,2,4",
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the figures of --sweep into a file: .svg, .png or .pdf"
    )
    options.add_compilation(parser)
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the model, its figures and its layers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.cli.reports import layer_table, stage_table, width_table
    from archc.passmanager.sizes import choose_sizes

    found = Diagnostics()
    load_plugins(arguments.load, found)
    if arguments.file == "-":
        # Standard input can be read only once, and the model is built twice: before and after passes.
        arguments.file = options.text_of(arguments.file)
    options.warn_without("passes", arguments, found, ("seed",))
    options.warn_without("weights", arguments, found, ("allow-pickle",))
    if arguments.sweep is not None:
        return _sweep(arguments, found)
    if arguments.plot is not None:
        raise options.UsageError("--plot draws the figures of --sweep: give both options")
    graph, compiled = _graph(arguments, found)
    sizes = compiled.sizes if compiled is not None else choose_sizes(graph, arguments.sizes)
    layer_table.warn_of_sizes(graph, sizes, found)
    options.hold_to_strict(arguments, found)
    at = sizes.values
    compared = width_table.compare(_parsed(arguments, Diagnostics()), graph) if compiled and compiled.passes else []
    divided = stage_table.costs(graph, _machines(arguments), at)
    if arguments.json:
        report = layer_table.to_json(graph, at)
        report["stages"] = stage_table.to_json(divided)
        report["widths"] = [width.to_json() for width in compared]
        report["passes"] = [step.to_json() for step in compiled.passes] if compiled is not None else []
        report["warnings"] = [warning.to_json() for warning in found.warnings]
        output.print_json(report)
        return 0
    output.diagnostics(found)
    _print(graph, at, bool(arguments.sizes))
    if divided:
        print(f"\n{stage_table.text(divided)}")
    if compiled is not None:
        print(f"\nweights: {compiled.weights}")
        if compiled.passes:
            print(f"calibration: {compiled.calibration}\n\n{pass_report.pass_table(compiled.passes)}")
            print(f"\n{width_table.text(compared)}")
    return 0


def _sweep(arguments: argparse.Namespace, found: Diagnostics) -> int:
    """Show the costs of the model at each value of an attribute."""
    from archc.driver.parsing import parse_settings

    if options.asks_for_compilation(arguments):
        raise options.UsageError(
            "--sweep shows the model as it is written: leave --passes, --weights, --rename and --calib out"
        )
    over: sweep.Sweep = arguments.sweep
    settings = parse_settings(arguments.set)
    if over.attribute in settings:
        given = next(one for one in arguments.set if one.partition("=")[0].strip() == over.attribute)
        options.warn_without_effect(found, f"set {given}", f"with `--sweep` of `{over.attribute}`")
    with output.progress() as progress:
        points = sweep.points(
            options.text_of(arguments.file),
            arguments.model,
            settings,
            arguments.sizes,
            over,
            found,
            arguments.allow_absolute_imports,
            progress,
        )
    options.hold_to_strict(arguments, found)
    if arguments.plot is not None:
        sweep.plot(over, points, arguments.plot, _title(arguments))
    if arguments.json:
        output.print_json(sweep.to_json(over, points))
    else:
        output.diagnostics(found)
        print(sweep.text(over, points))
        if arguments.plot is not None:
            print(figures.written(arguments.plot))
    return 0


def _title(arguments: argparse.Namespace) -> str:
    """Title of a plot: the file's name without its suffix."""
    return arguments.file.name if isinstance(arguments.file, Source) else Path(arguments.file).stem


def _graph(arguments: argparse.Namespace, found: Diagnostics) -> tuple[Graph, Compiled | None]:
    """The model, compiled only if passes, weights or data are given."""
    if not options.asks_for_compilation(arguments):
        return _parsed(arguments, found), None
    with output.progress() as progress:
        compiled = options.compiled(arguments, found, progress)
    return compiled.graph, compiled


def _parsed(arguments: argparse.Namespace, found: Diagnostics) -> Graph:
    """The graph of the model in the file, before passes."""
    from archc.compiler import parse
    from archc.driver.parsing import parse_settings

    text, values = options.text_of(arguments.file), parse_settings(arguments.set)
    return parse(text, arguments.model, values, found, arguments.allow_absolute_imports)


def _machines(arguments: argparse.Namespace) -> Iterator[Devices]:
    """Yield the devices declared in the file; the file is read only if the caller asks for a device."""
    from archc.driver.parsing import open_module
    from archc.language.elaboration.device_statements import devices_of

    unheard = Diagnostics()  # not shown: `_graph` has already reported the diagnostics of this file
    yield from devices_of(
        open_module(options.text_of(arguments.file), unheard, arguments.allow_absolute_imports), unheard
    ).values()


def _print(graph: Graph, sizes: Mapping[str, int], given: bool) -> None:
    from archc.cli.reports import layer_table
    from archc.ir.given_sizes import settings_text

    print(output.heading(f"model {graph.name}"))
    for value in graph.inputs:
        print(f"input  {value.name}: {value.type}")
    for name, value in graph.outputs.items():
        print(f"output {name}: {value.type}")
    print()
    found = layer_table.rows(graph, sizes)
    columns: list[tuple[str, output.Align]] = [
        ("layer", "left"),
        ("operator", "left"),
        ("output", "left"),
        ("parameters", "right"),
        ("multiply-adds", "right"),
        ("activation bytes", "right"),
    ]
    names = ("parameters", "multiply_adds", "activation_bytes")
    cells = [
        [row.layer, row.operator, ", ".join(row.outputs), *(_number(getattr(row, name)) for name in names)]
        for row in found
    ]
    sums = [f"{sum(getattr(row, name) for row in found):,}" for name in names]
    total = ["total", output.count(len(found), "operator"), "", *sums]
    print(output.table(columns, cells, [total]))
    stored = sum(weight.nbytes for weight in graph.weights.values())
    print(f"\n{output.count(stored, 'byte')} of weights")
    if sizes:
        print(
            f"multiply-adds and activation bytes at {settings_text(sizes)}{'' if given else '; --sizes gives others'}"
        )


def _number(number: int) -> str:
    """Text of a figure of one layer; empty for 0."""
    return f"{number:,}" if number else ""
