"""Imports between rooms and between files, numbers of files in a room, and unique class names.

A room is a package of archc. `LEVELS` lists the rooms; a room imports rooms of lower levels only. Imports under
`TYPE_CHECKING` and in functions count, too.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]

LEVELS = [
    {"__main__"},
    {"cli"},
    {"__init__"},  # `archc/__init__.py`: imports its public names lazily
    {"shrinking"},
    {"compiler"},
    {"driver"},
    {"drawing"},
    {"targets"},
    {"language"},
    {"codegen"},
    {"passmanager"},
    {"compression"},
    {"ops", "interpreter", "analysis"},
    {"ir"},
    {"declaration"},
    {"weights"},
    {"types"},
    {"partitioning", "runtime", "entry_points", "extension_failure"},
    {"diagnostics"},
    {"frozen_dataclass", "garbage_collector", "version"},
]
"""Rooms, highest level first. Rooms of the same level do not import one another."""

FLOORS = {
    "language": [{"printing"}, {"elaboration"}, {"syntax"}],
    "compression": [{"quantization", "pruning", "factorization"}, {"calibration"}],
    "codegen": [{"target"}, {"pipeline"}, {"torch", "onnx"}, {"outline"}, {"templates", "python_source"}],
}
"""Levels of the subpackages of a room, highest first."""

IMPORTED_BY_PASSES = {
    *("passes", "passmanager", "compression", "ops", "interpreter", "analysis", "ir", "declaration"),
    *("weights", "types", "partitioning", "diagnostics"),
}
MOST_FILES = 32
"""Maximum number of files in a room, except `ops`, which has a file for each family of operators."""

FILES = sorted((ROOT / "archc").rglob("*.py"))
PASSES = sorted((ROOT / "passes").rglob("*.py"))


def module_of(path: Path) -> str:
    """Name of the module of a file: `archc.cli.fmt` for archc/cli/fmt.py, `archc.ir` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "archc" else ("archc", *parts))
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in (*FILES, *PASSES)}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """The modules of archc that a file imports, with lines."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "archc"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}:{node.lineno}: import by the absolute name"
            base = ".".join(filter(None, (package, node.module))) if node.level else str(node.module)
            whole = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in whole if base.partition(".")[0] == "archc"]
        else:
            continue
        yield from ((name, node.lineno) for name in names)


def level_of(module: str) -> tuple[int, int]:
    """Level of a module's room, and level within that room."""
    _, *parts = module.split(".")
    room = parts[0] if parts else "__init__"
    floors = FLOORS.get(room, [])
    floor = next((number for number, rooms in enumerate(floors) if parts[1:2] and parts[1] in rooms), -1)
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms), floor


def room_of(module: str) -> str:
    """Room of a module: `codegen.torch` for archc.codegen.torch.emit, `ir` for archc.ir.graph."""
    _, *parts = module.split(".")
    return ".".join(parts[:2] if parts and parts[0] in FLOORS else parts[:1]) or "__init__"


def test_every_file_has_its_level() -> None:
    assert len(FILES) > 50 and len(PASSES) > 1
    for path in FILES:
        level_of(module_of(path))


def test_every_room_of_the_table_exists() -> None:
    rooms = {room for level in LEVELS for room in level} | {
        f"{room}/{part}" for room, floors in FLOORS.items() for floor in floors for part in floor
    }
    missing = [r for r in rooms if not ((ROOT / "archc" / r).is_dir() or (ROOT / "archc" / f"{r}.py").is_file())]
    assert missing == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path: Path) -> None:
    own = module_of(path)
    wrong = [
        f"line {line} imports {name}"
        for name, line in imports(path)
        if own != "archc"
        and room_of(name) != room_of(own)
        and (name.startswith("archc.passes") or level_of(name) <= level_of(own))
    ]
    assert wrong == []


def test_no_imports_form_a_circle() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, path in MODULES.items():
        graph.add_edges_from((module, name) for name, _ in imports(path) if name in MODULES and name != module)
    assert graph.number_of_edges() > 500
    assert [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


@pytest.mark.parametrize("path", PASSES, ids=lambda path: path.name)
def test_passes_import_only_what_they_may(path: Path) -> None:
    wrong = [
        f"line {line} imports {name}" for name, line in imports(path) if name.split(".")[1] not in IMPORTED_BY_PASSES
    ]
    assert wrong == []


def test_no_room_is_crowded() -> None:
    files = Counter(path.parent for path in FILES)
    crowded = {str(room.relative_to(ROOT)): count for room, count in files.items() if count > MOST_FILES}
    assert set(crowded) - {"archc/ops"} == set()


def test_no_two_classes_share_a_name() -> None:
    """No class name is used twice, except in `runtime`, whose classes have the names of emitted programs."""
    places: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        if room_of(module) == "runtime":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}
