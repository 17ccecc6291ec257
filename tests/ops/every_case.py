"""The cases of all operators, for tests of properties that every operator has."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.ops.harness import Case


def every_case() -> list[Case]:
    """The cases in the lists of the modules `tests/ops/test_*.py`, in the order of the modules."""
    modules = [import_module(f"tests.ops.{path.stem}") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    lists = [found for module in modules for found in vars(module).values() if isinstance(found, list)]
    return [one for found in lists for one in found if isinstance(one, Case)]
