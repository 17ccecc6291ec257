"""Cases of invalid input: one Markdown file each, with the input files, the commands and the output.

The format is that of the explanations of `archc explain` (`archc/cli/explanations.py`); their examples are cases, too.
A file shows the output that a user sees, so a reviewer can judge it without running anything.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from archc.cli import main
from archc.cli.explanations import FOLDER as CODES
from archc.cli.explanations import Run, parse
from archc.declaration import OPERATORS

FOLDER = Path(__file__).parent / "cases"
BUILT = Path(__file__).parent / "built"

_OUTPUT = re.compile(r"^```console\n(?:\$ [^\n]*\n)+(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A case of invalid input.

    Attributes:
        example: the input files, the commands and their output, which ends with the exit status.
    """

    path: Path
    title: str
    example: Run

    @staticmethod
    def read(path: Path) -> Case | None:
        """Read the case of a file; None for an explanation without an example."""
        found = parse(path.read_text(encoding="utf-8"), path.stem, path.parent.name)
        return None if found.example is None else Case(path, found.summary, found.example)

    @property
    def texts(self) -> dict[str, str]:
        """The contents of the `.arch` files by file name."""
        return {name: text for name, text in self.example.files.items() if name.endswith(".arch")}

    def update(self, output: str) -> None:
        """Replace the output in the file."""
        text = self.path.read_text(encoding="utf-8")
        console = _OUTPUT.search(text)
        assert console is not None
        start, end = console.span("output")
        self.path.write_text(text[:start] + output + text[end:], encoding="utf-8")


def all_cases() -> list[Case]:
    """The cases of this folder and the examples of the explanations."""
    paths = [*sorted(FOLDER.glob("*.md")), *sorted(CODES.glob("*/*.md"))]
    return [case for case in map(Case.read, paths) if case is not None]


def perform(example: Run, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Write files into the current folder and run commands; return the result of the last command."""
    for name, text in example.files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    known = set(OPERATORS)
    status, output = 0, ""
    try:
        for command in example.commands:
            program, *arguments = shlex.split(command)
            if program == "python":
                text = Path(arguments[0]).read_text(encoding="utf-8")
                exec(compile(text, arguments[0], "exec"), {"__name__": "__main__"})
            else:
                assert program == "archc"
                status, output = run(tuple(arguments), capsys)
    finally:
        for name in set(OPERATORS) - known:  # keep operators of archc, which are imported at their first use
            if not OPERATORS[name].__module__.startswith("archc.ops."):
                del OPERATORS[name]
    return status, output.replace(f"{Path.cwd()}{os.sep}", "")


def run(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command; return its exit status, and a text of stderr, stdout and a line with the status."""
    capsys.readouterr()
    status = main(command)
    printed = capsys.readouterr()
    return status, f"{printed.err}{printed.out}exit status {status}\n"


def check_built(name: str, output: str, update: bool) -> None:
    """Compare an output with `built/<name>.txt`, for inputs that a Markdown file cannot contain."""
    path = BUILT / f"{name}.txt"
    if update:
        path.write_text(output, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run pytest with --update-golden"
    assert output == path.read_text(encoding="utf-8")
