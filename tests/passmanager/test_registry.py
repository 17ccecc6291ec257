"""Registry of passes: entry points of installed packages, and errors for entry points without a pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archc.diagnostics import ArchcError
from archc.passmanager import known_passes, load_pass


def test_every_announced_pass_has_its_name() -> None:
    assert {"fold", "lowrank", "quant", "simplify"} <= set(known_passes())
    assert all(cls.name == name for name, cls in known_passes().items())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nothing_of_that_name:Sway", "No module named 'nothing_of_that_name'"),
        ("archc.passes.fold:Sway", "has no attribute 'Sway'"),
        ("archc.passes.fold:Fold", "its module defines no pass of that name"),
    ],
)
def test_an_entry_point_without_a_pass(value: str, reason: str, announce: Callable[[str, str], None]) -> None:
    announce("sway", value)
    with pytest.raises(ArchcError, match=reason) as failure:
        load_pass("sway")
    (diagnostic,) = failure.value.diagnostics
    assert diagnostic.code == "pass-not-loadable"
    assert f"`sway` cannot be loaded from `{value}`" in diagnostic.message


@pytest.mark.parametrize("failure", ["NameError('x')", "RuntimeError('no way')", "SystemExit(2)"])
def test_a_package_that_fails_is_named(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, announce: Callable[[str, str], None]
) -> None:
    (tmp_path / "swaying.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    announce("sway", "swaying:Sway")
    with pytest.raises(ArchcError, match=f"from `swaying:Sway`: {failure.partition('(')[0]}: "):
        load_pass("sway")
