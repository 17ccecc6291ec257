"""Hints for syntax errors: the statement of another language that the line resembles, and the text to write instead.

The constants are help texts, as those of `foreign_words`: all code in backticks is valid.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archc.language.syntax.foreign_words import OPEN_SIZE
from archc.language.syntax.scanner import Token

if TYPE_CHECKING:
    from archc.language.syntax.mistakes import Failure

INPUT = "an input is a name and a type: `input z: f32[N, 8]`, and a scalar is `input z: f32[]`"
OUTPUT = "write `output x`, or with a name `output z = x`, or with a type `output z: f32[2, 8] = x`"
OUTPUTS = "write an output for each, or a tuple: `output (x, y)`"
HEAD = (
    "a definition begins with its kind and a name: `model net(width = 8) { input x: f32[N, width] output x -> relu }`"
)
PIPELINE = "passes of a pipeline are joined by arrows: `pipeline small = fold -> quant`"
NUMBERED = "a layer of a loop has a number in brackets: `for i in 0..3 { x = x -> h[i]: linear(8) }`"
QUOTED = "an operator is written without quotes: `x -> relu`"
LAYER = "write `layer fc = linear(10)`, and `x -> fc` where it is used"
LABEL = "a layer's name is in a chain, with a colon after it: `x -> fc1: linear(10)`"
ATTRIBUTES = "attributes go in parentheses: `x -> linear(10)`"
TUPLE = "several tensors are a tuple: `(x -> relu, x -> tanh)`"
STAGE = "a stage is an operator, a block or a layer; branches are a tuple: `(x -> relu, x -> tanh) -> concat(1)`"
METHOD = "the next stage comes after an arrow: `x -> linear(10) -> relu`"
CHAIN = "an arrow binds loosest of all: put the chain in parentheses, `(x -> relu) * 2`"
POINT = "a number has digits on both sides of its point: `0.5`, `1.0`"
PLUS = "leave the sign out"
FOR = "write `for i in 0..3 { x = x -> relu }`"
RANGE = "a range has two points: `for i in 0..3 { x = x -> relu }`"
BODY = "a body is between braces, `{` and `}`"
COMMENT = "text that describes a model is in a comment, which begins with `#`"

_BINARY = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "POWER", "EQUALS", "DIFFERS", "LESS", "MORE"}
)
_NO_STATEMENT = re.compile(r"[ \t]*(?!(input|output|layer|let|for|scan|yield|if|assert)\b|\w+\s*(:|=[^=]))[\w(\[]")
_NUMBER_END = re.compile(r"[0-9]\s*$")


def hint(failure: Failure) -> str | None:
    """Help for an unexpected token; None where no hint applies."""
    head = failure.parts[0] if failure.parts else None
    kind = head.type if isinstance(head, Token) else None
    return _of_statement(failure, kind) or _of_expression(failure)


def _of_statement(failure: Failure, kind: str | None) -> str | None:
    token, accepted = failure.token, failure.accepted
    is_complete = "LET" in accepted  # the next statement may begin here
    has_colon = any(isinstance(part, Token) and part.type == "COLON" for part in failure.parts)
    after = failure.previous.type if failure.previous is not None else ""
    if token.type == "STRING" and is_complete and token.first_on_line:
        return COMMENT
    if token.type in ("STRING", "LBRACE") and is_complete and after == "NAME":
        return NUMBERED
    if kind in ("MODEL", "BLOCK") and not (token.type == "COLON" and "LBRACE" in accepted):
        return HEAD
    if kind == "PIPELINE" or (token.type == "COMMA" and accepted >= {"PIPELINE", "ARROW"}):
        return PIPELINE
    if kind == "INPUT":
        if token.type == "ELLIPSIS":
            return OPEN_SIZE
        goes_on = token.type in ("LPAR", "EQUAL", "LSQB") or (token.type == "COMMA" and not has_colon)
        return INPUT if goes_on or not is_complete else None
    if kind == "OUTPUT" and (token.type == "COLON" or "LSQB" in accepted - {"ARROW"} == {"LSQB"}):
        return OUTPUT
    if kind == "OUTPUT" and token.type == "COMMA" and is_complete and _NO_STATEMENT.match(token.source.text, token.end):
        return OUTPUTS
    if kind == "LAYER":
        return LAYER
    if kind == "FOR" and token.type == "LPAR" and "NAME" in accepted:
        return FOR
    return None


def _of_expression(failure: Failure) -> str | None:
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    is_complete = "LET" in accepted
    after = previous.type if previous is not None else ""
    before = token.source.text[max(0, token.start - 40) : token.start]
    if token.type in _BINARY and "ARROW" in accepted and "NUMBER" not in accepted:
        return CHAIN
    if "LBRACE" in accepted and (token.type == "COLON" or (token.type == "NAME" and "LPAR" not in accepted)):
        return BODY
    if token.type == "COLON" and ("ARROW" in accepted or "EQUAL" in accepted) and "LBRACE" not in accepted:
        return LABEL
    if token.type == "EQUAL" and is_complete and re.search(r"->\s*\w+\s*$", before):
        return LABEL
    if token.type == "NUMBER" and after == "NAME" and not token.first_on_line:
        return ATTRIBUTES
    if token.type == "COMMA" and is_complete and _NO_STATEMENT.match(token.source.text, token.end):
        return TUPLE
    if token.type == "STRING" and after == "ARROW":
        return QUOTED
    if token.type in ("LSQB", "LPAR") and after == "ARROW":
        return STAGE
    if token.type == "DOT" and after == "RPAR" and "ARROW" in accepted:
        return METHOD
    if token.type == "DOT" and "NUMBER" in accepted:
        return POINT
    if after == "DOT" and previous is not None and _NUMBER_END.search(token.source.text[: previous.start][-3:]):
        return POINT
    if token.type == "PLUS" and "NUMBER" in accepted:
        return PLUS
    if token.type == "ELLIPSIS" and "LBRACE" in accepted:
        return RANGE
    return None
