"""Output of commands: results on standard output, messages on standard error, colour in terminals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TextIO

from archc.diagnostics import ArchcError, Diagnostic, render

Align = Literal["left", "right"]
_NARROWEST = 16  # minimum characters of a truncated text column: shorter names could not be recognized


def colourful(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal, and plain text is not requested (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def diagnostics(found: Iterable[Diagnostic]) -> None:
    """Render diagnostics to standard error, a blank line after each."""
    colour = colourful(sys.stderr)
    for diagnostic in found:
        print(render(diagnostic, colour), end="\n\n", file=sys.stderr)


def failure(error: ArchcError, as_json: bool) -> None:
    """Print the diagnostics of a failure: on standard error, or as JSON on standard output."""
    if as_json:
        try:
            print_json({"diagnostics": [diagnostic.to_json() for diagnostic in error.diagnostics]})
            flush()
            return
        except OSError:  # the reported failure may be that standard output cannot be written
            abandon_stdout()
    diagnostics(error.diagnostics)
    count = sum(diagnostic.severity == "error" for diagnostic in error.diagnostics)
    if count > 1:
        message(f"{count} errors")


def message(text: str) -> None:
    """Print a line on standard error, after `archc:`."""
    print(f"archc: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def flush() -> None:
    """Flush standard output, so that a failed write raises here.

    Raises:
        OSError: the disk is full, or the reader closed the pipe.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def abandon_stdout() -> None:
    """Redirect standard output to the null device, so that the flush at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def heading(text: str) -> str:
    """A line in bold type, if the output is a terminal."""
    return f"\033[1m{text}\033[0m" if colourful(sys.stdout) else text


def terminal_width() -> int | None:
    """Width of the terminal in characters; None if the output is not a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], totals: Sequence[Sequence[str]] = ()
) -> str:
    """Format rows below a heading, with totals below a line.

    In a narrow terminal, long texts are truncated, and columns that do not fit continue in another table, which repeats
    the first columns.  A column without a heading stays beside the previous column.  Outside a terminal, no text is
    truncated.
    """
    names = [name for name, _ in columns]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, *totals, strict=True)]
    limit = terminal_width()
    if limit is not None and _line_width(widths) > limit:
        texts = [align == "left" and name != "" for name, align in columns]
        widths = _narrowed(widths, texts, limit)
    aligned = [align for _, align in columns]
    blocks = [list(range(len(widths)))] if limit is None else _blocks(names, aligned, widths, limit)
    return "\n\n".join(_block(block, columns, widths, rows, totals) for block in blocks)


def _block(
    block: Sequence[int],
    columns: Sequence[tuple[str, Align]],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    totals: Sequence[Sequence[str]],
) -> str:
    """Table of the columns with the indices in `block`."""

    def line(cells: Sequence[str]) -> str:
        placed = (
            shortened(cells[k], widths[k]).rjust(widths[k])
            if columns[k][1] == "right"
            else shortened(cells[k], widths[k]).ljust(widths[k])
            for k in block
        )
        return "  ".join(placed).rstrip()

    rule = "─" * _line_width([widths[k] for k in block])
    below = [rule, *(line(cells) for cells in totals)] if totals else []
    return "\n".join([heading(line([name for name, _ in columns])), rule, *(line(cells) for cells in rows), *below])


def shortened(text: str, width: int) -> str:
    """A text of at most `width` characters; an ellipsis replaces the middle of a longer text."""
    if len(text) <= width:
        return text
    ahead = width // 2
    return f"{text[:ahead]}…{text[len(text) - (width - 1 - ahead) :]}" if width > 1 else "…"


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _narrowed(widths: Sequence[int], texts: Sequence[bool], limit: int) -> list[int]:
    """Column widths, with the widest text columns narrowed until a line fits, but not below `_NARROWEST`.

    Args:
        texts: True for each column that may be narrowed.
        limit: characters of a line.
    """
    narrow = list(widths)
    while _line_width(narrow) > limit:
        widest = max((k for k, is_text in enumerate(texts) if is_text), key=lambda k: narrow[k], default=None)
        if widest is None or narrow[widest] <= _NARROWEST:
            break
        narrow[widest] -= 1
    return [min(width, limit) for width in narrow]


def _blocks(names: Sequence[str], aligned: Sequence[Align], widths: Sequence[int], limit: int) -> list[list[int]]:
    """Split a table into tables that fit in `limit` characters: the column indices of each table.

    Every table begins with the leading text columns, if these are narrow.
    """
    lead = 1
    while lead < len(names) and aligned[lead] == "left" and _line_width(widths[: lead + 1]) <= limit // 2:
        lead += 1
    blocks = [list(range(lead))]
    for k in range(lead, len(names)):
        group = [k, *([k + 1] if k + 1 < len(names) and not names[k + 1] else [])]
        fits = _line_width([widths[i] for i in [*blocks[-1], *group]]) <= limit
        if names[k] and not fits and len(blocks[-1]) > lead:
            blocks.append(list(range(lead)))
        blocks[-1].append(k)
    return blocks


def columns(rows: Sequence[Sequence[str]], indent: int = 0) -> list[str]:
    """Lines of aligned cells, two spaces apart; in a terminal, the last cell is wrapped within its column.

    Args:
        indent: number of spaces that will precede each line.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    last = _line_width(widths) - widths[-1] if widths else 0
    return [part for line in lines for part in wrapped(line, last, indent)]


def prose(text: str) -> str:
    """A text with its lines wrapped to the width of the terminal."""
    return "\n".join(part for line in text.split("\n") for part in wrapped(line, len(line) - len(line.lstrip())))


def wrapped(line: str, continuation: int, indent: int = 0) -> list[str]:
    """A line wrapped to the width of the terminal; further lines are indented by `continuation` spaces."""
    limit = terminal_width()
    if limit is None or indent + len(line) <= limit:
        return [line]
    room = max(limit - indent, 1)
    further = " " * (continuation if continuation <= room // 2 else 4 if room > 8 else 0)
    return textwrap.wrap(line, room, subsequent_indent=further, drop_whitespace=True, break_on_hyphens=False) or [line]


def section(title: str, lines: Iterable[str]) -> str:
    """A heading, and lines below it that are indented by two spaces."""
    parts = (part for line in lines for part in wrapped(line, len(line) - len(line.lstrip()) + 4, indent=2))
    return "\n".join([heading(title), *(f"  {part}" for part in parts)])


def count(number: int, noun: str) -> str:
    """A number with a noun in the right form: `1 operator`, `1,024 operators`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function to call with the name of each task as it begins; the names are shown in a terminal."""
    if not colourful(sys.stderr):
        yield lambda task: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda task: status.update(escape(task))
