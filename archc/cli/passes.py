"""`archc passes`: the purpose, the options and an example of each pass."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from archc.cli import options, output
from archc.cli.descriptions import PRESERVES, pass_json, summary
from archc.cli.ops import attribute_lines
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics, error

_EPILOG = """\
examples:
  archc passes                                all passes, a line each
  archc passes lowrank                        what it does, its options, an example
  archc passes --groups cnn.arch              the coupled channels of a model

Passes come from the entry-point group `archc.passes` of installed packages, and from --load.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "passes",
        help="list the passes, or explain one",
        description="List the passes, or describe one.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name of a pass")
    parser.add_argument(
        "--groups", metavar="FILE", help="print the groups of coupled channels of the model in an .arch file"
    )
    options.add_model(parser)
    options.add_load(parser)
    options.add_json(parser, "the passes, the pass NAME, or the groups,")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.passmanager import known_passes, load_pass, pass_names
    from archc.passmanager.registry import pass_help

    found = Diagnostics()
    load_plugins(arguments.load, found)
    options.warn_without("groups", arguments, found, ("model", "set", "allow-absolute-imports"))
    name = arguments.name
    if name is not None and name not in pass_names():
        raise error("unknown-pass", f"there is no pass `{name}`", help=pass_help(name, pass_names()))
    if arguments.groups is not None:
        if name is not None:
            message, help = f"the pass name `{name}` has no effect with `--groups`", "leave out the name or `--groups`"
            found.warn("option-without-effect", message, help=help)
        return _groups(arguments, found)
    output.diagnostics(found)
    if name is None:
        passes = known_passes()
        if arguments.json:
            output.print_json({"passes": [pass_json(cls) for cls in passes.values()]})
        else:
            print("\n".join(output.columns([[name, cls.preserves, summary(cls)] for name, cls in passes.items()])))
        return 0
    described = pass_json(load_pass(name))
    if arguments.json:
        output.print_json(described)
    else:
        print(_page(described))
    return 0


def _groups(arguments: argparse.Namespace, found: Diagnostics) -> int:
    """Print the channel groups of a model; this needs no weights."""
    from archc.analysis.coupling import Coupling
    from archc.cli.reports import group_table
    from archc.compiler import parse
    from archc.driver.parsing import parse_settings

    values = parse_settings(arguments.set)
    graph = parse(Path(arguments.groups), arguments.model, values, found, arguments.allow_absolute_imports)
    output.diagnostics(found)
    coupling = Coupling(graph)
    if arguments.json:
        output.print_json(group_table.to_json(coupling))
    else:
        print(group_table.text(coupling))
    return 0


def _page(described: dict[str, Any]) -> str:
    name, promise = output.heading(described["name"]), f"({PRESERVES[described['preserves']]})"
    apart = "\n" if len(output.wrapped(f"{described['name']}  {promise}", 0)) > 1 else "  "
    sections = [f"{name}{apart}{promise}\n\n{output.prose(described['doc'])}"]
    if described["options"]:
        sections.append(output.section("options", attribute_lines(described["options"])))
    if described["example"]:
        sections.append(output.section("example", [described["example"]]))
    return "\n\n".join(sections)
