"""Prose of archc, as far as a test can hold it: docstrings, and words that are out of use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("archc", "passes", "benchmarks") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name)
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "golden").glob("*.md")),
    *sorted((ROOT / "specs").rglob("*.arch")),
    *sorted(
        path for path in (ROOT / "archc").rglob("*") if path.suffix in (".jinja", ".lark", ".arch", ".md", ".toml")
    ),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")),
]

NO_FIRST_WORDS = {"what", "where", "whether", "that", "who", "how", "which"}
LONGEST_FIRST_LINE = 100

ARCHAIC = re.compile(
    r"\b(?:stands?|standing for|lies|hangs on|behind|whence|whither|wherein|whereof|thereof|hitherto|heretofore|"
    r"whoever|whosoever|nobody|somebody|lest|albeit|nought|mend|mends|mended|amongst|whilst|unto|ere|betwixt|"
    r"forthwith|is had|are had|be had|is dear|the other way round)\b",
    re.IGNORECASE,
)


def by_folder(paths: Iterable[Path]) -> list[list[Path]]:
    """The paths, grouped by folder: one test for each folder takes less time than one for each file."""
    return [list(group) for _, group in groupby(sorted(paths), key=lambda path: path.parent)]


def folder(paths: list[Path]) -> str:
    return str(paths[0].parent.relative_to(ROOT))


Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def tree_of(path: Path) -> ast.Module:
    """Syntax tree of a file; it is not cached, because many trees in memory slow down the garbage collector."""
    return ast.parse(path.read_text(encoding="utf-8"))


def definitions(node: ast.AST) -> Iterator[Documented]:
    """The node and all definitions in it; expressions are not walked."""
    if isinstance(node, Documented):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from definitions(child)


def documented(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings with their lines: of modules, classes, functions, and of the variables of modules and classes."""
    for node in definitions(tree_of(path)):
        if (text := ast.get_docstring(node)) is not None:
            yield getattr(node, "lineno", 1), text
        for before, after in pairwise(node.body):
            match before, after:
                case ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text))):
                    yield after.lineno, text


def wrong_first_lines(path: Path) -> Iterator[str]:
    for line, text in documented(path):
        first = text.splitlines()[0]
        words = re.findall(r"\w+", first)
        if len(first) > LONGEST_FIRST_LINE or not words or words[0].lower() in NO_FIRST_WORDS:
            yield f"{path}:{line}: {first}"


@pytest.mark.parametrize("paths", by_folder([*SOURCES, *TESTS]), ids=folder)
def test_docstrings_begin_with_a_noun_phrase_or_a_verb(paths: list[Path]) -> None:
    assert [line for path in paths for line in wrong_first_lines(path)] == []


def archaic(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    for found in ARCHAIC.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield f"{path}:{line}: {found.group()}"


@pytest.mark.parametrize("paths", by_folder([*SOURCES, *TESTS, *PAGES]), ids=folder)
def test_words_that_are_out_of_use(paths: list[Path]) -> None:
    assert [line for path in paths for line in archaic(path)] == []


@cache
def classes() -> dict[str, ast.ClassDef]:
    """The classes of archc by name; `tests/test_layers.py` holds that no two share one."""
    nodes = (node for path in SOURCES for node in definitions(tree_of(path)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def methods_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    parts = [part for each in node.body for part in (each.body if isinstance(each, ast.If) else [each])]
    return {part.name: part for part in parts if isinstance(part, ast.FunctionDef) and part.name[0] != "_"}


def overrides(node: ast.ClassDef, method: str) -> bool:
    """Return whether a base has the method; one from outside archc is taken to have it."""
    for base in map(ast.unparse, node.bases):
        plain = base.partition("[")[0]
        if plain.rpartition(".")[2] not in classes() or plain.startswith("nn."):
            if plain not in ("ABC", "Protocol", "Generic", "NamedTuple", "Enum", "Exception"):
                return True
        elif method in methods_of(classes()[plain]) or overrides(classes()[plain], method):
            return True
    return False


def undocumented(path: Path) -> Iterator[str]:
    """Public classes, functions and methods without a docstring, overrides left out."""
    for node in tree_of(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield node.name
            if isinstance(node, ast.ClassDef):
                for method, part in methods_of(node).items():
                    if ast.get_docstring(part) is None and not overrides(node, method):
                        yield f"{node.name}.{method}"


PACKAGE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "benchmarks"]


@pytest.mark.parametrize("paths", by_folder(PACKAGE), ids=folder)
def test_public_names_have_docstrings(paths: list[Path]) -> None:
    assert [f"{path}: {name}" for path in paths for name in undocumented(path)] == []


def test_the_test_finds_wrong_prose(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('"""Whether it stands."""\n\ndef public():\n    return 1\n')
    assert list(wrong_first_lines(wrong)) == [f"{wrong}:1: Whether it stands."]
    assert list(archaic(wrong)) == [f"{wrong}:1: stands"]
    assert list(undocumented(wrong)) == ["public"]
    variable = tmp_path / "variable.py"
    variable.write_text('class A:\n    x = 1\n    """How large it is."""\n')
    assert list(wrong_first_lines(variable)) == [f"{variable}:3: How large it is."]
