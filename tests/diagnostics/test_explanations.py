"""Explanations exist for all codes; examples give the code, and corrections give no diagnostic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc.cli.explanations import FOLDER, GROUPS, Explanation, Run, explanations
from tests.diagnostics.cases import BUILT, all_cases, perform
from tests.diagnostics.emitted import COMPOSED, emitted

ALL = [one for members in explanations().values() for one in members]
SHOWN = [one for one in ALL if one.example is not None]

NOT_SHOWN = {
    "calibration-truncated": "numpy and zipfile find most such files malformed",
    "check-crashed": "needs a program that crashes",
    "check-failed": "needs an error of an emitter, and another process",
    "file-too-large": "needs 64 MiB",
    "file-unreadable": "needs a file without permissions, which root can read all the same",
    "measurement-failed": "needs another process",
    "onnx-invalid": "needs an error of an emitter",
    "onnx-name": "cannot be written in a text",
    "operator-not-loadable": "needs a broken package",
    "output-disk-full": "needs a full disk",
    "output-not-finite": "needs another process",
    "pass-broke-graph": "needs an error of a pass",
    "pass-not-loadable": "needs a broken package",
    "plot-needs-matplotlib": "needs an environment without matplotlib",
    "plot-not-written": "takes a second to import matplotlib",
    "report-not-printed": "needs a full disk",
    "scratch-full": "needs a full disk",
    "scratch-not-writable": "needs 32 MB of weights and a read-only folder",
    "system-error": "needs an error of the system",
    "target-not-loadable": "needs a broken package",
    "text-too-long": "needs 64 MiB",
    "too-many-mistakes": "has a hundred other diagnostics before it",
    "too-many-warnings": "has a hundred other diagnostics before it",
    "torch-too-old": "needs another PyTorch",
    "unreadable-file": "needs a file without permissions, which root can read all the same",
}
"""Codes without an example, each with the reason."""


def codes_in(output: str) -> set[str]:
    return set(re.findall(r"^(?:error|warning)\[([a-z0-9-]+)\]", output, re.MULTILINE))


def test_every_code_has_an_explanation_and_no_other() -> None:
    places = emitted()
    explained = {one.code for one in ALL}
    missing = [f"{code} ({place})" for code, place in sorted(places.items()) if code not in explained]
    assert missing == [], f"write {FOLDER.name}/GROUP/CODE.md for each, as `archc/cli/explanations.py` shows"
    assert sorted(explained - set(places)) == [], "no diagnostic has these codes any more: remove their files"
    assert {code for codes in COMPOSED.values() for code in codes} <= set(places), "unused entries of `COMPOSED`"


def test_codes_of_all_recorded_diagnostics_are_explained() -> None:
    """The recorded outputs come from real runs, so they may have codes that `emitted` misses."""
    outputs = [*(case.example.output for case in all_cases()), *(path.read_text("utf-8") for path in BUILT.iterdir())]
    recorded = set().union(*map(codes_in, outputs))
    assert len(recorded) > 140
    assert recorded - {one.code for one in ALL} == set()


def test_every_file_is_of_a_group_and_no_code_of_two() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(GROUPS)
    assert len({path.stem for path in files}) == len(files) == len(ALL)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.code)
def test_form(one: Explanation) -> None:
    assert one.summary[0].isupper() or one.summary[0] == "`"
    assert len(one.summary) <= 76 and not one.summary.endswith((".", "?"))
    sentences = len(re.findall(r"[.!?](?=\s|$)", one.text))
    assert 1 <= sentences <= 4
    assert one.way.endswith((".", ":"))
    assert one.way.endswith(":") == bool(one.correction.files or one.correction.commands)
    assert max(map(len, [*one.text.splitlines(), *one.way.splitlines()])) <= 120


def test_codes_without_an_example_are_few() -> None:
    assert {one.code for one in ALL if one.example is None} == set(NOT_SHOWN)


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.code)
def test_the_example_yields_that_code_alone(one: Explanation) -> None:
    """`test_cases.py` checks that a run gives this output."""
    assert one.example is not None
    assert codes_in(one.example.output) == {one.code}


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.code)
def test_the_correction_is_accepted_without_a_diagnostic(
    one: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.example is not None
    monkeypatch.chdir(tmp_path)
    commands = one.correction.commands or one.example.commands
    status, output = perform(Run({**one.example.files, **one.correction.files}, commands), capsys)
    assert status == 0, output
    assert codes_in(output) == set()
