"""Text to syntax tree: the front door of the language's first half.

lark's LALR(1) tables drive the parse, one token at a time: the scanner makes the tokens, the builder the tree,
and `recovery` steps in where a token does not fit.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, NamedTuple

from lark import Lark, UnexpectedToken

from archc.collector import paused_collector
from archc.diagnostics import Diagnostics, Source, TooManyMistakes
from archc.language.syntax import tree
from archc.language.syntax.recovery import Recovery
from archc.language.syntax.scanner import Scanner, Token
from archc.language.syntax.tables import load_grammar
from archc.language.syntax.tree_builder import Builder, TooDeep

LONGEST_TEXT = 64 * 2**20  # characters
MOST_MISTAKES = 20  # in one text; whoever has more has given us the wrong file
# The length of the parser's stack.  It grows with brackets, bodies, `else if` and signs, by one to six a level,
# and is what bounds the recursion of all who walk the tree.
_DEEPEST = 160


class _Machine(NamedTuple):
    lark: Lark
    scanner: Scanner
    builder: Builder


@cache
def _machine() -> _Machine:
    builder = Builder()
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
    stages: tuple[tree.ChainStep, ...] | None = _parse("pipeline_text", source, diagnostics)
    return stages or ()


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Expression:
    """A single expression: the value of `--set classes=100`.  With mistakes, it reads as 0."""
    value: tree.Expression | None = _parse("value_text", source, diagnostics)
    return value if value is not None else tree.Number(Token("", "", source, 0, len(source.text)).span, 0)


def keywords() -> frozenset[str]:
    """The words that cannot be names."""
    return frozenset(_machine().scanner.keywords)


def _parse(start: str, source: Source, diagnostics: Diagnostics) -> Any:
    mistakes = Diagnostics(most=MOST_MISTAKES)
    if len(source.text) > LONGEST_TEXT:
        diagnostics.error(
            "text-too-long",
            f"the text has {len(source.text):,} characters; the limit is {LONGEST_TEXT:,}",
        )
        source = Source("", source.name, source.path)
    with _lock, paused_collector():
        try:
            return _drive(start, source, mistakes)
        finally:
            diagnostics.extend(mistakes)


def _drive(start: str, source: Source, found: Diagnostics) -> Any:
    lark, scanner, builder = _machine()
    comments: list[tree.Comment] = []
    builder.begin(source, comments, found)
    interactive = lark.parse_interactive(start=start)
    state = interactive.parser_state
    stack, feed = state.state_stack, state.feed_token
    tokens = scanner.scan(source, comments, found)
    recovery = Recovery(interactive, tokens, source, found)
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
