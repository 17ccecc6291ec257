"""Worked examples for contributors: the files work in archc, and their tests pass."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, python, write_examples

PAGE = ROOT / "CONTRIBUTING.md"
GUIDES = [ROOT / "docs" / "how-to" / name for name in ("add-an-operator.md", "add-a-pass.md")]

TABLES = {"STATEMENTS": "statements.py", "CONTROL_FLOW": "control_flow.py", "EXPRESSIONS": "expressions.py"}
"""Tables of elaboration that the page names, with their files."""

# Imports the files as if they were in the repository.
PLUGIN = """
import archc.ops, archc.passes
archc.ops.__path__.append("{folder}/archc/ops")
archc.passes.__path__.append("{folder}/passes")
import archc.ops.layer_scale, archc.ops.center, archc.passes.clip
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contributing")
    names = [name for page in GUIDES for name in write_examples(page, folder)]
    assert names == [
        "archc/ops/layer_scale.py",
        "tests/ops/test_layer_scale.py",
        "archc/ops/center.py",
        "tests/ops/test_center.py",
        "specs/scaled.arch",
        "passes/clip.py",
        "pyproject.toml",
        "tests/passes/test_clip.py",
    ]
    (folder / "contributed.py").write_text(PLUGIN.format(folder=folder))
    return folder


@pytest.mark.parametrize(
    "test", ["tests/ops/test_layer_scale.py", "tests/ops/test_center.py", "tests/passes/test_clip.py"]
)
def test_tests_of_the_examples_pass(examples: Path, test: str) -> None:
    # The `tests` folder of the examples must not hide the one of the repository, which has the harness.
    alone = examples / Path(test).name
    alone.write_text((examples / test).read_text())
    options = ["-p", "no:cacheprovider", "-p", "contributed", "--rootdir", examples, "--import-mode=importlib"]
    path = examples / "plugin"
    path.mkdir(exist_ok=True)
    (path / "contributed.py").write_text((examples / "contributed.py").read_text())
    assert "3 passed" in python("-m", "pytest", *options, alone, path=path)


def test_the_examples_work_together_in_every_program(examples: Path) -> None:
    python(
        "-m", "archc", "compile", "--load", examples / "contributed.py", examples / "specs/scaled.arch", "--check",
        "--passes", "clip(1.5)", "-o", examples / "out",
    )  # fmt: skip
    assert "self.scale = LayerScale()" in (examples / "out/scaled.py").read_text()
    assert "scale: layer_scale(features = 16)" in (examples / "out/scaled.arch").read_text()


def test_entry_point_names_the_pass(examples: Path) -> None:
    declared = tomllib.loads((examples / "pyproject.toml").read_text())["project"]["entry-points"]["archc.passes"]
    assert declared == {"clip": "archc.passes.clip:Clip"}


def test_files_of_the_language_exist() -> None:
    """Files, tables and the command in the section "Change the language" exist."""
    section = PAGE.read_text().partition("\n## Change the language\n")[2].partition("\n## ")[0]
    sources = re.findall(r"`((?:syntax|elaboration|printing)/[\w.]+)`", section)
    others = re.findall(r"`((?:tests|docs)/[\w/.-]+)`", section)
    assert len(sources) > 12 and len(others) > 8
    missing = [name for name in sources if not (ROOT / "archc" / "language" / name).is_file()]
    assert missing + [name for name in others if not (ROOT / name).is_file()] == []
    tables = {name: (ROOT / "archc/language/elaboration" / file).read_text() for name, file in TABLES.items()}
    assert all(f"`{name}`" in section and f"\n{name}" in text for name, text in tables.items())
    assert "python -m archc.language.syntax.tables" in section


def test_commands_of_the_page_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("test", "test-slow", "lint", "types", "format", "golden", "reference", "bench", "demo"):
        assert f"`make {target}`" in PAGE.read_text()
        assert f"\n{target}: " in makefile
