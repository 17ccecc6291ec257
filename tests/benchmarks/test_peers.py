"""Line counts of reference implementations, and their tables in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.lengths import PAGES, python_lines, renewed, spec_lines
from benchmarks.peers import PEERS, Peer
from tests.docs.examples import python

SOURCE = '''
"""A file."""
import torch
TABLE = (1, 2)
OTHER = (3, 4)
small = 5

class Part:
    """Documented."""

    def forward(self, x):
        # explained
        return helper(x)

class Unused:
    pass

def helper(x):
    return deeper(x) + TABLE[0]

def deeper(x):

    return (x +
            small)

def apart():
    return OTHER, Unused
'''


def test_functions_and_tables_are_followed_and_classes_are_not() -> None:
    parts = Peer("package", SOURCE, ("Part",)).parts()
    assert sorted(part.split()[1].split("(")[0].rstrip(":") for part in parts) == ["=", "Part", "deeper", "helper"]
    assert sum(map(python_lines, parts)) == 3 + 2 + 3 + 1
    assert len(Peer("package", SOURCE, ("apart",)).parts()) == 2


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the table of lengths by spec; empty if the text has no such table."""
    table = re.search(r"^\| lines of code .*\n\|[- |:]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in (table[1].splitlines() if table else ())]
    return {line[0].strip("`"): line[1:] for line in lines}


def test_all_specs_with_a_peer_are_in_the_table() -> None:
    assert list(rows(PAGES[0].read_text(encoding="utf-8"))) == list(PEERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_lengths_of_the_specs(page: Path) -> None:
    whole = rows(PAGES[0].read_text(encoding="utf-8"))
    for spec, figures in rows(page.read_text(encoding="utf-8")).items():
        assert figures == whole[spec], f"docs/reference/benchmarks.md says otherwise of {spec}"
        assert figures[:2] == [str(count) for count in spec_lines(spec)], (
            f"run `python -m benchmarks.lengths {spec} --write`"
        )


def test_writing_changes_the_rows_of_the_table_and_nothing_else() -> None:
    page = "| `a` | 1 |\n\n| lines of code | spec |\n|---|---:|\n| `a` | 1 |\n| `b` | 2 |\n\n| `a` | 1 |\n"
    assert renewed(page, [["`a`", "5"], ["`c`", "6"]]) == page.replace("| `a` | 1 |\n| `b`", "| `a` | 5 |\n| `b`")


@pytest.mark.slow
def test_the_table_is_what_the_script_prints() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    assert rows(page) == rows(python("-m", "benchmarks.lengths"))
