"""`archc check`: errors and warnings of .arch files.

It must be fast, since editors run it on every keystroke.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.cli import options, output
from archc.cli.plugins import load_plugins
from archc.diagnostics import ArchcError, Diagnostic, Diagnostics, error

if TYPE_CHECKING:
    from archc.language.elaboration.modules import Module
    from archc.language.elaboration.step_budget import StepBudget

_EPILOG = """\
examples:
  archc check specs/*.arch
  archc check net.arch --model small --set classes=100
  archc check net.arch --json                 for editors: diagnostics with file, line and column
  archc check - < net.arch                    from standard input

Every model of a file is checked with the default values of its attributes; blocks are checked where they are used.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "check",
        help="report errors in .arch files",
        description="Parse .arch files and build the graph of every model: names, attributes, types and shapes.\n"
        "Imports neither PyTorch nor ONNX.",
        epilog=_EPILOG,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="an .arch file, or - for standard input")
    options.add_model(parser)
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the models and diagnostics of each file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.driver.parsing import parse_settings

    loaded = Diagnostics()
    load_plugins(arguments.load, loaded)
    values = parse_settings(arguments.set)
    reports = []
    for file in arguments.files:
        report, found = _check(file, values, arguments, loaded)
        reports.append(report)
        if not arguments.json:
            output.diagnostics(found)
            if report["fine"]:
                print(_fine(report))
    wrong = sum(not report["fine"] for report in reports)
    if arguments.json:
        output.print_json({"fine": not wrong, "files": reports})
    elif wrong:
        errors = sum(d["severity"] == "error" for report in reports for d in report["diagnostics"])
        output.message(f"{output.count(errors, 'error')} in {output.count(wrong, 'file')}")
    return 1 if wrong else 0


def _check(
    file: str, values: dict[str, Any], arguments: argparse.Namespace, loaded: Diagnostics
) -> tuple[dict[str, Any], Diagnostics]:
    """Report and diagnostics of one file.

    Args:
        loaded: the warnings of `--load`.
    """
    from archc.driver.parsing import check_surroundings, open_module
    from archc.language.elaboration.step_budget import StepBudget

    found = Diagnostics()
    found.extend(loaded)
    models: list[dict[str, Any]] = []
    blocks: list[str] = []
    try:
        module: Module = open_module(options.text_of(file), found, arguments.allow_absolute_imports)
        blocks = module.blocks
        check_surroundings(module, found)
        names = module.models if arguments.model is None else [arguments.model]
        _check_sizes(module, names, values)
        budget = StepBudget()
        for name in names:
            models += _model(module, name, values, found, budget)
        found.check()
        options.hold_to_strict(arguments, found)
    except ArchcError as failure:
        found = Diagnostics(list(failure.diagnostics))
    report = {
        "file": "<stdin>" if file == "-" else file,
        "fine": not found.errors,
        "models": models,
        "blocks": blocks,
        "diagnostics": [diagnostic.to_json() for diagnostic in found],
    }
    return report, found


def _check_sizes(module: Module, names: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse to check models that are too large in total, before any of them is built.

    Raises:
        ArchcError: the sum of the lower bounds on the models' sizes exceeds the limit (`too-many-models`).
    """
    from archc.language.elaboration.size_bound import MOST_PARTS_TOGETHER, allowed_parts, size_bound

    parts, most = 0, allowed_parts(module, MOST_PARTS_TOGETHER)
    for name in names if len(names) > 1 else ():
        model = module.definitions[name]
        parts += sum(size_bound(module, model, values).size)
        if parts > most:
            raise error(
                "too-many-models",
                f"the models up to `{name}` have {parts:,} operators, instances of blocks and iterations together;"
                f" the limit of one check is {most:,}",
                model.name.span,
                help=f"check one at a time: `--model {name}`",
            )


def _model(
    module: Module, name: str, values: dict[str, Any], found: Diagnostics, budget: StepBudget
) -> list[dict[str, Any]]:
    """Figures of one model; an empty list if it has errors."""
    from archc.analysis.cost import parameters
    from archc.driver.parsing import checked_model

    own = Diagnostics()
    try:
        graph = checked_model(module, name, values, own, budget)
    except ArchcError as failure:
        found.extend(_untold(failure.diagnostics, found))
        return []
    found.extend(_untold(own.found, found))
    return [{"model": name, "operators": len(graph), "parameters": parameters(graph)}]


def _untold(own: Sequence[Diagnostic], found: Diagnostics) -> list[Diagnostic]:
    """Diagnostics that no other model of the file has reported; models may share the errors of a block."""
    if not own:
        return []
    told = {(known.code, known.span, known.message) for known in found}
    return [one for one in own if one.span is None or (one.code, one.span, one.message) not in told]


def _fine(report: dict[str, Any]) -> str:
    if not report["models"]:
        blocks = output.count(len(report["blocks"]), "block")
        return f"{report['file']}: fine ({blocks} and no model; blocks are checked where they are used)"
    models = "; ".join(
        f"{model['model']}: {output.count(model['operators'], 'operator')}, "
        f"{output.count(model['parameters'], 'parameter')}"
        for model in report["models"]
    )
    return f"{report['file']}: fine ({models})"
