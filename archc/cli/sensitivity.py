"""`archc sensitivity`: show which layers hurt in each storage format of their weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from archc.cli import figures, options, output
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics

_EPILOG = """\
examples:
  archc sensitivity net.arch --weights net.safetensors --data calib.npz
  archc sensitivity net.arch --weights net.safetensors --data calib.npz --formats int4,int8 --group 64
  archc sensitivity net.arch --weights net.safetensors --data calib.npz --passes fold --measure 0 --plot layers.png

For each layer and format, the tables show:
  - the loss: the squared error of the outputs if only this layer is stored in the format.  0.01 means that the error
    has 1 % of the mean square of the outputs.  Losses of several layers add up.  A loss is predicted from the gradients
    of the outputs and the operands of the layer, on the data.
  - the signal-to-noise ratio of the layer's result, in dB; 20 dB are an error of 10 %, 40 dB of 1 %.
  - the bytes of the weights.
A layer with a good ratio and a large loss hurts: a small error there has a large effect.  Integers are those of `quant`
with data: by GPTQ, for 2 to 6 bits in groups of --group elements; int8 embeddings are rounded to nearest.
All figures are about the rounding of weights; the operands of layers stay in floats.  `archc compile --passes quant
--report html` shows the error of each layer with quantized operands.
For the worst layers, the loss is also measured: one layer at a time is stored in each format, and the model runs on at
most 64 samples.  Layers without a prediction, such as `lstm`, layers in a `scan`, and layers with a shared weight, are
measured with weights that are rounded to nearest.

`quant(int4, keep = 'head')` leaves a layer in floats, and `quant(bytes = 12MB)` chooses the format of each layer by
these losses.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "sensitivity",
        help="show which layers hurt when their weights have fewer bits",
        description="For each layer, predict how much each storage format of its weights changes the layer's result and"
        " the outputs.",
        epilog=_EPILOG,
    )
    options.add_file(parser)
    options.add_model(parser)
    parser.add_argument(
        "--formats",
        metavar="NAMES",
        type=options.words,
        help="formats of weights, of int8, int6, int5, int4, int3, int2, f16, bf16, f8e4m3 and f8e5m2 "
        "(default: int8,int6,int4,int3,int2,f16,bf16)",
    )
    parser.add_argument(
        "--group",
        metavar="N",
        type=options.count,
        help="number of elements with a common scale, for int2 to int6 (default: 32)",
    )
    parser.add_argument(
        "--sort",
        metavar="FORMAT",
        help="put the layers with the largest loss in this format first, or keep the order of the `file`"
        " (default: int4, or the first of --formats)",
    )
    parser.add_argument(
        "--measure",
        metavar="N",
        type=options.count_or_zero,
        default=3,
        help="measure the loss of the N worst layers, and of all layers without a prediction; 0 measures none"
        " (default: 3)",
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the losses into a file: .svg, .png or .pdf")
    options.add_compilation(parser)
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the layers with the figures of each format")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.cli.reports import sensitivity_report
    from archc.driver.sensitivity import FILE, FORMATS, default_sort, known_formats

    found = Diagnostics()
    load_plugins(arguments.load, found)
    formats = arguments.formats or FORMATS
    for name in formats:
        if name not in known_formats():
            raise options.no_choice("--formats", name, known_formats())
    if arguments.sort not in (None, FILE, *formats):
        raise options.no_choice("--sort", arguments.sort, (*formats, FILE))
    options.warn_without("passes", arguments, found, ("sizes",))
    options.warn_without("weights", arguments, found, ("allow-pickle",))
    with output.progress() as progress:
        compiled = options.compiled(arguments, found, progress, uses_data=True)
        sort = arguments.sort or default_sort(formats)
        report = compiled.sensitivity(formats, arguments.group, sort, arguments.measure, progress)
    options.hold_to_strict(arguments, found)
    if arguments.plot is not None:
        sensitivity_report.plot(report, arguments.plot, compiled.name)
    if arguments.json:
        output.print_json(
            {
                "model": compiled.name,
                "weights": compiled.weights,
                "calibration": compiled.calibration,
                **report.to_json(),
                "warnings": [warning.to_json() for warning in found.warnings],
            }
        )
        return 0
    output.diagnostics(found)
    print(f"weights: {compiled.weights}\ncalibration: {compiled.calibration}\n")
    print(sensitivity_report.text(report))
    if arguments.plot is not None:
        print(figures.written(arguments.plot))
    return 0
