"""Parser: the syntax tree of a text, with recovery from syntax errors.

lark's LALR(1) tables drive the parse, one token at a time.  The scanner provides the tokens, and the tree builder
creates the nodes.

Error recovery takes place in the same pass, and reads each token once.  At an unexpected token, the parser's stack is
cut to the last complete statement of the innermost body, or to the last complete item of the file.  The tokens of the
broken statement are skipped, and parsing continues at the next statement.  If the head of a statement with a body is
broken, a placeholder head is inserted, so that errors in the body are also found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from lark import Lark, UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_interactive_parser import InteractiveParser

from archc.diagnostics import Diagnostic, Diagnostics, Source, TooManyMistakes
from archc.garbage_collector import paused_collector
from archc.language.syntax import syntax_errors, tree
from archc.language.syntax.foreign_syntax import comment_end, comment_start
from archc.language.syntax.parse_failure import CLOSERS, STATEMENT, TOP_LEVEL, Failure
from archc.language.syntax.scanner import Scanner, Token
from archc.language.syntax.tables import load_grammar
from archc.language.syntax.tree_builder import TooDeep, TreeBuilder

LONGEST_TEXT = 64 * 2**20
"""Limit on the characters of a text."""

MOST_SYNTAX_ERRORS = 20
"""Limit on the errors of a text; a text with more is probably not in this language."""

# Limit on the depth of the parser's stack.  Each bracket, body, `else if` and sign adds one to six entries.  The limit
# also bounds the recursion of all traversals of the tree.
_DEEPEST = 160


class _Machine(NamedTuple):
    """Parser, scanner and tree builder of the grammar."""

    lark: Lark
    scanner: Scanner
    builder: TreeBuilder


@cache
def _machine() -> _Machine:
    builder = TreeBuilder()
    lark = load_grammar(builder)
    return _Machine(lark, Scanner(lark.terminals), builder)


# The process has one machine, which parses one text at a time.
_lock = threading.Lock()


def parse(source: Source, diagnostics: Diagnostics) -> tree.File:
    """Tree of the text of a file.

    Syntax errors are added to `diagnostics`, and the tree has only the correct statements.
    """
    file: tree.File = _parse("file", source, diagnostics)
    return file


def parse_pipeline(source: Source, diagnostics: Diagnostics) -> tuple[tree.ChainStep, ...]:
    """Passes of the option `--passes`: `lowrank(energy=0.95), quant(int8)`; empty after an error."""
    steps: tuple[tree.ChainStep, ...] | None = _parse("pipeline_text", source, diagnostics)
    return steps or ()


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Expression:
    """Value of the command-line option `--set`, such as `100` in `classes=100`; 0 after an error."""
    value: tree.Expression | None = _parse("value_text", source, diagnostics)
    return value if value is not None else tree.Number(Token("", "", source, 0, len(source.text)).span, 0)


def keywords() -> frozenset[str]:
    """Keywords of the language, which cannot be names."""
    return frozenset(_machine().scanner.keywords)


def _parse(start: str, source: Source, diagnostics: Diagnostics) -> Any:
    """Result of the grammar rule `start` for a text; None if parsing cannot continue after an error."""
    found = Diagnostics(most=MOST_SYNTAX_ERRORS)
    if len(source.text) > LONGEST_TEXT:
        diagnostics.error(
            "text-too-long",
            f"the text has {len(source.text):,} characters; the limit is {LONGEST_TEXT:,}",
        )
        source = Source("", source.name, source.path)
    with _lock, paused_collector():
        try:
            return _drive(start, source, found)
        finally:
            diagnostics.extend(found)


def _drive(start: str, source: Source, found: Diagnostics) -> Any:
    """Feed the tokens of a text to the parser; see `_parse`."""
    lark, scanner, builder = _machine()
    comments: list[tree.Comment] = []
    builder.begin(source, comments, found)
    interactive = lark.parse_interactive(start=start)
    state = interactive.parser_state
    stack, feed = state.state_stack, state.feed_token
    tokens = scanner.scan(source, comments, found)
    recovery = _Recovery(interactive, tokens, source, found)
    previous: Token | None = None
    end = Token("$END", "", source, len(source.text), len(source.text))
    try:
        for token in tokens:
            while True:
                try:
                    result = feed(token, token.type == "$END")  # type: ignore[arg-type]  # lark reads only the type
                    break
                except UnexpectedToken:
                    substitute = recovery.resume(token, previous)
                    if substitute is None:
                        return None
                    token = substitute
            previous = token
            if len(stack) > _DEEPEST:
                found.error(
                    "nesting-too-deep",
                    "brackets, bodies or operators are nested too deeply here",
                    token.span,
                    help="name the inner part in a separate statement",
                )
                break
        else:
            return result
    except TooDeep:
        pass
    except TooManyMistakes as failure:
        found.found.append(failure.diagnostics[-1])
    return recovery.finish(end) if start == "file" else None


# Recovery -------------------------------------------------------------------------------------------------

# The levels of a text: a body is a sequence of statements, a `devices` item is a sequence of lines, and a file is a
# sequence of items.  Each level has one terminal here that begins an element and has no other use.  A parser state that
# shifts `LET` is therefore between two statements of a body, or before the first one.
_BETWEEN = {"LET": "body", "LINK": "devices", "MODEL": "file"}


class _Recovery:
    """Error reports of one parse, and recovery to a state in which parsing can continue."""

    def __init__(self, parser: InteractiveParser, tokens: Iterator[Token], source: Source, found: Diagnostics):
        self._parser = parser
        self._state = parser.parser_state
        self._tokens = tokens
        self._source = source
        self._found = found

    def resume(self, token: Token, previous: Token | None) -> Token | None:
        """Report an unexpected token; returns the token to continue with, or None if parsing cannot continue."""
        level, depth = self._innermost()
        parts = self._state.value_stack[depth:]
        failure = Failure(token, previous, self._accepted(), parts, self._open_brackets())
        if not self._reported_since(failure.start) and not syntax_errors.only_lacks_an_inserted_brace(failure):
            self._report(syntax_errors.explain(failure))
        comment = comment_start(self._source.text, token.start)
        if comment is not None and token.type != "$END":
            # A comment in C's syntax, such as `// text`.  If no token of the comment was parsed, the statement
            # continues after the comment.
            at_once = comment == token.start
            token = self._after_comment(token, comment_end(self._source.text, comment))
            if at_once:
                return token
        if syntax_errors.is_keyword_as_name(failure):
            return Token("NAME", token.text, self._source, token.start, token.end)
        if level is None:
            return None
        self._cut(depth)
        if level == "file":
            return self._next_item(token, parts)
        if level == "body":
            return self._next_statement(token, parts)
        return self._next_device(token)

    def finish(self, end: Token) -> Any:
        """Tree of the complete items of a file, after an error that stops the parse."""
        while len(self._state.state_stack) > 1 and self._level(self._state.state_stack[-1]) != "file":
            self._cut(len(self._state.value_stack) - 1)
        return self._state.feed_token(end, True)  # type: ignore[arg-type]  # lark reads only the type

    # Parser stack ---------------------------------------------------------------------------------------

    def _level(self, state: Any) -> str | None:
        """Level of a state that is between two elements: `body`, `devices` or `file`; None for other states."""
        actions = self._state.parse_conf.states[state]
        for terminal, level in _BETWEEN.items():
            if terminal in actions and actions[terminal][0] is Shift:
                return level
        return None

    def _innermost(self) -> tuple[str | None, int]:
        """Level and stack depth of the innermost state that is between two elements."""
        stack = self._state.state_stack
        for depth in range(len(stack) - 1, -1, -1):
            level = self._level(stack[depth])
            if level is not None:
                return level, depth
        return None, 0

    def _accepted(self) -> frozenset[str]:
        """Types of the tokens that the parser accepts in its current state."""
        accepts: Callable[[], set[str]] = self._parser.accepts
        return frozenset(accepts())

    def _cut(self, depth: int) -> None:
        """Remove the entries of the stack above a depth."""
        del self._state.state_stack[depth + 1 :]
        del self._state.value_stack[depth:]

    def _open_brackets(self) -> list[Token]:
        """Opening brackets on the stack that are not closed, the innermost last."""
        unclosed: list[Token] = []
        for value in self._state.value_stack:
            if not isinstance(value, Token):
                continue
            if value.type in CLOSERS:
                unclosed.append(value)
            elif unclosed and value.type == CLOSERS[unclosed[-1].type]:
                unclosed.pop()  # both brackets are in a head: `model net(classes = 10) {`
        return unclosed

    def _feed(self, place: Token, *types: str) -> None:
        """Insert tokens of the given types, of length 0, before a token."""
        for type_ in types:
            word = Token(type_, "_", self._source, place.start, place.start)
            self._state.feed_token(word)  # type: ignore[arg-type]  # lark reads only the type

    def _reported_since(self, start: int) -> bool:
        """Return whether an error at or after an offset was reported.

        A new error would then be a consequence of the reported error.
        """
        return any(diagnostic.span is not None and diagnostic.span.start >= start for diagnostic in self._found)

    def _report(self, error: Diagnostic) -> None:
        """Add a diagnostic; each reserved word and each kind of foreign comment is reported only once."""
        once = error.code in ("reserved-word", "foreign-comment")
        if not (once and any(other.message == error.message for other in self._found)):
            self._found.add(error)

    def _after_comment(self, token: Token, end: int) -> Token:
        """First token after a comment in C's syntax, which ends at `end`."""
        while token.start < end and token.type != "$END":
            token = next(self._tokens)
        return token

    # Next element ---------------------------------------------------------------------------------------

    def _next_item(self, token: Token, parts: list[Any]) -> Token:
        """Skip to the next item, or insert a head for the broken item and continue in its body."""
        head = parts[0].type if parts and isinstance(parts[0], Token) else None
        while token.type != "$END" and token.type not in TOP_LEVEL:
            if head in ("MODEL", "BLOCK") and token.type in STATEMENT:
                self._feed(token, head, "NAME", "LBRACE")
                return token
            if head in ("MODEL", "BLOCK", "DEVICES") and token.type == "LBRACE":
                self._feed(token, head, "NAME")
                return token
            token = next(self._tokens)
        return token

    def _next_statement(self, token: Token, parts: list[Any]) -> Token:
        """Skip to the next statement.

        If the broken statement has a body, insert the head `if true`, and continue in the body.
        """
        headed = bool(parts) and isinstance(parts[0], Token) and parts[0].type in ("FOR", "SCAN", "IF")
        braces = parentheses = 0
        while token.type != "$END" and token.type not in TOP_LEVEL:
            if braces == 0:
                begins = token.type == "NAME" and token.first_on_line and parentheses == 0
                if begins or token.type in STATEMENT or token.type == "RBRACE":
                    return token
                if headed and token.type == "LBRACE":
                    self._feed(token, "IF", "TRUE")
                    return token
            if token.type == "LBRACE":
                braces += 1
            elif token.type == "RBRACE":
                braces -= 1
            elif token.type in CLOSERS:
                parentheses += 1
            elif token.type in CLOSERS.values():
                parentheses = max(0, parentheses - 1)
            token = next(self._tokens)
        return self._close_braces(token)

    def _next_device(self, token: Token) -> Token:
        """Skip to the next line of a `devices` item."""
        while token.type != "$END" and token.type not in TOP_LEVEL:
            if token.type in ("LINK", "RBRACE") or (token.type == "NAME" and token.first_on_line):
                return token
            token = next(self._tokens)
        return self._close_braces(token)

    def _close_braces(self, token: Token) -> Token:
        """Close all bodies that are open at the end of the text, or at the first token of an item."""
        unclosed = self._open_brackets()
        if unclosed and unclosed[-1].start < unclosed[-1].end and not self._reported_since(unclosed[-1].start):
            failure = Failure(token, None, frozenset(), [], unclosed)
            self._found.add(syntax_errors.explain(failure))
        self._feed(token, *["RBRACE"] * len(unclosed))
        return token
