"""`archc fmt`: rewrite .arch files in the canonical layout."""

from __future__ import annotations

import argparse
import difflib
import shutil
from pathlib import Path
from typing import Any

from archc.cli import options, output
from archc.diagnostics import ArchcError, Diagnostics, Source

_EPILOG = """\
examples:
  archc fmt specs/*.arch                      rewrite the files whose layout differs
  archc fmt --check specs/*.arch              for CI: show what would change, and fail if anything would
  archc fmt - < net.arch                      from standard input to standard output, for editors

Comments are kept.  Formatting a formatted file changes nothing.  A file with syntax errors is not changed.
The most frequent line ending of a file, LF or CRLF, is used for all its lines.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "fmt",
        help="rewrite .arch files in the canonical layout",
        description="Rewrite .arch files in the canonical layout. A file is replaced as a whole, or not at all.",
        epilog=_EPILOG,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="an .arch file, or - for standard input")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; print a diff and end with status 1 if a file would change"
    )
    options.add_json(parser, "which files change (or would, with --check)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if "-" in arguments.files and arguments.json and not arguments.check:
        raise options.UsageError("`fmt -` and --json both write to standard output: leave --json out, or add --check")
    reports = []
    wrong = False
    for file in arguments.files:
        found = Diagnostics()
        changed = False
        try:
            changed = _format(file, arguments, found)
        except ArchcError as failure:
            found.extend(failure.diagnostics)
        wrong |= bool(found.errors)
        if not arguments.json:
            output.diagnostics(found)
        reports.append({"file": file, "changed": changed, "diagnostics": [d.to_json() for d in found]})
    if arguments.json:
        output.print_json({"files": reports})
    would_change = arguments.check and any(report["changed"] for report in reports)
    return 1 if wrong or would_change else 0


def _format(file: str, arguments: argparse.Namespace, found: Diagnostics) -> bool:
    """Format one file, or show its changes with `--check`; return whether the text changes."""
    from archc.language.elaboration.loading import load
    from archc.language.syntax.formatter import format
    from archc.language.syntax.parser import parse

    given = options.text_of(file)
    source = given if isinstance(given, Source) else load(given)
    tree = parse(source, found)
    found.check()
    # `source.text` has no byte order mark and may have other line endings, so the bytes of the file are compared.
    before = source.text if file == "-" else Path(file).read_bytes().decode("utf-8")
    text = format(tree).replace("\n", _line_end(before))
    changed = text != before
    if arguments.check:
        if changed and not arguments.json:
            print(_diff(before, text, source.name), end="")
            output.message(f"{source.name} would be reformatted")
    elif file == "-":
        print(text, end="")
    elif changed:
        _replace(Path(file), text)
        if not arguments.json:
            output.message(f"{file} was reformatted")
    return changed


def _line_end(text: str) -> str:
    """Line ending of most lines of a text: CRLF or LF."""
    windows = text.count("\r\n")
    return "\r\n" if 2 * windows > text.count("\n") else "\n"


def _replace(path: Path, text: str) -> None:
    """Replace the contents of a file atomically, and keep its permissions."""
    from archc.driver.output_folder import OutputFolder

    target = path.resolve()  # a symbolic link is kept, and its target is replaced
    with OutputFolder(target.parent) as folder:
        folder.write_text(target.name, text)
        shutil.copymode(target, folder.file(target.name))


def _diff(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, f"{name} (formatted)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
