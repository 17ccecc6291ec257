"""Pages on architectures quote existing lines of files, and have the figures of the specs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import archc
from archc.analysis.cost import cost
from archc.cli import main
from archc.diagnostics import Diagnostics
from archc.driver.parsing import open_module
from tests.docs.examples import ROOT, named_blocks
from tests.specs.siblings import SPECS

PAGES = sorted((ROOT / "docs" / "explanation" / "architectures").glob("*.md"))
NAMES = {path.stem for path in SPECS.glob("*.arch")}

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@page_by_page
def test_quoted_lines_are_in_the_file(page: Path) -> None:
    blocks = list(named_blocks(page))
    assert blocks
    for name, text in blocks:
        assert text in (ROOT / name).read_text(encoding="utf-8"), f"{name} has no such lines:\n{text}"


@page_by_page
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@page_by_page
def test_the_parameters_on_a_page_are_those_of_the_specs(page: Path) -> None:
    for name, count in re.findall(r"^\| \[`(\w+)`\]\([^)]+\) \| ([\d,]+) \|", page.read_text("utf-8"), re.MULTILINE):
        assert f"{cost(archc.parse(SPECS / f'{name}.arch')).parameters:,}" == count, name


@page_by_page
def test_named_attributes_belong_to_the_spec(page: Path) -> None:
    for name, changes in re.findall(
        r"^\| \[`(\w+)`\]\([^)]+\) \| [\d,]+ \| ([^|]*) \|$", page.read_text("utf-8"), re.MULTILINE
    ):
        module = open_module(SPECS / f"{name}.arch", Diagnostics())
        attributes = {attribute.name.name for attribute in module.definitions[name].attributes}
        assert set(re.findall(r"`(\w+)`", changes)) <= attributes, name


@page_by_page
def test_the_sweeps_on_a_page_are_those_of_the_specs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps = re.findall(
        r"^    archc show (specs/\S+ --sweep (\w+)=.*)\n\n\|.*\n\|.*\n((?:\|.*\n)+)",
        page.read_text("utf-8"),
        re.MULTILINE,
    )
    for command, name, table in sweeps:
        file, *options = command.split()
        assert main(["show", str(ROOT / file), *options, "--json"]) == 0
        points = json.loads(capsys.readouterr().out)["points"]
        rows = [[point["value"], point["parameters"], point["multiply_adds"]] for point in points]
        assert [[f"{cell:,}" for cell in row] for row in rows] == [
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        ], f"{command} ({name})"


def test_the_page_lists_the_whole_library() -> None:
    page = (ROOT / "docs" / "explanation" / "architectures" / "README.md").read_text(encoding="utf-8")
    library = page.partition("## The library")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", library, re.MULTILINE)
    assert {file for file, _ in rows} == {path.stem for path in (ROOT / "archc" / "language" / "std").glob("*.arch")}
    for file, blocks in rows:
        text = (ROOT / "archc" / "language" / "std" / f"{file}.arch").read_text(encoding="utf-8")
        assert set(re.findall(r"`(\w+)`", blocks)) == set(re.findall(r"^block (\w+)", text, re.MULTILINE)), file


def test_every_spec_is_explained_on_a_page_of_its_family() -> None:
    pages = [page.read_text(encoding="utf-8") for page in PAGES if page.stem != "README"]
    missing = {name for name in NAMES if not any(f"specs/{name}.arch" in text for text in pages)}
    assert missing == set()
