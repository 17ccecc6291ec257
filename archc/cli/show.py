"""`archc show`: a model layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.cli import options, output, reports
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics

if TYPE_CHECKING:
    from archc.compiler import Compiled
    from archc.ir.graph import Graph

_EPILOG = """\
examples:
  archc show specs/cnn.arch
  archc show specs/resnet18.arch --set classes=10 --sizes N=32
  archc show specs/cnn.arch --weights cnn.safetensors --passes "lowrank, quant"

A symbolic size, such as a batch N, counts as 1 unless --sizes gives it.  Multiply-adds are those of matrix products,
convolutions and their like; activation bytes those of each result.  A shared weight counts once, at its first use.
With passes, the model is shown as they leave it.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "show",
        help="print a model's layers, shapes and costs",
        description="Print a table of a model: layer, operator, output, parameters, multiply-adds, activation bytes.",
        epilog=_EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="an .arch file")
    options.add_model(parser)
    parser.add_argument(
        "--sizes",
        metavar="N=32,T=128",
        type=options.sizes,
        default={},
        help="values for symbolic sizes; those left out count as 1",
    )
    options.add_compilation(parser)
    options.add_load(parser)
    options.add_json(parser, "the model, its figures and its layers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from archc.cli import layers

    load_plugins(arguments.load)
    found = Diagnostics()
    graph, compiled = _graph(arguments, found)
    layers.check_sizes(graph, arguments.sizes, found)
    if arguments.json:
        report = layers.to_json(graph, arguments.sizes)
        report["passes"] = [step.to_json() for step in compiled.passes] if compiled is not None else []
        report["warnings"] = [warning.to_json() for warning in found.warnings]
        output.print_json(report)
        return 0
    output.diagnostics(found)
    _print(graph, arguments.sizes)
    if compiled is not None:
        print(f"\nweights: {compiled.weights}")
        if compiled.passes:
            print(f"calibration: {compiled.calibration}\n\n{reports.pass_table(compiled.passes)}")
    return 0


def _graph(arguments: argparse.Namespace, found: Diagnostics) -> tuple[Graph, Compiled | None]:
    """The model, compiled only where passes or weights ask for it."""
    from archc.compiler import parse, parse_settings

    if not arguments.passes and arguments.weights is None:
        path, values = Path(arguments.file), parse_settings(arguments.set)
        return parse(path, arguments.model, values, found, arguments.allow_absolute_imports), None
    with output.progress() as progress:
        compiled = options.compiled(arguments, found, progress)
    return compiled.graph, compiled


def _print(graph: Graph, sizes: dict[str, int]) -> None:
    from archc.cli import layers

    print(output.heading(f"model {graph.name}"))
    for value in graph.inputs:
        print(f"input  {value.name}: {value.type}")
    for name, value in graph.outputs.items():
        print(f"output {name}: {value.type}")
    print()
    found = layers.rows(graph, sizes)
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
    symbolic = {name: sizes.get(name, 1) for name in layers.size_names(graph)}
    if symbolic:
        given = "" if sizes else "; --sizes gives others"
        print(f"multiply-adds and activation bytes at {output.settings_text(symbolic.items())}{given}")


def _number(number: int) -> str:
    """A figure of one layer; nothing is shown for none."""
    return f"{number:,}" if number else ""
