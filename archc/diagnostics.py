"""Errors and warnings about a text, their collection, and their rendering.

A `Diagnostic` reports a mistake of the user: it has a stable code, the smallest span of text with the mistake, notes,
and help.  A `Diagnostics` sink collects diagnostics, so that one run reports several mistakes.  `ArchcError` carries
the diagnostics to the caller.  `render` shows a diagnostic with the source line and a caret.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from archc.frozen_dataclass import frozen_by_identity, frozen_dataclass

Severity = Literal["error", "warning"]


@frozen_by_identity
class Source:
    """One text, and its name in diagnostics (a path, or `<string>`)."""

    text: str
    name: str = "<string>"
    path: Path | None = None

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, character in enumerate(self.text) if character == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1; columns count characters."""
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line (counted from 1), without the line break."""
        start = self._line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else len(self.text)].rstrip("\r")


@frozen_dataclass
class Span:
    """A stretch of a source: offsets in characters, the end exclusive."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """The line of the start, counted from 1."""
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """The column of the start, counted from 1 in characters."""
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        """Text of the source at this place."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of the other."""
        return Span(self.source, self.start, other.end)

    def __str__(self) -> str:
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"


@frozen_dataclass
class Note:
    """A remark below a diagnostic; if the note has a span, that place of the source is shown."""

    text: str
    span: Span | None = None


