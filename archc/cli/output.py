"""What commands print: results to standard output, all else to standard error, colour only where a person looks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TextIO

from archc.diagnostics import ArchcError, Diagnostic, render

Align = Literal["left", "right"]


def colourful(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal whose user has not asked for plain text (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def diagnostics(found: Iterable[Diagnostic]) -> None:
    """Render diagnostics to standard error, a blank line after each."""
    colour = colourful(sys.stderr)
    for diagnostic in found:
        print(render(diagnostic, colour), end="\n\n", file=sys.stderr)


def failure(error: ArchcError, as_json: bool) -> None:
    """Say why a command failed: to people on standard error, to programs as an object on standard output."""
    if as_json:
        try:
            print_json({"diagnostics": [diagnostic.to_json() for diagnostic in error.diagnostics]})
            flush()
            return
        except OSError:  # the reason may be that nothing can be printed there
            abandon_stdout()
    diagnostics(error.diagnostics)
    count = sum(diagnostic.severity == "error" for diagnostic in error.diagnostics)
    if count > 1:
        message(f"{count} errors")


def message(text: str) -> None:
    """A line of the program's own on standard error."""
    print(f"archc: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def flush() -> None:
    """Have all that was printed read or stored.

    Raises:
        OSError: the disk is full, or the reader closed the pipe.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def abandon_stdout() -> None:
    """Let the flush at the end of the process go nowhere, instead of failing once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def heading(text: str) -> str:
    """A line that stands out in a terminal."""
    return f"\033[1m{text}\033[0m" if colourful(sys.stdout) else text


def table(
    columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], totals: Sequence[Sequence[str]] = ()
) -> str:
    """Rows below a heading, in columns as wide as they must be; totals stand below a line.

    Nothing is cut or wrapped, so that a table read by a program is whole, and ten thousand rows take no time.
    """
    names = [name for name, _ in columns]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, *totals, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.rjust(width) if align == "right" else cell.ljust(width)
            for cell, width, (_, align) in zip(cells, widths, columns, strict=True)
        )
        return "  ".join(placed).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    below = [rule, *(line(cells) for cells in totals)] if totals else []
    return "\n".join([heading(line(names)), rule, *(line(cells) for cells in rows), *below])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose cells stand below one another, two spaces apart."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def section(title: str, lines: Iterable[str]) -> str:
    """Lines below a heading, set in by two spaces."""
    return "\n".join([heading(title), *(f"  {line}" for line in lines)])


def count(number: int, noun: str) -> str:
    """`1 operator`, `1,024 operators`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function to be called with the name of each task as it begins; shown where a person looks."""
    if not colourful(sys.stderr):
        yield lambda task: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda task: status.update(escape(task))
