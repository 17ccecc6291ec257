"""The cases of bad input: one Markdown file each, with the texts, the command and what it must say.

    # What the case is about

    ```arch net.arch
    model net { ... }
    ```

    ```console
    $ archc check net.arch
    error[...]: ...
    exit status 1
    ```

The file's own words are what a user sees, so that a reviewer can judge them without running anything.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from archc.cli import main

FOLDER = Path(__file__).parent / "cases"
BUILT = Path(__file__).parent / "built"

_SOURCE = re.compile(r"^```arch (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n\$ archc (?P<command>[^\n]*)\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        title: what it is about.
        sources: texts by file name, line breaks as in the file.
        command: the arguments of `archc`.
        output: what it printed when the file was written, the exit status in the last line.
    """

    path: Path
    title: str
    sources: dict[str, str]
    command: tuple[str, ...]
    output: str

    @staticmethod
    def read(path: Path) -> Case:
        text = path.read_text(encoding="utf-8")
        console = _CONSOLE.search(text)
        assert console is not None, f"{path.name} has no console fence"
        title = text.splitlines()[0].removeprefix("# ")
        sources = {found["name"]: found["text"] for found in _SOURCE.finditer(text)}
        return Case(path, title, sources, tuple(shlex.split(console["command"])), console["output"])

    def update(self, output: str) -> None:
        """Write the file anew with another output."""
        text = self.path.read_text(encoding="utf-8")
        console = _CONSOLE.search(text)
        assert console is not None
        start, end = console.span("output")
        self.path.write_text(text[:start] + output + text[end:], encoding="utf-8")


def all_cases() -> list[Case]:
    return [Case.read(path) for path in sorted(FOLDER.glob("*.md"))]


def run(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit status of a command line, and all that it printed, errors first, the status as the last line."""
    capsys.readouterr()
    status = main(command)
    printed = capsys.readouterr()
    return status, f"{printed.err}{printed.out}exit status {status}\n"


def check_built(name: str, output: str, update: bool) -> None:
    """Compare an output with `built/<name>.txt`, for the cases whose input no Markdown file can hold."""
    path = BUILT / f"{name}.txt"
    if update:
        path.write_text(output, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run pytest with --update-golden"
    assert output == path.read_text(encoding="utf-8")
