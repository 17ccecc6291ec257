"""Tables, counts and colour."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from archc.cli import main, output


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


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setenv("NO_COLOR", "")  # an empty value counts as unset
    assert output.colourful(Terminal())


COLUMNS: list[tuple[str, output.Align]] = [
    ("layer", "left"), ("operator", "left"), ("parameters", "right"), ("multiply-adds", "right"), ("", "left"),
    ("activation bytes", "right"),
]  # fmt: skip
ROWS = [
    ["encoder.layers.11.attention.query", "linear(3072, bias = false)", f"{n:,}", f"{n * n:,}", "███", f"{n**3:,}"]
    for n in range(1, 4000, 997)
]
TOTALS = [["total", "4 operators", "1", "2", "", "3"]]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_fits_the_terminal_and_loses_no_figure(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    text = output.table(COLUMNS, ROWS, TOTALS)
    assert max(map(len, text.split("\n"))) <= width
    for cells in (*ROWS, *TOTALS):
        assert all(f" {cell}" in text for cell in cells[2:])


def test_a_table_is_not_cut_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    text = output.table(COLUMNS, ROWS)
    assert len(text.split("\n")) == 2 + len(ROWS)
    assert all(cell in text for cells in ROWS for cell in cells)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    "command",
    [
        ("ops",),
        ("ops", "conv2d"),
        ("passes",),
        ("passes", "prune"),
        ("show", "resnet"),
        ("show", "--sweep", "width=4..8"),
    ],
    ids=" ".join,
)
def test_output_of_commands_fits_the_terminal(
    command: tuple[str, ...], width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.arch"
    path.write_text("model net(width = 8) { input x: f32[N, 3, H, W] output x -> one: conv2d(width, 3) -> relu }")
    arguments = [command[0], str(path), "--sizes", "H=8,W=8", *command[2:]] if command[0] == "show" else [*command]
    if command[1:2] == ("--sweep",):
        arguments = ["show", str(path), "--sizes", "H=8,W=8", *command[1:]]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(arguments) == 0
    table = [line for line in terminal.getvalue().split("\n") if "  " in line]
    assert table and max(map(len, table)) <= width
