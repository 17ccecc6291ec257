"""Text to tokens, in one linear scan that any text survives.

The terminals are those of `grammar.lark`.  lark's own lexer stops at the first character that it does not
know; this one reports what no token can be made of, and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lark.lexer import PatternStr, TerminalDef

from archc.diagnostics import Diagnostic, Diagnostics, Source, Span
from archc.language.syntax import tree
from archc.language.syntax.foreign_syntax import EQUIVALENTS, SYMBOLS, comment_end, comment_start


class Token:
    """One word of a text.  Its span is made on demand: there are many tokens, and few are asked."""

    __slots__ = ("end", "source", "start", "text", "type")

    def __init__(self, type: str, text: str, source: Source, start: int, end: int):
        self.type = type
        self.text = text
        self.source = source
        self.start = start
        self.end = end

    @property
    def span(self) -> Span:
        return Span(self.source, self.start, self.end)

    @property
    def first_on_line(self) -> bool:
        text, before = self.source.text, self.start - 1
        while before >= 0 and text[before] in " \t\r":  # not from the start of the line, which may be far
            before -= 1
        return before < 0 or text[before] == "\n"


# Characters that show nothing, or turn the order of what is shown: no text needs them, and a reader who
# cannot see them would be fooled.  Lone surrogates cannot be written to a file at all.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+")


class Scanner:
    """Makes tokens; built once from the grammar's terminals."""

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
        # What varies (a name, a comment) first, then the longer before the shorter: `->` before `-`.
        punctuation.sort(key=lambda pair: -len(pair[1]))
        patterns += [(name, re.escape(value)) for name, value in punctuation]
        self._types = self.keywords | {value: name for name, value in punctuation}
        patterns += [("UNENDED", "[\"'][^\n]*"), ("WRONG", r"[^ \t\r\n!-~]+|&&|\|[|>]|[^ \t\r\n]"), ("END", r"\Z")]
        self._pattern = re.compile("|".join(f"(?P<{name}>{value})" for name, value in patterns))

    def scan(self, source: Source, comments: list[tree.Comment], diagnostics: Diagnostics) -> Iterator[Token]:
        """The tokens in order, the last of type `$END`; comments are put aside into `comments`."""
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
                    help=f"close it with `{match.group()[0]}`; a line break within is written `\\n`",
                )
                yield Token("STRING", '""', source, start, end)
            elif kind == "WRONG":
                meant = _report_wrong_character(Span(source, start, end), diagnostics)
                if meant is not None:
                    yield Token(self._types[meant], meant, source, start, end)
            else:
                assert kind is not None
                yield Token(kind, match.group(), source, start, end)


def _comment_around(text: str, offset: int) -> int | None:
    """The start of a comment in C's syntax that begins before an offset and is open there; None without one."""
    start = comment_start(text, offset)
    return start if start != offset else None


def foreign_comment(source: Source, start: int) -> Diagnostic:
    """The diagnostic for a comment in C's syntax."""
    mark = source.text[start : start + 2]
    message = f"`{mark}` begins no comment"
    return Diagnostic("error", "foreign-comment", message, Span(source, start, start + 2), (), SYMBOLS[mark])


def _report_wrong_character(span: Span, diagnostics: Diagnostics) -> str | None:
    """Report a character that begins no token; the operator that was meant, where that is clear."""
    characters = span.text
    meant = EQUIVALENTS.get(characters)
    if meant is not None:
        advice: str | None = SYMBOLS.get(characters) or f"write `{meant}`"
    elif characters[0].isalpha():
        advice = "names are made of the letters a-z, digits and `_`; other letters may be in strings and comments"
    else:
        advice = SYMBOLS.get(characters) or SYMBOLS.get(characters[0])
    shown = characters if len(characters) <= 20 else characters[:20] + "…"
    diagnostics.error("invalid-character", f"`{shown}` has no meaning here", span, help=advice)
    return meant


def _without_hidden_characters(source: Source, diagnostics: Diagnostics) -> str:
    """The text with spaces for what nobody can see, so that offsets stay."""
    if _HIDDEN.search(source.text) is None:
        return source.text
    for match in _HIDDEN.finditer(source.text):
        code = ord(match.group()[0])
        diagnostics.error(
            "invalid-character",
            "a NUL character, which no text holds" if code == 0 else f"the invisible character U+{code:04X}",
            Span(source, match.start(), match.end()),
            help="is this a binary file?" if code == 0 else f"delete it; in a string, write it as `\\u{{{code:x}}}`",
        )
    return _HIDDEN.sub(lambda match: " " * len(match.group()), source.text)
