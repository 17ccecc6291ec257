"""Examples of a page: the code blocks below a file name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^`(?P<name>[^`\n]+)`:\n\n```\w*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def named_blocks(page: Path) -> list[tuple[str, str]]:
    """The file names and the texts of the examples of a page."""
    return [(block["name"], block["text"]) for block in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def write_examples(page: Path, folder: Path) -> list[str]:
    """Write each example into a file of its name in a folder; return the names."""
    names = []
    for name, text in named_blocks(page):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        names.append(name)
    return names


def python(*arguments: str | Path, path: Path | None = None, folder: Path = ROOT) -> str:
    """Run Python in a separate process, which keeps definitions out of this one; return its output.

    Args:
        path: the folder in which Python looks first for modules.
    """
    places = [*([str(path)] if path is not None else []), str(ROOT)]
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
