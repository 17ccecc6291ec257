"""`archc completion`: a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from archc.cli import options

_EPILOG = """\
examples:
  archc completion bash > ~/.local/share/bash-completion/completions/archc
  archc completion zsh > ~/.zfunc/_archc       with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  archc completion fish > ~/.config/fish/completions/archc.fish
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "completion",
        help="print a script for shell completion",
        description="Print a completion script for a shell.",
        epilog=_EPILOG,
    )
    shells = ("bash", "zsh", "fish", "tcsh")
    parser.add_argument("shell", metavar="SHELL", choices=shells, help="bash, zsh, fish or tcsh")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import shtab

    from archc.cli import make_parser
    from archc.cli.explanations import codes

    if arguments.shell not in shtab.SUPPORTED_SHELLS:
        known = ", ".join(shtab.SUPPORTED_SHELLS)
        raise options.UsageError(f"the installed shtab knows {known}: install a newer version")
    parser = make_parser()
    for action in _actions(parser):
        if action.dest in ("file", "files", "weights", "calib", "load", "picture"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks for it
        elif action.dest == "code":
            action.choices = codes()
        elif action.dest == "output":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # shtab looks for it
    print(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of the parsers of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _actions(command)
        else:
            yield action
