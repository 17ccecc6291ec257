"""Pictures of the documentation are up to date with the specs."""

from __future__ import annotations

from archc.cli.pictures import pictures
from tests.docs.examples import ROOT

FOLDER = ROOT / "docs" / "explanation" / "architectures" / "pictures"


def test_pictures_are_up_to_date() -> None:
    made = dict(pictures(ROOT / "specs"))
    assert len(made) > 20
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.svg")}
    assert sorted(kept) == sorted(made), "run `make pictures`"
    assert [name for name in made if kept[name] != made[name]] == [], "run `make pictures`"
