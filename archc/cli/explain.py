"""`archc explain`: meaning, cause, example and correction of a diagnostic code."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from archc.cli import options, output
from archc.diagnostics import ArchcError, error, listed, nearest

if TYPE_CHECKING:
    from archc.cli.explanations import Explanation, Run

_EPILOG = """\
examples:
  archc explain                               all codes, a line each
  archc explain shape-mismatch                the code of `error[shape-mismatch]: ...`
  archc explain shape-mismatch --json         for editors
"""
_MOST_SUGGESTIONS = 6


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "explain",
        help="explain a diagnostic code",
        description="Explain a diagnostic code: meaning, cause, an example and the way out.  Without a code, list all.",
        epilog=_EPILOG,
    )
    parser.add_argument("code", metavar="CODE", nargs="?", help="the word in brackets after `error` or `warning`")
    options.add_json(parser, "the codes, or the explanation of CODE,")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.cli import explanations

    if arguments.code is None:
        groups = explanations.explanations()
        if arguments.json:
            members = [one.summary_json() for group in groups.values() for one in group]
            output.print_json({"codes": sorted(members, key=lambda one: str(one["code"]))})
        else:
            print(_list(groups))
        return 0
    found = explanations.explanation(_code_of(arguments.code))
    if found is None:
        raise _unknown(arguments.code, explanations.codes())
    if arguments.json:
        output.print_json(found.to_json())
    else:
        print(_page(found))
    return 0


def _code_of(text: str) -> str:
    """The code in `shape-mismatch`, `Shape_Mismatch` or `error[shape-mismatch]: ...`."""
    _, bracket, rest = text.partition("[")
    word = rest.partition("]")[0] if bracket else text
    return word.strip().lower().replace("_", "-")


def _unknown(text: str, known: Sequence[str]) -> ArchcError:
    """The error for a code without an explanation; its help names the nearest codes."""
    wanted = _code_of(text)
    match = nearest(wanted, known)
    words = [code for code in known if wanted and wanted in code]
    near = list(dict.fromkeys([*([match] if match else []), *words]))
    ways = {0: "`archc explain` lists the codes", 1: f"did you mean {listed(near)}?"}
    help = ways.get(len(near), f"similar codes: {listed(near, _MOST_SUGGESTIONS)}")
    return error("unknown-code", f"no diagnostic has the code `{text}`", help=help)


def _list(groups: dict[str, list[Explanation]]) -> str:
    """All codes, a line each, below the titles of their groups."""
    from archc.cli.explanations import GROUPS

    width = max(len(one.code) for members in groups.values() for one in members)
    return "\n\n".join(
        output.section(
            GROUPS[group],
            output.columns([[one.code.ljust(width), one.severity.ljust(7), one.summary] for one in members], indent=2),
        )
        for group, members in groups.items()
    )


def _page(one: Explanation) -> str:
    """The explanation of one code."""
    sections = [f"{output.heading(one.code)}  ({one.severity})\n\n{one.summary}.", output.prose(one.text)]
    if one.example is not None:
        sections.append("\n".join([output.heading("example"), *_lines(one.example)]))
    way = [f"  {line}" for line in output.prose(one.way).split("\n")]
    lines = list(_lines(one.correction))
    sections.append("\n".join([output.heading("way out"), *way, *([""] if lines else []), *lines]))
    return "\n\n".join(sections)


def _lines(run: Run) -> Iterator[str]:
    """Files and commands with their output, indented; code is never wrapped."""
    blocks = [[f"{name}:", *(f"    {line}" for line in text.splitlines())] for name, text in run.files.items()]
    if run.commands:
        said = [line for line in run.output.splitlines() if not line.startswith("exit status ")]
        while said and not said[-1]:
            said.pop()
        blocks.append([*(f"$ {command}" for command in run.commands), *said])
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from (f"  {line}".rstrip() for line in block)
