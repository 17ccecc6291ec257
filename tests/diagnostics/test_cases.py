"""Outputs for invalid texts equal those in the reviewed files of the cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.diagnostics.cases import FOLDER, Case, all_cases, perform

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
def test_case(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_golden: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output = perform(case.example, capsys)
    if update_golden:
        case.update(output)
    else:
        assert output == case.example.output
    assert "Traceback" not in output
    assert status == expected_status(output)
    if (
        case.path.parent == FOLDER
    ):  # examples of explanations may write files: a script writes inputs, and warnings do not prevent outputs
        files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        assert files == set(case.example.files), "something was written"


def expected_status(output: str) -> int:
    """The exit status that an output implies: 2 for wrong usage, 1 for errors, 0 otherwise."""
    if "usage: archc" in output:
        return 2
    return 1 if "error[" in output or '"severity": "error"' in output else 0


def test_cases_are_many_and_distinct() -> None:
    assert len(CASES) >= 70
    for what in ("title", "path"):
        assert max(Counter(str(getattr(case, what)) for case in CASES).values()) == 1
    inputs = Counter((tuple(sorted(case.example.files.items())), case.example.commands) for case in CASES)
    assert max(inputs.values()) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
def test_no_mistake_is_reported_twice(case: Case) -> None:
    headlines = [line for line in case.example.output.splitlines() if line.startswith(("error[", "warning["))]
    places = [line.strip() for line in case.example.output.splitlines() if line.lstrip().startswith("--> ")]
    assert headlines or "usage: archc" in case.example.output or '"code": ' in case.example.output
    told = Counter(zip(headlines, places)) if len(headlines) == len(places) else Counter(headlines)
    assert max(told.values(), default=1) == 1
