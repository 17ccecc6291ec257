"""Imports between rooms: nothing imports upward.

cli ▸ compiler ▸ driver ▸ drawing ▸ language ▸ codegen ▸ passmanager ▸ { ops, interpreter, analysis }
    ▸ ir ▸ operator ▸ weights ▸ types ▸ { diagnostics, partitioning, runtime }
passes ▸ passmanager, ops, interpreter, analysis, ir, operator, weights, types, partitioning
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down; rooms of one level do not import one another.
LEVELS = [
    {"__main__"},
    {"cli"},
    {"__init__"},  # `archc` itself: the names that Python code gets, all loaded when they are used
    {"compiler"},
    {"driver"},
    {"drawing"},
    {"language"},
    {"codegen"},
    {"passmanager"},
    {"ops", "interpreter", "analysis"},
    {"ir"},
    {"operator"},
    {"weights"},
    {"types"},
    {"partitioning", "runtime"},
    {"diagnostics", "garbage_collector", "version"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
FOR_PASSES = {
    *("passes", "passmanager", "ops", "interpreter", "analysis", "ir", "operator"),
    *("weights", "types", "partitioning", "diagnostics"),
}

FILES = sorted((ROOT / "archc").rglob("*.py"))
PASSES = sorted((ROOT / "passes").rglob("*.py"))


def room_of(path: Path) -> str:
    """`cli` for archc/cli/fmt.py, `compiler` for archc/compiler.py."""
    return path.relative_to(ROOT / "archc").with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The rooms of archc that a file imports, within functions too, with lines; those for type checkers left out."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}:{node.lineno}: whence it imports is hard to see"
            # A relative import is of the file's own room.
            names = [f"{node.module}.{alias.name}" for alias in node.names if not node.level]
        else:
            names = []
            todo += ast.iter_child_nodes(node)
        for name in names:
            package, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if package == "archc":
                yield room if room in LEVEL or room == "passes" else "__init__", getattr(node, "lineno", 0)


def test_every_file_has_its_level() -> None:
    assert len(FILES) > 50 and len(PASSES) > 1
    assert {room_of(path) for path in FILES} - set(LEVEL) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path: Path) -> None:
    own = room_of(path)
    upward = [
        f"line {line} imports archc.{room}"
        for room, line in imports(path)
        if room != "__init__" and (room == "passes" or LEVEL[room] < LEVEL[own])
    ]
    assert upward == []


@pytest.mark.parametrize("path", PASSES, ids=lambda path: path.name)
def test_passes_import_only_what_they_may(path: Path) -> None:
    assert [f"line {line} imports archc.{room}" for room, line in imports(path) if room not in FOR_PASSES] == []
