"""Tables, counts and colour."""

from __future__ import annotations

import io

import pytest

from archc.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert output.table([("name", "left"), ("n", "right")], [["a", "1,000"], ["long name", "2"]], [["all", "1,002"]]) == (
        "name           n\n────────────────\na          1,000\nlong name      2\n────────────────\nall        1,002"
    )


def test_a_table_without_rows_is_its_heading() -> None:
    assert output.table([("name", "left")], []) == "name\n────"


@pytest.mark.parametrize(("number", "text"), [(0, "0 bytes"), (1, "1 byte"), (1024, "1,024 bytes")])
def test_counts(number: int, text: str) -> None:
    assert output.count(number, "byte") == text


def test_colour_is_for_terminals_of_people_who_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert output.colourful(Terminal())
    assert not output.colourful(io.StringIO())
    assert not output.colourful(None)
    monkeypatch.setenv("TERM", "dumb")
    assert not output.colourful(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colourful(Terminal())
    monkeypatch.setenv("NO_COLOR", "")  # set and empty counts as not set
    assert output.colourful(Terminal())
