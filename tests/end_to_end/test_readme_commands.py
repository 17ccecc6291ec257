"""Commands of the README, run with the files that `make demo` writes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from archc.cli import main
from benchmarks import digits as job
from benchmarks.pages import archc_commands
from tests.docs.examples import ROOT

COMMANDS = [
    command
    for line in re.findall(r"^    (archc .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    for command in archc_commands(line)
]


@pytest.fixture
def checkout(tmp_path: Path, digits: job.Digits, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the specs and with the files that `make demo` writes."""
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    folder = tmp_path / "out" / "digits"
    folder.mkdir(parents=True)
    (folder / job.WEIGHTS).write_bytes(trained.read_bytes())
    job.save_calibration(folder, digits)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_readme_run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [command[0] for command in COMMANDS] == ["compile", "draw"]
    for command in COMMANDS:
        assert main(command) == 0, capsys.readouterr().err
    assert sorted(path.name for path in (checkout / "out").iterdir() if path.is_file()) == [
        "archc_int8.py",
        "cnn.arch",
        "cnn.onnx",
        "cnn.py",
        "cnn.safetensors",
        "report.json",
    ]
    assert (checkout / "resnet18.svg").is_file()


def test_demo_writes_where_the_readme_says() -> None:
    text = (ROOT / "benchmarks" / "digits.py").read_text(encoding="utf-8")
    assert 'default=Path("out/digits")' in text
    assert os.path.join("out", "digits", job.WEIGHTS) in COMMANDS[0]
