"""Help texts for likely syntax mistakes, such as a missing label or a chain without parentheses."""

from __future__ import annotations

import re

from archc.language.syntax.foreign_names import OPEN_SIZE
from archc.language.syntax.foreign_syntax import SYMBOLS
from archc.language.syntax.literals import UNITS
from archc.language.syntax.parse_failure import CLOSERS, STATEMENT, TERMINAL_WORDS, Failure
from archc.language.syntax.scanner import Token

# Help texts.  archc accepts the examples in backticks if `x` and `y` are tensors.
INPUT = "write an input as a name and a type, `input z: f32[N, 8]`, or for a scalar `input z: f32[]`"
OUTPUT = "write `output x`, or with a name `output z = x`, or with a type `output z: f32[2, 8] = x`"
OUTPUTS = "write several output statements, or a tuple: `output (x, y)`"
HEAD = "begin a definition with its kind and name: `model net(width = 8) { input x: f32[N, width] output x -> relu }`"
PIPELINE = "join the passes of a pipeline with arrows: `pipeline small = fold -> quant`"
NUMBERED = "write the number of a layer in brackets: `for i in 0..3 { x = x -> h[i]: linear(8) }`"
QUOTED = "write the operator without quotes: `x -> relu`"
LAYER = "write `layer fc = linear(10)`, and `x -> fc` to use it"
LABEL = "name a layer in a chain, with a colon after the name: `x -> fc1: linear(10)`"
ATTRIBUTES = "put attributes in parentheses: `x -> linear(10)`"
TUPLE = "put several tensors in a tuple: `(x -> relu, x -> tanh)`"
STEP = "write an operator, a block or a layer; for branches, write a tuple: `(x -> relu, x -> tanh) -> concat(1)`"
METHOD = "write an arrow before the next step: `x -> linear(10) -> relu`"
CHAIN = "put the chain in parentheses, since `->` has the lowest precedence: `(x -> relu) * 2`"
POINT = "write a digit on both sides of the decimal point: `0.5`, `1.0`"
PLUS = "leave the sign out"
FOR = "write `for i in 0..3 { x = x -> relu }`"
RANGE = "write a range with two points: `for i in 0..3 { x = x -> relu }`"
BODY = "write the body between braces, `{` and `}`"
UNIT = "write the unit directly after the number"
COMMENT = "write a description as a comment, which begins with `#`"

_BINARY = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "POWER", "EQUALS", "DIFFERS", "LESS", "MORE"}
)
_NO_STATEMENT = re.compile(r"[ \t]*(?!(input|output|layer|let|for|scan|yield|if|assert)\b|\w+\s*(:|=[^=]))[\w(\[]")
_NUMBER_END = re.compile(r"[0-9]\s*$")
_LONGEST_HEAD = 80  # characters of the head of a definition that a help text repeats


def hint(failure: Failure) -> str | None:
    """Help text for the likely mistake at an unexpected token; None if no hint applies."""
    head = failure.parts[0] if failure.parts else None
    kind = head.type if isinstance(head, Token) else None
    return _of_statement(failure, kind) or _of_expression(failure)


def _of_statement(failure: Failure, kind: str | None) -> str | None:
    """Hint by the kind of the unfinished statement or item: the type of its first token."""
    token, accepted = failure.token, failure.accepted
    is_complete = "LET" in accepted  # a statement can begin at the token
    has_colon = any(isinstance(part, Token) and part.type == "COLON" for part in failure.parts)
    after = failure.previous.type if failure.previous is not None else ""
    if token.type == "STRING" and is_complete and token.first_on_line:
        return COMMENT
    if token.type in ("STRING", "LBRACE") and is_complete and after == "NAME":
        return NUMBERED
    if kind in ("MODEL", "BLOCK") and not (token.type == "COLON" and "LBRACE" in accepted):
        return _closed_head(failure) or HEAD
    if kind == "PIPELINE" or (token.type == "COMMA" and accepted >= {"PIPELINE", "ARROW"}):
        return PIPELINE
    if kind == "INPUT":
        if token.type == "ELLIPSIS":
            return OPEN_SIZE
        continues = token.type in ("LPAR", "EQUAL", "LSQB") or (token.type == "COMMA" and not has_colon)
        return INPUT if continues or not is_complete else None
    if kind == "OUTPUT" and (token.type == "COLON" or "LSQB" in accepted - {"ARROW"} == {"LSQB"}):
        return OUTPUT
    if kind == "OUTPUT" and token.type == "COMMA" and is_complete and _NO_STATEMENT.match(token.source.text, token.end):
        return OUTPUTS
    if kind == "LAYER":
        return LAYER
    if kind == "FOR" and token.type == "LPAR" and "NAME" in accepted:
        return FOR
    return None


def _closed_head(failure: Failure) -> str | None:
    """Hint for a head of a definition whose `(` is open at the body; None for any other mistake."""
    token, text = failure.token, failure.token.source.text
    begins_body = token.type == "LBRACE" or (token.type in STATEMENT and token.first_on_line)
    if not begins_body or "RPAR" not in failure.accepted or failure.previous is None:
        return None
    closers = "".join(TERMINAL_WORDS[CLOSERS[opener.type]].strip("`") for opener in reversed(failure.open))
    head = " ".join(text[failure.start : failure.previous.end].split())
    closed = f"{head}{closers} {{" if len(head) <= _LONGEST_HEAD and "#" not in head else f"{closers} {{"
    return f"close the `(` before the body: `{closed}`"


def _of_expression(failure: Failure) -> str | None:
    """Hint by the tokens around the unexpected one."""
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    is_complete = "LET" in accepted
    after = previous.type if previous is not None else ""
    before = token.source.text[max(0, token.start - 40) : token.start]
    if previous is not None and after == "NUMBER" and token.text in UNITS and previous.text[-1].isdigit():
        return f"{UNIT}: `{previous.text}{token.text}`"
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
        return STEP
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


def token_hint(token: Token, accepted: frozenset[str]) -> str | None:
    """Help for an unexpected token, independent of its statement."""
    if token.type == "EQUAL" and "EQUALS" in accepted:
        return "write `==` to compare; `=` assigns to a name at the start of a statement"
    if token.type == "COMMA" and "LET" in accepted:
        return SYMBOLS[";"]
    if "MODEL" in accepted and "LET" not in accepted:
        return "write statements between the braces of a `model` or a `block`"
    if accepted == {"LSQB"}:
        return "write a type as a dtype with sizes, `f32[N, 10]`, or for a scalar `f32[]`"
    return None
