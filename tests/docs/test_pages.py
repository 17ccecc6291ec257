"""Tutorials and guides: their files and commands, run in an empty folder."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks.pages import archc_commands, blocks, compare, run_page
from tests.docs.examples import ROOT

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorial").glob("*.md"))
PAGES = sorted(page for kind in ("how-to", "explanation") for page in (DOCS / kind).glob("*.md"))
SLOW = {"two-machines", "train-a-quantized-network"}
"""Pages that start several processes, or train."""
CELLS = {"use-in-a-notebook"}
"""Pages whose blocks of Python are run in order."""
IPYTHON = "def SVG(text):\n    assert text.startswith('<svg')\n"
WITH_COMMANDS = [
    pytest.param(page, marks=pytest.mark.slow) if page.stem in SLOW else page
    for page in PAGES
    if page.stem in CELLS or any(block.kind == "sh" for block in blocks(page))
]
SHOWN = {
    "docs/how-to/two-machines.md": ["torchrun --nnodes 2"],
    "docs/tutorial/first-network.md": ["python3 -m venv", "pip install"],
    "docs/tutorial/quarter-size.md": ["pip install", "export CHECKOUT"],
}
"""By page, texts in the commands that are not run."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=name_of)
def test_tutorial_runs(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(probe.getsockname()[1]))
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "display.py").write_text(IPYTHON)
    run_page(page, tmp_path, in_process=True)


@pytest.mark.parametrize("page", TUTORIALS + PAGES, ids=name_of)
def test_only_known_commands_are_not_run(page: Path) -> None:
    shown = "".join(block.text for block in blocks(page) if block.kind == "bash")
    known = SHOWN.get(name_of(page), [])
    assert bool(shown) == bool(known)
    assert all(text in shown for text in known)


def test_output_is_compared_line_by_line() -> None:
    printed = "start\na: 1,000 bytes, 94.3%\nend 5 s\n"
    compare("a: 1,010 bytes,  94.3%\n", printed)
    compare("start\n...\nend ...\n", printed)
    for wrong in ("a: 1,100 bytes, 94.3%\n", "start\nend 5 s\n", "b\n"):
        with pytest.raises(SystemExit):
            compare(wrong, printed)


def test_blocks_of_archc_commands_run_in_this_process() -> None:
    assert archc_commands("archc check a.arch\narchc show a.arch \\\n  --passes 'quant'\n") == [
        ["check", "a.arch"],
        ["show", "a.arch", "--passes", "quant"],
    ]
    for other in ("python a.py\n", "archc ops | head\n", 'archc check "$CHECKOUT/a.arch"\n'):
        assert archc_commands(other) == []
