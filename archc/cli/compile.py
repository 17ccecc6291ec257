"""`archc compile`: from a text to programs that run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from archc.cli import options, output, reports
from archc.cli.plugins import load_plugins
from archc.codegen import TARGETS
from archc.diagnostics import Diagnostics
from archc.ir.sizes import settings_text

_EPILOG = """\
examples:
  archc compile specs/cnn.arch
  archc compile specs/cnn.arch --set classes=100 --emit torch -o build
  archc compile specs/cnn.arch --weights cnn.safetensors --calib digits.npz \\
      --passes "lowrank(energy=0.95, on='fc*'), quant(int8, keep='fc2')" --check --explain
  archc compile specs/cnn.arch --passes edge  the pipeline `edge` of the file

Written are <model>.py, <model>.onnx, <model>.arch, <model>.safetensors (the weights of all three) and report.json:
all of them, or none if anything goes wrong.  The same input gives the same bytes.
A model that is divided (`partition`) has besides a module, weights and an ONNX model for each stage, and
<model>_pipeline.py, which runs them.
"""
_LOOSE = 5e-2
"""A comparison that allows more than this says too little."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compile",
        help="compile a model to PyTorch and ONNX, through passes",
        description="Check a model, run passes over it, and write it: a PyTorch module, an ONNX model, .arch text.",
        epilog=_EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="an .arch file")
    options.add_model(parser)
    options.add_compilation(parser)
    parser.add_argument(
        "--emit",
        metavar="TARGETS",
        type=options.words(TARGETS),
        help="what to write, of torch, onnx and arch (default: all, torch,onnx,arch; without weights torch,arch)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="out", help="the folder to write to; made if need be (default: out)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="run what was written, on random inputs, and fail unless PyTorch and ONNX Runtime agree with the graph",
    )
    parser.add_argument("--explain", action="store_true", help="print what every pass did to every layer, and why")
    options.add_load(parser)
    options.add_json(parser, "the report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    load_plugins(arguments.load)
    found = Diagnostics()
    folder = Path(arguments.output)
    with output.progress() as progress:
        compiled = options.compiled(arguments, found, progress)
        report = compiled.write(folder, arguments.emit, arguments.check, progress)
    if arguments.json:
        output.print_json(report)
        return 0
    output.diagnostics(found)
    print(f"weights: {compiled.weights}")
    if compiled.passes:
        print(f"calibration: {compiled.calibration}")
    if arguments.explain and compiled.passes:
        print(f"\n{reports.explanation(compiled.passes)}")
    print(f"\n{reports.pass_table(compiled.passes) if compiled.passes else _figures(report)}")
    if report["sizes"]:
        others = "" if arguments.sizes else "; --sizes gives others"
        print(f"multiply-adds at {settings_text(report['sizes'])}{others}")
    if "check" in report:
        print(f"\n{_checked(report['check'])}")
    print(f"\n{_files(folder, report)}")
    return 0


def _figures(report: dict[str, Any]) -> str:
    """The model's figures, where no pass changed any."""
    parts = (
        output.count(report["nodes"], "operator"),
        output.count(report["parameters"], "parameter"),
        output.count(report["bytes"], "byte"),
        output.count(report["multiply_adds"], "multiply-add"),
    )
    return f"{report['model']}: {', '.join(parts)}; no passes"


def _checked(check: dict[str, Any]) -> str:
    names = {
        "torch": "PyTorch",
        "onnxruntime": "ONNX Runtime",
        "torch stages": "the stages in PyTorch",
        "onnxruntime stages": "the stages in ONNX Runtime",
    }

    def errors(outcome: dict[str, Any]) -> str:
        found = outcome["errors"].items()
        return ", ".join(f"{names.get(name, name)} {reports.error_text(error)}" for name, error in found)

    if not check["errors"]:
        return "checked: nothing that was written can be run"
    text = f"checked: relative error against the graph: {errors(check)} (at most {check['tolerance']:g})"
    if not check["faint"]:
        return text
    text += f"\nnote: {_faint(check)}, so that this says little of the first layers"
    scaled = check.get("scaled")
    if scaled is None:
        none = "no layer could be scaled; " if "scaled" in check else ""
        return f"{text}\n      {none}give trained weights with `--weights`"
    spread = reports.error_text(min(scaled["spread"][name] for name in check["faint"]))
    text += f"\n      with each layer's weights scaled (spread {spread}): {errors(scaled)}"
    if scaled["tolerance"] > check["tolerance"]:
        text += f" (at most {scaled['tolerance']:.2g}, as rounding is magnified)"
    if scaled["faint"]:
        text += f"; but still {_faint(scaled)}"
    if scaled["faint"] or scaled["tolerance"] > _LOOSE:
        text += "\n      give trained weights with `--weights`"
    return text


def _faint(outcome: dict[str, Any]) -> str:
    """Which outputs hardly depend on the inputs."""
    spread = min(outcome["spread"][name] for name in outcome["faint"])
    names = " and ".join(f"`{name}`" for name in outcome["faint"])
    verb = "depends" if len(outcome["faint"]) == 1 else "depend"
    return f"{names} hardly {verb} on the inputs (spread {reports.error_text(spread)} of the size)"


def _files(folder: Path, report: dict[str, Any]) -> str:
    """The files and their sizes, one a line."""
    sizes = {name: f"{file['bytes']:,} bytes" for name, file in report["files"].items()}
    sizes["report.json"] = f"{(folder / 'report.json').stat().st_size:,} bytes"
    names = [str(folder / name) for name in sizes]
    width, digits = max(map(len, names)), max(map(len, sizes.values()))
    lines = [f"  {name:<{width}}  {size:>{digits}}" for name, size in zip(names, sizes.values(), strict=True)]
    return "\n".join(["written:", *lines])
