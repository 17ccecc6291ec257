"""What the pages on architectures quote stands in the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, named_blocks

PAGES = sorted((ROOT / "docs" / "architectures").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_quotes_is_in_the_file(page: Path) -> None:
    blocks = list(named_blocks(page))
    assert blocks
    for name, text in blocks:
        assert text in (ROOT / name).read_text(encoding="utf-8"), f"{name} has no such lines:\n{text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
