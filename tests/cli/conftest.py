"""Fixtures that run the command line in the process of the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archc.cli import main
from archc.declaration import OPERATORS
from archc.passmanager.base import REGISTERED

SPECS = Path(__file__).parents[2] / "specs"


@dataclass(frozen=True)
class Result:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | os.PathLike[str]) -> Result:
        capsys.readouterr()
        status = main([os.fspath(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Function that writes a file into the folder of the test."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def plugins() -> Iterator[None]:
    """Remove the operators and passes that a test defines."""
    tables: list[dict[str, Any]] = [OPERATORS, REGISTERED]
    before = [dict(table) for table in tables]
    yield
    for table, known in zip(tables, before, strict=True):
        table.clear()
        table.update(known)
