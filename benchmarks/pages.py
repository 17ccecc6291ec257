"""Run the examples of a documentation page in an empty folder.

A page has code blocks of five kinds:

- a block after a line "`name`:" is the content of this file;
- bash runs an `sh` block, with the `archc` and `python` of the environment; `$CHECKOUT` is the repository;
- a `text` block is the expected output of the `sh` block before it: `...` matches any lines, or the rest of a line, and
  numbers may differ by a relative tolerance;
- all `python` blocks without a name run in order in one process;
- a `bash` block does not run: its commands need a network or a second machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOLERANCE = 0.03
"""Relative tolerance for equal numbers: training results differ between CPUs."""

_BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """Code block: the name of its file, if any, its language, and its text."""

    name: str | None
    kind: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page in order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(found["name"], found["kind"], found["text"])


def run_page(
    page: Path, folder: Path, say: Callable[[str], None] = lambda text: None, in_process: bool = False
) -> None:
    """Write the files of a page to a folder, run its commands there, and compare their output.

    Args:
        say: called with the output of each command.
        in_process: run blocks that contain only `archc` commands in this process, so that torch is imported only once.

    Raises:
        SystemExit: a command fails, or its output differs.
    """
    printed, script = "", ""
    for block in blocks(page):
        if block.name is not None:
            file = folder / block.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.kind == "sh":
            commands = archc_commands(block.text) if in_process else []
            printed = "".join(_call(command, folder) for command in commands)
            if not commands:
                printed = _run(["bash", "-euo", "pipefail", "-c", block.text], folder)
            say(printed)
        elif block.kind == "python":
            script += block.text
        elif block.kind == "text":
            compare(block.text, printed)
    if script:
        say(_run([sys.executable, "-c", script], folder))


def archc_commands(text: str) -> list[list[str]]:
    """Arguments of the `archc` commands of a block; empty if the block contains other commands."""
    lines = text.replace("\\\n", " ").splitlines()
    if not all(line.startswith("archc ") for line in lines) or re.search(r"[|<>;&$]", text):
        return []
    return [shlex.split(line)[1:] for line in lines]


def _call(arguments: list[str], folder: Path) -> str:
    from archc.cli import main

    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(arguments)
    if status:
        raise SystemExit(f"archc {shlex.join(arguments)}\nends with status {status}:\n{printed.getvalue()}")
    return printed.getvalue()


def _run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "CHECKOUT": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        raise SystemExit(f"{command[-1]}\nends with status {result.returncode}:\n{result.stdout}")
    return result.stdout


def compare(expected: str, printed: str) -> None:
    """Check that the output contains the expected lines in order.

    Raises:
        SystemExit: a line is missing.
    """
    lines = iter(printed.splitlines())
    exact = False
    for wanted in expected.splitlines():
        if wanted.strip() == "...":
            exact = False
            continue
        for line in lines:
            if _alike(wanted, line):
                break
            if exact:
                raise SystemExit(f"the page has\n{wanted}\nand the command printed\n{line}")
        else:
            raise SystemExit(f"the page has\n{wanted}\nwhich is missing from\n{printed}")
        exact = True


def _alike(wanted: str, line: str) -> bool:
    if wanted.endswith("..."):
        return line.startswith(wanted.removesuffix("...").rstrip())
    if _NUMBER.sub("#", " ".join(wanted.split())) != _NUMBER.sub("#", " ".join(line.split())):
        return False
    pairs = zip(_NUMBER.findall(wanted), _NUMBER.findall(line), strict=True)
    return all(_close(*(float(number.replace(",", "")) for number in pair)) for pair in pairs)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))
