"""Run a page of the documentation in an empty folder, as a reader does.

A page has blocks of five kinds:

- a code block below a line "`name`:" is a file;
- `sh` is run by bash, with the environment's `archc` and `python`; `$CHECKOUT` is the repository;
- `text` right after it is what the commands print: `...` stands for any lines, or for the
  rest of one, and numbers may differ by a share;
- `python` without a name is run too, after those before it, in one process;
- `bash` is shown and not run: commands that need a network or a second machine.
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
"""The largest relative difference of two numbers that count as equal: training differs between CPUs."""

_BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """A code block: the name of its file if it has one, its language, its text."""

    name: str | None
    kind: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, in order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(found["name"], found["kind"], found["text"])


def run_page(
    page: Path, folder: Path, say: Callable[[str], None] = lambda text: None, in_process: bool = False
) -> None:
    """Write the files of a page into a folder, run its commands there, and compare what they print.

    Args:
        say: called with the output of each command.
        in_process: run blocks of `archc` commands alone in this process, which saves importing torch for each.

    Raises:
        SystemExit: a command fails, or prints something else.
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
    """Arguments of the `archc` commands of a block, or none if it has anything else."""
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
    """Find the expected lines among those printed, in their order.

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
