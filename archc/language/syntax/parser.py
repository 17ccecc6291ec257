"""Text to syntax tree: the front door of the language's first half.

lark's LALR(1) tables drive the parse, one token at a time: the scanner makes the tokens, the builder the tree,
and `recovery` steps in where a token does not fit.
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
from archc.language.syntax import mistakes, tree
from archc.language.syntax.foreign_syntax import comment_end, comment_start
from archc.language.syntax.mistakes import CLOSERS, STATEMENT, TOP_LEVEL, Failure
from archc.language.syntax.scanner import Scanner, Token
from archc.language.syntax.tables import load_grammar
from archc.language.syntax.tree_builder import TooDeep, TreeBuilder

LONGEST_TEXT = 64 * 2**20  # characters
MOST_MISTAKES = 20  # in one text; whoever has more has given us the wrong file
# The length of the parser's stack.  It grows with brackets, bodies, `else if` and signs, by one to six a level,
# and is what bounds the recursion of all who walk the tree.
_DEEPEST = 160


class _Machine(NamedTuple):
    lark: Lark
    scanner: Scanner
    builder: TreeBuilder


@cache
def _machine() -> _Machine:
    builder = TreeBuilder()
    lark = load_grammar(builder)
    return _Machine(lark, Scanner(lark.terminals), builder)


# The machine is one for the process, and builds one text at a time.
_lock = threading.Lock()


def parse(source: Source, diagnostics: Diagnostics) -> tree.File:
    """The tree of a whole text.

    Mistakes are added to `diagnostics`; the tree then holds what could be read in spite of them.
    """
    file: tree.File = _parse("file", source, diagnostics)
    return file


def parse_pipeline(source: Source, diagnostics: Diagnostics) -> tuple[tree.ChainStep, ...]:
    """The passes of a pipeline as the command line has it: `lowrank(energy=0.95), quant(int8)`."""
    steps: tuple[tree.ChainStep, ...] | None = _parse("pipeline_text", source, diagnostics)
    return steps or ()


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Expression:
    """A single expression: the value of `--set classes=100`.  With mistakes, it reads as 0."""
    value: tree.Expression | None = _parse("value_text", source, diagnostics)
    return value if value is not None else tree.Number(Token("", "", source, 0, len(source.text)).span, 0)


def keywords() -> frozenset[str]:
    """The words that cannot be names."""
    return frozenset(_machine().scanner.keywords)


def _parse(start: str, source: Source, diagnostics: Diagnostics) -> Any:
    found = Diagnostics(most=MOST_MISTAKES)
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
                    help="give the inner part a name in a statement of its own",
                )
                break
        else:
            return result
    except TooDeep:
        pass
    except TooManyMistakes as failure:
        found.found.append(failure.diagnostics[-1])
    return recovery.finish(end) if start == "file" else None


# A state that shifts one of these stands between two statements of a body, lines of a `devices`, items of a file.
_BETWEEN = {"LET": "body", "LINK": "devices", "MODEL": "file"}


class _Recovery:
    """Reports the failures of one parse, and brings the parser back to a state that it can go on from."""

    def __init__(self, parser: InteractiveParser, tokens: Iterator[Token], source: Source, found: Diagnostics):
        self._parser = parser
        self._state = parser.parser_state
        self._tokens = tokens
        self._source = source
        self._found = found

    def resume(self, token: Token, previous: Token | None) -> Token | None:
        """Report that `token` does not fit; the token to go on with, or None if there is no going on."""
        level, depth = self._innermost()
        parts = self._state.value_stack[depth:]
        failure = Failure(token, previous, self._accepted(), parts, self._open_brackets())
        if not self._reported_since(failure.start) and not mistakes.only_ends_a_supplied_body(failure):
            self._report(mistakes.explain(failure))
        comment = comment_start(self._source.text, token.start)
        if comment is not None and token.type != "$END":
            at_once = comment == token.start  # no token in it was read, and the statement goes on after it
            token = self._behind_comment(token, comment_end(self._source.text, comment))
            if at_once:
                return token
        if mistakes.is_reserved(failure):
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
        """Give up: what was read so far, as if the text ended here.  Only for the text of a whole file."""
        while len(self._state.state_stack) > 1 and self._level(self._state.state_stack[-1]) != "file":
            self._cut(len(self._state.value_stack) - 1)
        return self._state.feed_token(end, True)  # type: ignore[arg-type]  # lark reads nothing but the type

    # The parser's stack ---------------------------------------------------------------------------------

    def _level(self, state: Any) -> str | None:
        actions = self._state.parse_conf.states[state]
        for terminal, level in _BETWEEN.items():
            if terminal in actions and actions[terminal][0] is Shift:
                return level
        return None

    def _innermost(self) -> tuple[str | None, int]:
        """The innermost level that takes statements or items, and how much of the stack is whole there."""
        stack = self._state.state_stack
        for depth in range(len(stack) - 1, -1, -1):
            level = self._level(stack[depth])
            if level is not None:
                return level, depth
        return None, 0

    def _accepted(self) -> frozenset[str]:
        accepts: Callable[[], set[str]] = self._parser.accepts
        return frozenset(accepts())

    def _cut(self, depth: int) -> None:
        del self._state.state_stack[depth + 1 :]
        del self._state.value_stack[depth:]

    def _open_brackets(self) -> list[Token]:
        unclosed: list[Token] = []
        for value in self._state.value_stack:
            if not isinstance(value, Token):
                continue
            if value.type in CLOSERS:
                unclosed.append(value)
            elif unclosed and value.type == CLOSERS[unclosed[-1].type]:  # the head's own: `model net(classes = 10) {`
                unclosed.pop()
        return unclosed

    def _feed(self, place: Token, *types: str) -> None:
        """Feed words that the text lacks."""
        for type_ in types:
            word = Token(type_, "_", self._source, place.start, place.start)
            self._state.feed_token(word)  # type: ignore[arg-type]  # lark reads nothing but the type

    def _reported_since(self, start: int) -> bool:
        """Whether a mistake in the broken statement was reported before; this is then its consequence."""
        return any(diagnostic.span is not None and diagnostic.span.start >= start for diagnostic in self._found)

    def _report(self, mistake: Diagnostic) -> None:
        """Report a mistake; a refused name or a foreign comment is reported only once."""
        once = mistake.code in ("reserved-word", "foreign-comment")
        told = once and any(other.message == mistake.message for other in self._found)
        if not told:
            self._found.add(mistake)

    def _behind_comment(self, token: Token, end: int) -> Token:
        """The first token after a comment in C's syntax."""
        while token.start < end and token.type != "$END":
            token = next(self._tokens)
        return token

    # The next thing to go on with -----------------------------------------------------------------------

    def _next_item(self, token: Token, parts: list[Any]) -> Token:
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
        while token.type != "$END" and token.type not in TOP_LEVEL:
            if token.type in ("LINK", "RBRACE") or (token.type == "NAME" and token.first_on_line):
                return token
            token = next(self._tokens)
        return self._close_braces(token)

    def _close_braces(self, token: Token) -> Token:
        """Close all bodies that are still open at the end of the text, or at an item's first word."""
        unclosed = self._open_brackets()
        if unclosed and unclosed[-1].start < unclosed[-1].end and not self._reported_since(unclosed[-1].start):
            failure = Failure(token, None, frozenset(), [], unclosed)
            self._found.add(mistakes.explain(failure))
        self._feed(token, *["RBRACE"] * len(unclosed))
        return token
