"""Generate the reference page of the command line from the argument parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

_HEAD = """\
# Command line

Look up here the purpose, the arguments and the options of each command of `archc`. `archc COMMAND --help` prints
the same in a terminal. `python -m archc` is the same program. `make reference` generates this page from the parsers.

| exit status | meaning |
|---:|---|
| 0 | the command succeeded |
| 1 | the input has errors, or warnings under `--strict`; for `archc fmt --check`, a file would change |
| 2 | the command line is wrong |
| 70 | an internal error of archc; `ARCHC_DEBUG=1` shows the traceback |
| 129, 130, 143 | the command was ended by SIGHUP, SIGINT (^C) or SIGTERM; nothing was written |

Without `--json`, diagnostics go to standard error. With `--json`, a command prints one JSON object to standard output,
which contains the diagnostics of the input.
"""


def command_line_page() -> str:
    """Reference page of all commands."""
    from archc.cli import make_parser

    parser = make_parser()
    sections = [_HEAD.rstrip(), *_command("archc", parser)]
    for name, command in commands(parser):
        sections += _command(f"archc {name}", command)
    return "\n\n".join(sections) + "\n"


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Names and parsers of the commands of a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _command(title: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Sections of one command: its description, its arguments, its examples."""
    yield f"## {title}"
    if parser.description:
        yield parser.description
    actions = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    rows = [(_term(action), _help(parser, action)) for action in actions if _is_argument(action)]
    yield "\n".join(["| argument | |", "|---|---|", *(f"| {term} | {text} |" for term, text in rows)])
    if parser.epilog:
        yield f"```text\n{parser.epilog.rstrip()}\n```"


def _is_argument(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def _term(action: argparse.Action) -> str:
    """Spelling of an argument, as code."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        many = {"+": f"{metavar} [{metavar} ...]", "?": f"[{metavar}]"}
        return f"`{many.get(str(action.nargs), metavar)}`"
    value = "" if action.nargs == 0 else f" {metavar}"
    return f"`{', '.join(action.option_strings)}{value}`"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Help text of an argument, for a cell of a table."""
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
