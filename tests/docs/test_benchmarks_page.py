"""docs/reference/benchmarks.md explains every script, with commands that have existing options."""

from __future__ import annotations

import re

from benchmarks.__main__ import SCRIPTS
from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "reference" / "benchmarks.md").read_text(encoding="utf-8")


def test_every_script_has_its_section() -> None:
    assert sorted(re.findall(r"^## `(\w+)`", PAGE, re.MULTILINE)) == sorted(SCRIPTS)


def test_commands_have_existing_options() -> None:
    commands = re.findall(r"^    .*python -m benchmarks\.(\w+)(.*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in commands} == set(SCRIPTS)
    for name, rest in commands:
        source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        known = {*re.findall(r"add_argument\(\s*\"(--\w+)\"", source), "--help"}
        assert set(re.findall(r"--[a-z]+", rest)) <= known, name
