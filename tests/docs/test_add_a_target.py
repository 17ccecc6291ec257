"""Example of docs/how-to/add-a-target.md, as a loaded file and as an installed package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, install_example, python, write_examples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert write_examples(ROOT / "docs/how-to/add-a-target.md", tmp_path) == [
        "torchscript.py",
        "net.arch",
        "pyproject.toml",
        "test_torchscript.py",
    ]
    return tmp_path


def compiled(folder: Path, *options: str | Path, path: Path | None = None) -> dict[str, object]:
    """Compile the example with `--check`, and return the report."""
    arguments = ["compile", folder / "net.arch", "--emit", "torchscript,arch", "--check", "-o", folder / "out"]
    report: dict[str, object] = json.loads(python("-m", "archc", *arguments, "--json", *options, path=path))
    return report


def assert_written(folder: Path, report: dict[str, object]) -> None:
    assert report["check"]["errors"].keys() == {"torchscript"}  # type: ignore[index]
    assert report["files"].keys() == {"net.arch", "net.pt", "net.safetensors"}  # type: ignore[attr-defined]
    assert all((folder / "out" / name).exists() for name in report["files"])  # type: ignore[attr-defined]


def test_the_tests_of_the_example_pass(folder: Path) -> None:
    options = ["-p", "no:cacheprovider", "--rootdir", folder]
    assert "6 passed" in python("-m", "pytest", *options, folder / "test_torchscript.py", path=folder)


def test_loaded_file(folder: Path) -> None:
    load = ("--load", folder / "torchscript.py")
    assert_written(folder, compiled(folder, *load))
    before = (folder / "out" / "net.pt").read_bytes()
    compiled(folder, *load)
    assert (folder / "out" / "net.pt").read_bytes() == before, "equal inputs give equal bytes"


def test_installed_package(folder: Path) -> None:
    assert_written(folder, compiled(folder, path=install_example(folder, "torchscript.py")))


def test_stages_are_written_beside_those_of_other_targets(folder: Path) -> None:
    arguments = ["--emit", "onnx,torchscript", "--passes", "partition(2)", "--sizes", "N=8", "--check"]
    command = ["compile", folder / "net.arch", "--load", folder / "torchscript.py", *arguments, "--json"]
    report = json.loads(python("-m", "archc", *command, "-o", folder / "out"))
    assert {"net.pt", "net_stage0.pt", "net_stage1.pt", "net_stage0.onnx"} <= report["files"].keys()
    names = ("onnxruntime", "torchscript")
    assert report["check"]["errors"].keys() == {f"{name}{kind}" for name in names for kind in ("", " stages")}
    assert [stage["files"] for stage in report["stages"]] == [
        [f"net_stage{number}.onnx", f"net_stage{number}.pt", f"net_stage{number}.safetensors"] for number in (0, 1)
    ]


def test_steps_of_the_page_are_those_of_archc(folder: Path) -> None:
    page = (ROOT / "docs/how-to/add-a-target.md").read_text()
    assert "`archc/targets/registry.py`" in page and "`BUILT_IN`" in page
    assert "BUILT_IN = (" in (ROOT / "archc/targets/registry.py").read_text()
