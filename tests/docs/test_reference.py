"""The reference pages are what the classes say."""

from __future__ import annotations

import pytest

from archc.cli.reference import pages
from archc.ops import OPERATORS
from archc.passmanager import pass_names
from tests.docs.examples import ROOT


@pytest.mark.parametrize("name", ["dtypes.md", "operators.md", "passes.md"])
def test_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == pages()[name], "run `make reference`"


def test_every_operator_and_pass_is_there() -> None:
    headings = {name: {line.lstrip("# ") for line in text.splitlines()} for name, text in pages().items()}
    shipped = {name for name, cls in OPERATORS.items() if cls.__module__.startswith("archc.ops.")}
    assert headings["operators.md"] >= shipped
    assert headings["passes.md"] >= set(pass_names()) & {"simplify", "fold", "lowrank", "quant", "prune"}
