"""Lists in `pyproject.toml`: all packages, and all files in packages that are not Python.

All other tests run in an editable install, which also has the files that the lists lack.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def setuptools() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["setuptools"]


def folder_of(package: str) -> Path:
    """The folder of a package in the repository."""
    return ROOT / setuptools()["package-dir"].get(package, package.replace(".", "/"))


def test_every_package_is_listed() -> None:
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "archc").rglob("__init__.py")}
    assert set(setuptools()["packages"]) == there | {"archc.passes"}
    assert len(there) > 10 and (folder_of("archc.passes") / "__init__.py").exists()


def test_every_other_file_is_listed() -> None:
    there = {
        file
        for file in (ROOT / "archc").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and not file.name.startswith(".")
    }
    listed = {
        file
        for package, patterns in setuptools()["package-data"].items()
        for pattern in patterns
        for file in folder_of(package).glob(pattern)
    }
    assert there and there == listed
