"""State of the parser at an unexpected token, and groups of token types."""

from __future__ import annotations

from typing import Any

from archc.frozen_dataclass import frozen_dataclass
from archc.language.syntax.scanner import Token

TOP_LEVEL = frozenset({"MODEL", "BLOCK", "PIPELINE", "IMPORT", "DEVICES"})
STATEMENT = frozenset({"INPUT", "OUTPUT", "LAYER", "LET", "FOR", "SCAN", "YIELD", "IF", "ASSERT"})
CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
# Terminals in the list of expected tokens; operators are left out, since nearly any expression can continue with them.
TERMINAL_WORDS = {
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "ARROW": "`->`",
    "LINKED": "`<->`",
    "RANGE": "`..`",
    "IN": "`in`",
    "LINK": "`link`",
}


@frozen_dataclass
class Failure:
    """State of the parser at an unexpected token.

    Attributes:
        token: the unexpected token; `previous` is the one before it.
        accepted: types of the tokens that the parser accepts.
        parts: tokens and nodes of the unfinished statement or item.
        open: brackets that are not closed, the innermost last.
    """

    token: Token
    previous: Token | None
    accepted: frozenset[str]
    parts: list[Any]
    open: list[Token]

    @property
    def start(self) -> int:
        """Offset of the unfinished statement."""
        if not self.parts:
            return self.token.start
        first = self.parts[0]
        start: int = first.start if isinstance(first, Token) else first.span.start
        return start