@frozen_dataclass
class Diagnostic:
    """An error or a warning; `code` is stable and kebab-case, `help` says how to resolve it."""

    severity: Severity
    code: str
    message: str
    span: Span | None = None
    notes: tuple[Note, ...] = ()
    help: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with severity, code, message, file, line, column, end line and column, notes, help.

        The end is exclusive: `end_column` is the column after the last character of the span.
        """
        place: dict[str, Any] = {}
        if self.span is not None:
            place = {"file": self.span.source.name, "line": self.span.line, "column": self.span.column}
            place["end_line"], place["end_column"] = self.span.source.position(self.span.end)
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            **place,
            "notes": [note.text if note.span is None else f"{note.text} ({note.span})" for note in self.notes],
            "help": self.help,
        }

    def __str__(self) -> str:
        return render(self)


class ArchcError(Exception):
    """Error that ends a compilation; `diagnostics` has the causes, at least one of them an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics = () if isinstance(diagnostics, str) else tuple(diagnostics)
        if not self.diagnostics or not all(isinstance(each, Diagnostic) for each in self.diagnostics):
            raise TypeError(
                "`ArchcError` takes diagnostics; for a single one, write"
                ' `raise archc.diagnostics.error("my-code", "message")`'
            )
        super().__init__("\n\n".join(render(diagnostic) for diagnostic in self.diagnostics))

    def __reduce__(self) -> tuple[type[ArchcError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.diagnostics,)  # `pickle` would pass `__init__` the text instead


def error(
    code: str,
    message: str,
    span: Span | None = None,
    notes: Iterable[Note | str] = (),
    help: str | None = None,
) -> ArchcError:
    """An `ArchcError` of a single error, ready to be raised."""
    return ArchcError([Diagnostic("error", code, message, span, _notes(notes), help)])


MOST_MISTAKES = 100
"""Limit on the errors, and on the warnings, that one run reports."""


class TooManyMistakes(ArchcError):
    """More errors than a sink accepts; `diagnostics` ends with an error that says so."""


@dataclass
class Diagnostics:
    """A sink: mistakes are added as they are found, and raised together at the end of a phase.

    Attributes:
        most: limit on the errors, and on the warnings.  One more error raises `TooManyMistakes`, so that a phase ends
            early on a text full of errors.  Further warnings are left out, and a single warning says so.
    """

    found: list[Diagnostic] = field(default_factory=list)
    most: int = MOST_MISTAKES
    _known: set[Diagnostic] = field(default_factory=set, repr=False)
    _counts: Counter[Severity] = field(default_factory=Counter, repr=False)

    def error(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        notes: Iterable[Note | str] = (),
        help: str | None = None,
    ) -> None:
        """Add an error; the arguments are those of `Diagnostic`."""
        self.add(Diagnostic("error", code, message, span, _notes(notes), help))

    def warn(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        notes: Iterable[Note | str] = (),
        help: str | None = None,
    ) -> None:
        """Add a warning; the arguments are those of `Diagnostic`."""
        self.add(Diagnostic("warning", code, message, span, _notes(notes), help))

    def add(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic, unless an equal one was added before.

        Raises:
            TooManyMistakes: it is an error, and the sink is full.
        """
        if diagnostic in self._known:
            return
        self._counts[diagnostic.severity] += 1
        count = self._counts[diagnostic.severity]
        if count <= self.most:
            self._known.add(diagnostic)
            self.found.append(diagnostic)
        elif diagnostic.severity == "error":
            raise TooManyMistakes([*self.found, _more_than(self.most, diagnostic)])
        elif count == self.most + 1:
            self.found.append(_more_than(self.most, diagnostic))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add several diagnostics, such as those of an `ArchcError`."""
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors."""
        return [diagnostic for diagnostic in self.found if diagnostic.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The warnings."""
        return [diagnostic for diagnostic in self.found if diagnostic.severity == "warning"]

    def check(self) -> None:
        """Raise an `ArchcError` with all diagnostics if one of them is an error."""
        if self.errors:
            raise ArchcError(self.found)

    def refuse_warnings(self) -> None:
        """Raise an `ArchcError` with all diagnostics as errors if there are warnings."""
        if self.warnings:
            raise ArchcError([replace(each, severity="error") for each in self.found])

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.found)


def _more_than(most: int, next: Diagnostic) -> Diagnostic:
    """The last diagnostic of a full sink; `next` is the first diagnostic that is left out."""
    what = "mistakes" if next.severity == "error" else "warnings"
    message = f"there are more {what} than these {most}"
    return Diagnostic(next.severity, f"too-many-{what}", message, next.span, (), "fix these first")


def silent(task: str) -> None:
    """A progress callback that does nothing."""


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in backticks: the first `most` of them, and the number of the others."""
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


_EDITS = ((2, 1), (5, 2), (9, 3))
"""Pairs (length, edits): a name of at least this length may be this many edits away from a suggestion."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to a mistyped name, the first of equally near ones; None if no name is near.

    The edit distance counts letters that are left out, added, replaced, or swapped with the next one.  It ignores case
    and underscores.
    """
    wanted = squashed(name)
    best, edits = None, max((edits for letters, edits in _EDITS if letters <= len(wanted)), default=0) + 1
    for candidate in known:
        distance = _edit_distance(wanted, squashed(candidate), edits - 1)
        if distance is not None:
            best, edits = candidate, distance
        if edits == 0:
            break
    return best


def squashed(name: str) -> str:
    """A name without case and underscores."""
    return name.lower().replace("_", "")


def _edit_distance(left: str, right: str, most: int) -> int | None:
    """The optimal string alignment distance of two texts, or None if it is above `most`.

    (Boytsov 2011, "Indexing methods for approximate dictionary searching", section 2.2.)
    """
    if left == right:
        return 0
    size = len(left)
    if most < 1 or abs(size - len(right)) > most:
        return None
    # An edit changes at most two of these pieces of `left` (a swap across their border).  So if `right` is at most
    # `most` edits away, at least one piece is intact and occurs in `right`.
    pieces = 2 * most + 1
    cuts = [size * k // pieces for k in range(pieces + 1)]
    if size > 2 * pieces and all(left[start:end] not in right for start, end in pairwise(cuts)):
        return None
    start = _common_start(left, right)
    left, right = left[start:], right[start:]
    end = _common_start(left[::-1], right[::-1])
    left, right = left[: len(left) - end], right[: len(right) - end]
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == right[j - 2] and left[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > most and min(before) > most:
            return None
    return row[-1] if row[-1] <= most else None


def _common_start(left: str, right: str) -> int:
    return next((k for k, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Help for an unknown name, or None if no known name is near."""
    match = nearest(name, known)
    return None if match is None else f"did you mean `{match}`?"


def abbreviated(word: str, known: Iterable[str]) -> list[str]:
    """The known names that begin with a word of at least two characters; case and underscores are ignored."""
    start = squashed(word)
    return [name for name in known if len(start) > 1 and squashed(name).startswith(start)]


def _notes(notes: Iterable[Note | str]) -> tuple[Note, ...]:
    return tuple(note if isinstance(note, Note) else Note(note) for note in notes)


_COLORS = {"error": "\033[1;31m", "warning": "\033[1;33m", "note": "\033[1;36m", "bold": "\033[1m"}
_MAXIMUM_WIDTH = 160  # of a shown source line; a longer line is cut around the caret


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The diagnostic as a person reads it: headline, place, source line with a caret, notes, help."""

    def paint(text: str, style: str) -> str:
        return f"{_COLORS[style]}{text}\033[0m" if color else text

    headline = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    lines = [f"{headline}: {paint(_printable(diagnostic.message), 'bold')}"]
    gutter = max(
        (len(str(span.line)) for span in (diagnostic.span, *(note.span for note in diagnostic.notes)) if span),
        default=1,
    )
    if diagnostic.span is not None:
        lines += _excerpt(diagnostic.span, gutter, "-->", paint("^", diagnostic.severity))
    pad = " " * gutter
    for note in diagnostic.notes:
        lines.append(f"{pad} = {paint('note', 'note')}: {_printable(note.text)}")
        if note.span is not None:
            lines += _excerpt(note.span, gutter, "-->", paint("-", "note"))
    if diagnostic.help is not None:
        lines.append(f"{pad} = {paint('help', 'note')}: {_printable(diagnostic.help)}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Escape control characters, so that text from a file cannot control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _excerpt(span: Span, gutter: int, arrow: str, mark: str) -> list[str]:
    number, column = span.source.position(span.start)
    text = span.source.line(number)
    start = column - 1
    length = max(1, min(span.end - span.start, len(text) - start))
    if len(text) > _MAXIMUM_WIDTH:
        cut = max(0, start - _MAXIMUM_WIDTH // 2)
        text = text[cut : cut + _MAXIMUM_WIDTH]
        start -= cut
        length = max(1, min(length, len(text) - start))
    # Tabs are kept, so that the caret is below its character at any tab width;
    # other control characters would move the terminal's cursor.
    text = "".join(c if c.isprintable() or c == "\t" else "�" for c in text)
    indent = "".join("\t" if character == "\t" else " " for character in text[:start])
    pad = " " * gutter
    return [
        f"{pad}{arrow} {_printable(str(span))}",
        f"{pad} |",
        f"{number:>{gutter}} | {text}",
        f"{pad} | {indent}{mark * length}",
    ]
