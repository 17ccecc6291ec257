"""Tokens of a text, in one linear scan that accepts any text.

The terminals are those of `grammar.lark`.  lark's own lexer stops at the first unknown character.  This scanner reports
the characters that form no token, and continues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lark.lexer import PatternStr, TerminalDef

from archc.diagnostics import Diagnostic, Diagnostics, Source, Span
from archc.language.syntax import tree
from archc.language.syntax.foreign_syntax import EQUIVALENTS, SYMBOLS, comment_end, comment_start


class Token:
    """Token of a text: its type, which is the name of a terminal, and its place.

    The span is created on demand: a text has many tokens, and few of their spans are used.
    """

    __slots__ = ("end", "source", "start", "text", "type")

    def __init__(self, type: str, text: str, source: Source, start: int, end: int):
        self.type = type
        self.text = text
        self.source = source
        self.start = start
        self.end = end

    @property
    def span(self) -> Span:
        """Place in the text."""
        return Span(self.source, self.start, self.end)

    @property
    def first_on_line(self) -> bool:
        """Return whether only white space precedes the token on its line."""
        text, before = self.source.text, self.start - 1
        while before >= 0 and text[before] in " \t\r":  # without a copy of the line, which may be very long
            before -= 1
        return before < 0 or text[before] == "\n"


# Control characters, and characters that are invisible or change the direction of text: they can hide code from a
# reader (CVE-2021-42574).  Lone surrogates cannot be written to a file.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+")


class Scanner:
    """Scanner for the terminals of a grammar."""

    def __init__(self, terminals: Iterable[TerminalDef]):
        punctuation: list[tuple[str, str]] = []
        patterns: list[tuple[str, str]] = []
        self.keywords: dict[str, str] = {}
        for terminal in terminals:
            if not isinstance(terminal.pattern, PatternStr):
                patterns.append((terminal.name, terminal.pattern.value))
            elif terminal.pattern.value.isalpha():
                self.keywords[terminal.pattern.value] = terminal.name
            else:
                punctuation.append((terminal.name, terminal.pattern.value))
        # The first alternative that matches wins: patterns precede punctuation, and `->` precedes its prefix `-`.
        punctuation.sort(key=lambda pair: -len(pair[1]))
        patterns += [(name, re.escape(value)) for name, value in punctuation]
        self._types = self.keywords | {value: name for name, value in punctuation}
        patterns += [("UNENDED", "[\"'][^\n]*"), ("WRONG", r"[^ \t\r\n!-~]+|&&|\|[|>]|[^ \t\r\n]"), ("END", r"\Z")]
        self._pattern = re.compile("|".join(f"(?P<{name}>{value})" for name, value in patterns))

    def scan(self, source: Source, comments: list[tree.Comment], diagnostics: Diagnostics) -> Iterator[Token]:
        """Tokens in order, the last of type `$END`.

        Args:
            comments: list to which the comments are added.
        """
        text = _without_hidden_characters(source, diagnostics)
        keywords: Mapping[str, str] = self.keywords
        line_start = comment_until = 0
        for match in self._pattern.finditer(text):
            kind = match.lastgroup
            start, end = match.span()
            if kind == "NAME":
                word = match.group()
                yield Token(keywords.get(word, "NAME"), word, source, start, end)
            elif kind == "SPACE":
                continue
            elif kind == "COMMENT":
                line_start = text.rfind("\n", line_start, start) + 1 or line_start
                own_line = not text[line_start:start].strip()
                comments.append(tree.Comment(Span(source, start, end), match.group().rstrip(), own_line))
            elif kind == "END":
                yield Token("$END", "", source, start, end)
            elif kind in ("UNENDED", "WRONG") and start < comment_until:
                continue
            elif kind in ("UNENDED", "WRONG") and (comment := _comment_around(source.text, start)) is not None:
                comment_until = comment_end(source.text, comment)
                if not any(found.code == "foreign-comment" for found in diagnostics):
                    diagnostics.add(foreign_comment(source, comment))
            elif kind == "UNENDED":
                diagnostics.error(
                    "unterminated-string",
                    "the string is not closed on its line",
                    Span(source, start, start + len(match.group().rstrip())),
                    help=f"close it with `{match.group()[0]}`; write a line break in it as `\\n`",
                )
                yield Token("STRING", '""', source, start, end)
            elif kind == "WRONG":
                equivalent = _report_wrong_character(Span(source, start, end), diagnostics)
                if equivalent is not None:
                    yield Token(self._types[equivalent], equivalent, source, start, end)
            else:
                assert kind is not None
                yield Token(kind, match.group(), source, start, end)


def _comment_around(text: str, offset: int) -> int | None:
    """Start of the C comment that begins before an offset and contains it; None if there is none."""
    start = comment_start(text, offset)
    return start if start != offset else None


def foreign_comment(source: Source, start: int) -> Diagnostic:
    """Diagnostic for a comment in C's syntax that begins at `start`."""
    mark = source.text[start : start + 2]
    message = f"`{mark}` does not begin a comment"
    return Diagnostic("error", "foreign-comment", message, Span(source, start, start + 2), (), SYMBOLS[mark])


def _report_wrong_character(span: Span, diagnostics: Diagnostics) -> str | None:
    """Report characters that form no token; returns the equivalent operator, if there is one."""
    characters = span.text
    equivalent = EQUIVALENTS.get(characters)
    if equivalent is not None:
        advice: str | None = SYMBOLS.get(characters) or f"write `{equivalent}`"
    elif characters[0].isalpha():
        advice = "write names with the letters a-z, digits and `_`; other letters are for strings and comments"
    else:
        advice = SYMBOLS.get(characters) or SYMBOLS.get(characters[0])
    shown = characters if len(characters) <= 20 else characters[:20] + "…"
    diagnostics.error("invalid-character", f"unexpected `{shown}`", span, help=advice)
    return equivalent


def _without_hidden_characters(source: Source, diagnostics: Diagnostics) -> str:
    """Text of a source with a space in place of each hidden character, so that offsets stay valid."""
    if _HIDDEN.search(source.text) is None:
        return source.text
    for match in _HIDDEN.finditer(source.text):
        code = ord(match.group()[0])
        diagnostics.error(
            "invalid-character",
            "NUL character in the text" if code == 0 else f"invisible character U+{code:04X}",
            Span(source, match.start(), match.end()),
            help="check the path: this may be a binary file"
            if code == 0
            else f"delete it; in a string, write it as `\\u{{{code:x}}}`",
        )
    return _HIDDEN.sub(lambda match: " " * len(match.group()), source.text)
