"""Tables, counts and colour."""

from __future__ import annotations

import io
import sys

import pytest

from archc.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_as_wide_as_its_cells() -> None:
    text = output.table([("name", "left"), ("n", "right")], [["a", "1,000"], ["long name", "2"]], [["all", "1,002"]])
    rule = "─" * 16
    assert text.split("\n") == [
        "name           n",
        rule,
        "a          1,000",
        "long name      2",
        rule,
        "all        1,002",
    ]


def test_a_table_without_rows_is_its_heading() -> None:
    assert output.table([("name", "left")], []) == "name\n────"


@pytest.mark.parametrize(("number", "text"), [(0, "0 bytes"), (1, "1 byte"), (1024, "1,024 bytes")])
def test_counts(number: int, text: str) -> None:
    assert output.count(number, "byte") == text


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(sys, "stderr", stream)
        with output.progress() as progress:
            progress("lowrank(on = [fc1])")
        assert ("lowrank(on = [fc1])" in stream.getvalue()) is shown
        assert stream.getvalue() == "" or shown


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
