"""docs/explanation/house.md lists exactly the packages and modules of archc, and links existing files."""

from __future__ import annotations

import re

from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "explanation" / "house.md").read_text(encoding="utf-8")


def test_rooms_are_those_of_the_package() -> None:
    tree = PAGE.partition("\n    archc/\n")[2].partition("\n    passes/")[0]
    named = re.findall(r"^      ([\w.]+?)/?  +\S", tree, re.MULTILINE)
    there = [
        path.name
        for path in (ROOT / "archc").iterdir()
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
    ]
    assert sorted(named) == sorted(there)


def test_files_that_the_page_names_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    files = re.findall(r"`((?:ir|ops|language|codegen|driver|passmanager)/[\w/]+\.py)`", PAGE)
    assert len(links) > 1 and len(files) > 5
    missing = [link for link in links if not (ROOT / "docs" / "explanation" / link).exists()]
    missing += [file for file in files if not (ROOT / "archc" / file).exists()]
    assert missing == []
