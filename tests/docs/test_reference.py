"""Reference pages are up to date and complete."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

import archc
import archc.declaration.parameter
import archc.ir.match
from archc.cli import command_line_page, make_parser
from archc.cli.reference import pages
from archc.declaration import OPERATORS
from archc.ir.rewriter import Rewriter
from archc.passmanager import pass_names
from tests.docs.examples import ROOT


@pytest.mark.parametrize("name", pages())
def test_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == pages()[name], "run `make reference`"


def test_every_operator_and_pass_is_there() -> None:
    headings = {name: {line.lstrip("# ") for line in text.splitlines()} for name, text in pages().items()}
    shipped = {name for name, cls in OPERATORS.items() if cls.__module__.startswith("archc.ops.")}
    assert headings["operators.md"] >= shipped
    assert headings["passes.md"] >= set(pass_names()) & {"simplify", "fold", "lowrank", "quant", "prune"}


def test_every_command_and_exported_name_is_there() -> None:
    commands = {name for name, _ in command_line_page.commands(make_parser())}
    found = pages()
    assert set(re.findall(r"^## archc (\w+)", found["command-line.md"], re.MULTILINE)) == commands
    assert set(re.findall(r"^### archc\.(\w+)$", found["python.md"], re.MULTILINE)) == set(archc.__all__)


@pytest.mark.parametrize("module", [archc.ir.match, archc.declaration.parameter])
def test_every_function_of_the_modules_for_extensions_is_there(module: ModuleType) -> None:
    page = pages()["python.md"]
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == module.__name__ and not name.startswith("_"):
            assert f"### {module.__name__}.{name}\n" in page


def test_every_method_of_the_rewriter_is_there() -> None:
    page = pages()["python.md"]
    for name, method in inspect.getmembers(Rewriter, inspect.isfunction):
        if not name.startswith("_"):
            assert f"| `{name}(" in page
            for described in re.findall(r"^    (\w+): ", inspect.getdoc(method) or "", re.MULTILINE):
                assert re.search(rf"^#### Rewriter\.{name}\n\n```text\n[^#]*^    {described}: ", page, re.MULTILINE)
