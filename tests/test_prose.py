"""Prose of archc, as far as a test can hold it: docstrings, and words that are out of use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
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


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def documented(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings with their lines: of modules, classes, functions, and of the variables of modules and classes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Documented):
            if (text := ast.get_docstring(node)) is not None:
                yield getattr(node, "lineno", 1), text
            for before, after in pairwise(node.body):
                match before, after:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text))):
                        yield after.lineno, text


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_docstrings_begin_with_a_noun_phrase_or_a_verb(path: Path) -> None:
    wrong = []
    for line, text in documented(path):
        first = text.splitlines()[0]
        words = re.findall(r"\w+", first)
        if len(first) > LONGEST_FIRST_LINE or not words or words[0].lower() in NO_FIRST_WORDS:
            wrong.append((line, first))
    assert wrong == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *PAGES], ids=name)
def test_words_that_are_out_of_use(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [(number, line.strip()) for number, line in enumerate(lines, 1) if ARCHAIC.search(line)] == []


@cache
def classes() -> dict[str, ast.ClassDef]:
    """The classes of archc by name; `tests/test_layers.py` holds that no two share one."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


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
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield node.name
            if isinstance(node, ast.ClassDef):
                for method, part in methods_of(node).items():
                    if ast.get_docstring(part) is None and not overrides(node, method):
                        yield f"{node.name}.{method}"


PACKAGE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "benchmarks"]


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_public_names_have_docstrings(path: Path) -> None:
    assert list(undocumented(path)) == []


def test_the_test_finds_wrong_prose(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('"""Whether it stands."""\n\ndef public():\n    return 1\n')
    with pytest.raises(AssertionError):
        test_docstrings_begin_with_a_noun_phrase_or_a_verb(wrong)
    with pytest.raises(AssertionError):
        test_words_that_are_out_of_use(wrong)
    assert list(undocumented(wrong)) == ["public"]
    variable = tmp_path / "variable.py"
    variable.write_text('class A:\n    x = 1\n    """How large it is."""\n')
    with pytest.raises(AssertionError):
        test_docstrings_begin_with_a_noun_phrase_or_a_verb(variable)
