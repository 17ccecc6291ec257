"""A text gets the same diagnostics from every command that reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc.cli import main
from tests.diagnostics.cases import Case, all_cases

PIPELINE = """
pipeline edge = quantt -> fold
pipeline again = again
pipeline small = quant(leest = 1) -> lowrank(rank = 'x') -> again(1)
pipeline late = quant -> prune(0.5)
devices box { a = cud(0) }
model net {
    input x: f32[N, 8]
    unused = x -> relu
    output y = x -> fc: linear(8, in_features = 9)
}
"""

LATER = {"already-divided", "not-emittable", "stage-size"}
"""Cases whose texts pass `archc check`: a pass or a target rejects them later."""


def said(command: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The errors and warnings that a command prints."""
    capsys.readouterr()
    main(command)
    blocks = capsys.readouterr().err.split("\n\n")
    return {block for block in blocks if re.match(r"(error|warning)\[(?!assumed-size)", block)}


def check_all(file: str, options: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = said(["check", file, *options], capsys)
    written = {"show": [], "draw": ["-o", str(out / "p.svg")], "compile": ["-o", str(out), "--weights", "none"]}
    for command, more in written.items():
        assert said([command, file, *options, *more], capsys) == expected, command


@pytest.mark.parametrize(
    "case", [case for case in all_cases() if case.path.stem not in LATER], ids=lambda case: case.path.stem
)
def test_golden_cases(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in case.texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, text in case.texts.items():
        models = re.findall(r"^\s*model (\w+)", text, re.MULTILINE)
        for model in dict.fromkeys(models):
            check_all(name, ["--model", model], tmp_path / "out", capsys)


def test_mistakes_in_pipelines_devices_and_models_are_reported_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.arch"
    file.write_text(PIPELINE)
    assert len(said(["check", str(file)], capsys)) == 8
    check_all(str(file), [], tmp_path / "out", capsys)
