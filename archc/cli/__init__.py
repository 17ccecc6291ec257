"""The command line: `main`, and one file for each command.

The file of a command has the command's name, an `add_parser` and a `run`.  `main` runs a command and returns its exit
status: 0 success, 1 errors in the input, 2 wrong usage, 70 internal error; 129, 130 or 143 after SIGHUP, SIGINT or
SIGTERM.  With the environment variable ARCHC_DEBUG=1, an internal error or a failure of an extension prints
a traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from archc.cli import output
from archc.cli.options import Parser, UsageError, VersionAction
from archc.diagnostics import ArchcError, error
from archc.garbage_collector import collect_less_often, skip_last_collection

FINE, WRONG_INPUT, WRONG_USAGE, INTERNAL_ERROR, INTERRUPTED = 0, 1, 2, 70, 130
SIGNALLED = 128  # SIGNALLED + N is the exit status of a program that signal N ended, as in shells
CLOSED_PIPE = 141  # exit status of a program that a closed pipe ended, as in shells

_EPILOG = """\
examples:
  archc check specs/*.arch                    names, attributes, types and shapes; fast enough for editors
  archc show specs/cnn.arch                   layers, shapes, parameters, multiply-adds
  archc draw specs/cnn.arch                   a picture
  archc compile specs/cnn.arch -o build       a PyTorch module, an ONNX model and their weights
  archc compile specs/cnn.arch --weights cnn.safetensors --passes "lowrank, quant"
  archc sensitivity specs/cnn.arch            layers that hurt in fewer bits
  archc explain shape-mismatch                meaning of a diagnostic code, and a way out

`archc COMMAND --help` explains a command.  Exit status: 0 success, 1 errors in the input, 2 wrong usage.
"""


COMMANDS = (
    "compile",
    "check",
    "fmt",
    "show",
    "draw",
    "sensitivity",
    "shrink",
    "ops",
    "passes",
    "explain",
    "completion",
)


def make_parser(commands: Sequence[str] = COMMANDS) -> Parser:
    """Make the parser of the command line.

    Args:
        commands: the commands that the parser knows; the files of the others are not imported.
    """
    parser = Parser(
        prog="archc",
        description="A compiler for neural-network architectures: from a short text to PyTorch and ONNX.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=VersionAction, help="print the version and exit")
    group = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=Parser)
    for command in commands:
        import_module(f"archc.cli.{command}").add_parser(group)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return its exit status."""
    alone = argv is None  # archc has the process for itself
    if alone:
        _unwind_on_signals()
        collect_less_often()
    status = _guarded(argv)
    try:
        output.flush()
    except OSError:  # the command already failed and reported why
        output.abandon_stdout()
    if alone:
        skip_last_collection()
    return status


def _guarded(argv: Sequence[str] | None) -> int:
    """Run a command line, and turn its errors into messages and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal may lack a character
    arguments = argparse.Namespace()
    try:
        status = _run(argv, arguments)
        output.flush()
        return status
    except BrokenPipeError:
        output.abandon_stdout()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        kept = getattr(arguments, "when_interrupted", "nothing was written")
        output.message(f"interrupted; {kept}")
        return INTERRUPTED
    except Signalled as ended:
        return SIGNALLED + ended.number
    except ArchcError as failure:
        if os.environ.get("ARCHC_DEBUG") and failure.__cause__ is not None:
            _print_traceback(failure.__cause__)
        output.failure(failure, as_json=getattr(arguments, "json", False))
        return WRONG_INPUT
    except (OSError, MemoryError) as reason:
        output.abandon_stdout()
        text = "there is not enough memory" if isinstance(reason, MemoryError) else str(reason)
        output.failure(error("system-error", text), as_json=False)
        return WRONG_INPUT
    except Exception as bug:
        if os.environ.get("ARCHC_DEBUG"):
            raise
        happened = ", ".join([f"{type(bug).__name__}: {bug}", *getattr(bug, "__notes__", [])])
        output.message(
            f"internal error: {happened}\n"
            "This is a bug in archc (or in an extension of it), not in your input; please report it.  "
            "ARCHC_DEBUG=1 shows the traceback."
        )
        return INTERNAL_ERROR


def _print_traceback(cause: BaseException) -> None:
    """Print the traceback of an exception in an extension, which the diagnostic after it names."""
    from traceback import print_exception

    print_exception(cause)


def _run(argv: Sequence[str] | None, arguments: argparse.Namespace) -> int:
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser(words[:1] if words and words[0] in COMMANDS else COMMANDS)
    try:
        parser.parse_args(words, arguments)
    except SystemExit as end:  # argparse has printed its message
        return end.code if isinstance(end.code, int) else WRONG_USAGE
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    try:
        if getattr(arguments, "files", []).count("-") > 1:
            raise UsageError("`-` is standard input, which can be read once: give it once")
        status: int = arguments.run(arguments)
        return status
    except UsageError as problem:
        output.message(f"{arguments.command}: {problem}")
        return WRONG_USAGE
    except argparse.ArgumentError as problem:  # from an option that is checked after `--load`
        return _wrong_usage(parser.of_command(arguments.command), str(problem))


def _wrong_usage(parser: argparse.ArgumentParser, message: str) -> int:
    """Report a wrong command line, as the parser itself does, and return the exit status."""
    try:
        parser.error(message)
    except SystemExit:
        return WRONG_USAGE


def _unwind_on_signals() -> None:
    """Raise an exception on SIGTERM and SIGHUP, so that temporary folders are removed, as on ^C."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # under `nohup`, SIGHUP is ignored
            signal.signal(number, _raise_signalled)


class Signalled(BaseException):
    """Exception that SIGTERM or SIGHUP raises; guards of extensions do not catch it, unlike `SystemExit`."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def _raise_signalled(number: int, frame: object) -> NoReturn:
    raise Signalled(number)
