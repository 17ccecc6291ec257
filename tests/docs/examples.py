"""Examples of a page: the code blocks below a file name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
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


def install_example(folder: Path, module: str) -> Path:
    """Move a module of an example into a folder for `sys.path`, with the metadata of its package."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    site = folder / "site-packages"
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups)
    )
    (folder / module).rename(site / module)
    return site


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
