"""Each text that is wrong in one way is told so in the same words as when its case was reviewed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.diagnostics.cases import Case, all_cases, run

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
def test_case(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_golden: bool,
) -> None:
    for name, text in case.sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    status, output = run(case.command, capsys)
    if update_golden:
        case.update(output)
    else:
        assert output == case.output
    assert "Traceback" not in output
    assert status == expected_status(output)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before, "something was written"


def expected_status(output: str) -> int:
    """What the printed text promises: 2 is for the command line, 1 for errors, 0 for warnings alone."""
    if "usage: archc" in output:
        return 2
    return 1 if "error[" in output or '"severity": "error"' in output else 0


def test_there_are_enough_cases_each_with_a_purpose_of_its_own() -> None:
    assert len(CASES) >= 70
    for what in ("title", "path"):
        assert max(Counter(str(getattr(case, what)) for case in CASES).values()) == 1
    inputs = Counter((tuple(sorted(case.sources.items())), case.command) for case in CASES)
    assert max(inputs.values()) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
def test_no_mistake_is_told_twice(case: Case) -> None:
    headlines = [line for line in case.output.splitlines() if line.startswith(("error[", "warning["))]
    places = [line.strip() for line in case.output.splitlines() if line.lstrip().startswith("--> ")]
    assert headlines or "usage: archc" in case.output or '"code": ' in case.output
    told = Counter(zip(headlines, places)) if len(headlines) == len(places) else Counter(headlines)
    assert max(told.values(), default=1) == 1
