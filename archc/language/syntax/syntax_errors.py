"""Diagnostics for syntax errors: the likely mistake, from the parser's state at an unexpected token.

The parser knows the tokens that it would accept instead.  The functions here recognize missing brackets, reserved
words, code in other languages and other common mistakes.  Other errors are reported as "expected …, found …".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from archc.diagnostics import Diagnostic, Note, Span
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import OPEN_SIZE, dtype_help
from archc.language.syntax.foreign_syntax import (
    KEYWORDS,
    SYMBOLS,
    comment_start,
    foreign_statement,
    foreign_word,
    symbol_at,
)
from archc.language.syntax.scanner import Token, foreign_comment

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
COMMENT = "write a description as a comment, which begins with `#`"

TOP_LEVEL = frozenset({"MODEL", "BLOCK", "PIPELINE", "IMPORT", "DEVICES"})
STATEMENT = frozenset({"INPUT", "OUTPUT", "LAYER", "LET", "FOR", "SCAN", "YIELD", "IF", "ASSERT"})
CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}

_COMPARISONS = frozenset({"EQUALS", "DIFFERS", "LESS", "LESS_EQUAL", "MORE", "MORE_EQUAL"})
_AFTER_A_NAME = frozenset({"EQUAL", "ARROW", "DOT"})
# Terminals in the list of expected tokens; operators are left out, since nearly any expression can continue with them.
_WORDS = {
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
# The list of expected tokens also leaves out `_CONTINUES` after an expression, and `_BEGINS` before an expression.
# Nearly any expression can continue or begin with these tokens.
_CONTINUES = frozenset({"LPAR", "LSQB", "ARROW", "RANGE", "COLON", "EQUAL"})
_BEGINS = frozenset({"LPAR", "LSQB", "COLON"})
_BINARY = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "POWER", "EQUALS", "DIFFERS", "LESS", "MORE"}
)
_NO_STATEMENT = re.compile(r"[ \t]*(?!(input|output|layer|let|for|scan|yield|if|assert)\b|\w+\s*(:|=[^=]))[\w(\[]")
_NUMBER_END = re.compile(r"[0-9]\s*$")
_LONGEST_STATEMENT = 400  # characters that are searched for keywords of other languages
_LONGEST_HEAD = 80  # characters of the head of a definition that a help text repeats
_NAME_BEFORE = re.compile(r"\b([A-Za-z_]\w*)[ \t]+$")
_IS_NONE = re.compile(r"is[ \t]+(?P<negated>not[ \t]+)?None\b")
_DOTTED = re.compile(r"[\w.]+")


@dataclass(frozen=True)
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


def is_keyword_as_name(failure: Failure) -> bool:
    """Return whether a keyword is used as a name, and does not begin a statement on a new line."""
    token = failure.token
    return (
        "NAME" in failure.accepted
        and bool(failure.parts)
        and token.text.isalpha()
        and token.type != "NAME"
        and not (token.first_on_line and token.type in STATEMENT | TOP_LEVEL | {"ELSE"})
    )


def only_lacks_an_inserted_brace(failure: Failure) -> bool:
    """Return whether the only missing token is the `}` for a `{` that the parser inserted."""
    opener = failure.open[-1] if failure.open else None
    return opener is not None and opener.start == opener.end and _ends_all(failure.token)


def _ends_all(token: Token) -> bool:
    """Return whether all bodies should end before a token: the end of the text, or the next item."""
    return token.type == "$END" or (token.type in TOP_LEVEL and token.first_on_line)


def explain(failure: Failure) -> Diagnostic:
    """Diagnostic for an unexpected token."""
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    if is_keyword_as_name(failure):
        return _reserved(token)
    if previous and failure.parts == [previous] and previous.type in STATEMENT and token.type in _AFTER_A_NAME:
        return _reserved(previous)
    comment = comment_start(token.source.text, token.start)
    if comment is not None:
        return foreign_comment(token.source, comment)
    bracket = _bracket(failure)
    if bracket is not None:
        return bracket
    foreign = _foreign(failure)
    if foreign is not None:
        return foreign
    if token.type in _COMPARISONS and "AND" in accepted and "EQUALS" not in accepted:
        return _error(
            "chained-comparison",
            "comparisons do not chain",
            token.span,
            help="write `a < b and b < c`",
        )
    if token.type == "ELSE" and "LET" in accepted:
        way = "write `else` directly after the `}` of the `if`"
        return _error("syntax-error", "`else` without an `if`", token.span, help=way)
    if token.type == "ELSE" and "LBRACE" in accepted:
        way = "put the conditional expression in parentheses: `let n = (8 if wide else 4)`"
        return _error("syntax-error", "the `if` before this `else` begins a statement", token.span, help=way)
    if token.type == "OPTIONAL":
        way = "write a conditional expression as `(a if condition else b)`, or `?` after the type of an optional input"
        if failure.open and failure.open[-1].type == "LSQB":
            way = OPEN_SIZE
        return _error("syntax-error", "unexpected `?`", token.span, help=way)
    statement = foreign_statement(token.source, token.start)
    if statement is not None:
        return statement
    lone = _lone_name(failure)
    if lone is not None:
        return lone
    return _unexpected(failure)


def _foreign(failure: Failure) -> Diagnostic | None:
    """Diagnostic for a keyword or punctuation of another language; None without one."""
    token, text = failure.token, failure.token.source.text
    if token.type == "DOT" and failure.accepted == {"LSQB"}:
        return _foreign_dtype(failure)
    line = text.rfind("\n", 0, token.start) + 1
    start = max(min(failure.start, line), token.start - _LONGEST_STATEMENT)
    word = foreign_word(text[start : token.end])
    if word is not None:
        place = start + text[start : token.end].index(word)
        span = Span(token.source, place, place + len(word))
        help_ = _absence(text, place) or KEYWORDS[word]
        return _error("syntax-error", f"`{word}` is not a keyword", span, help=help_)
    cased = failure.parts[0] if failure.parts else token
    if isinstance(cased, Token | tree.Name) and cased.span.text.upper() in STATEMENT | TOP_LEVEL:
        typed = cased.span.text
        if not typed.islower():
            way = f"write `{typed.lower()}`"
            return _error("syntax-error", f"`{typed}` is not a keyword", cased.span, help=way)
    if failure.previous is not None and failure.previous.type == "IMPORT" and token.type == "NAME":
        return _error("syntax-error", f"expected a string, found `{token.text}`", token.span, help=KEYWORDS["from"])
    symbol = symbol_at(text, token.start)
    if symbol is None or (symbol == token.text and _hint(failure) is not None):
        return None
    place = text.index(symbol, max(0, token.start - len(symbol) + 1))
    span = Span(token.source, place, place + len(symbol))
    return _error("syntax-error", f"unexpected `{symbol}`", span, help=SYMBOLS[symbol])


def _absence(text: str, place: int) -> str | None:
    """Help for the `is` of `x is None` at an offset of a text; None for any other word."""
    name = _NAME_BEFORE.search(text, max(0, place - _LONGEST_STATEMENT), place)
    asked = _IS_NONE.match(text, place)
    if name is None or asked is None:
        return None
    return f"write `{'' if asked['negated'] else 'not '}given({name[1]})`"


def _foreign_dtype(failure: Failure) -> Diagnostic | None:
    """Diagnostic for the dtype of another library, `torch.float32[...]`; None for any other name."""
    if failure.previous is None:
        return None
    source, start = failure.previous.source, failure.previous.start
    dotted = _DOTTED.match(source.text, start)
    assert dotted is not None, "a name precedes the dot"
    help_ = dtype_help(dotted.group().rpartition(".")[2])
    span = Span(source, start, dotted.end())
    return _error("unknown-dtype", f"unknown dtype `{dotted.group()}`", span, help=help_) if help_ else None


def _reserved(token: Token) -> Diagnostic:
    """Diagnostic for a keyword as a name."""
    return _error(
        "reserved-word",
        f"`{token.text}` is a keyword, and cannot be a name",
        token.span,
        help=f"choose another name, such as `{token.text}_`"
        + ("; to return a tensor, write `output x`" if token.type == "OUTPUT" else ""),
    )


def _bracket(failure: Failure) -> Diagnostic | None:
    """Diagnostic for brackets that do not match; None if they do."""
    token = failure.token
    opener = failure.open[-1] if failure.open else None
    ends_all = _ends_all(token)
    if opener is not None and (ends_all or (token.type in CLOSERS.values() and CLOSERS[opener.type] != token.type)):
        if opener.type == "LBRACE" and not ends_all:
            return _unmatched(token)
        notes = () if token.type == "$END" else (Note(f"it is still open at `{token.text}`", token.span),)
        return Diagnostic("error", "unclosed-bracket", f"`{opener.text}` is never closed", opener.span, notes)
    if opener is None and token.type in CLOSERS.values():
        return _unmatched(token)
    return None


def _unmatched(token: Token) -> Diagnostic:
    """Diagnostic for a closing bracket without an opening one."""
    return _error("unmatched-bracket", f"unmatched `{token.text}`", token.span)


def _lone_name(failure: Failure) -> Diagnostic | None:
    """Diagnostic for a single name in place of a statement, or after a statement; None for anything else."""
    if len(failure.parts) != 1 or not isinstance(failure.parts[0], (Token, tree.Name)):
        return None
    token = failure.token
    part = failure.parts[0]
    if (isinstance(part, Token) and part.type != "NAME") or "EQUAL" not in failure.accepted:
        return None
    span = part.span
    name = span.text
    if not _begins_statement(span):
        return _error(
            "syntax-error",
            f"unexpected `{name}`",
            span,
            help="write an operator, a comma or `->` before it",
        )
    if token.type == "ARROW":
        return _error(
            "unused-chain",
            f"the result of the chain that starts with `{name}` is not used",
            span,
            help=f"name it (`y = {name} -> …`), or return it (`output {name} -> …`)",
        )
    if token.first_on_line or token.type == "RBRACE":
        return _error(
            "syntax-error",
            f"`{name}` alone is not a statement",
            span,
            help=f"write `{name} = …` to assign it, or `output {name}` to return it",
        )
    return None


def _unexpected(failure: Failure) -> Diagnostic:
    """Diagnostic with the expected tokens, "expected …, found …", and a hint if one applies."""
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    wanted = _wanted(accepted)
    help_ = _hint(failure) or _help_for(token, accepted)
    if previous is not None and (token.first_on_line or token.type == "$END"):
        # The missing token belongs after the previous one, not on the next line.
        return _error("syntax-error", f"expected {wanted} after `{_shown(previous)}`", previous.span, help=help_)
    found = "the end of the text" if token.type == "$END" else f"`{_shown(token)}`"
    return _error("syntax-error", f"expected {wanted}, found {found}", token.span, help=help_)


def _help_for(token: Token, accepted: frozenset[str]) -> str | None:
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


# Hints ----------------------------------------------------------------------------------------------------


def _hint(failure: Failure) -> str | None:
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
    closers = "".join(_WORDS[CLOSERS[opener.type]].strip("`") for opener in reversed(failure.open))
    head = " ".join(text[failure.start : failure.previous.end].split())
    closed = f"{head}{closers} {{" if len(head) <= _LONGEST_HEAD and "#" not in head else f"{closers} {{"
    return f"close the `(` before the body: `{closed}`"


def _of_expression(failure: Failure) -> str | None:
    """Hint by the tokens around the unexpected one."""
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


# Texts ----------------------------------------------------------------------------------------------------


def _wanted(accepted: frozenset[str]) -> str:
    """List of the expected tokens: "an expression, `)` or `,`"."""
    words: list[str] = []
    if "MODEL" in accepted:
        words += ["`model`", "`block`", "`pipeline`", "`import`", "`devices`"]
    elif "LET" in accepted:
        words.append("a statement")
    if "NUMBER" in accepted:
        words.append("an expression")
    elif "STRING" in accepted:
        words.append("a string")
    elif "NAME" in accepted and "LET" not in accepted:
        words.append("a name")
    # After an expression, at least one of these is accepted: `+` after a size in a type, `->` after a step of a chain.
    after_expression = bool(accepted & {"PLUS", "OR", "ARROW"})
    for terminal, word in _WORDS.items():
        implied = _CONTINUES if after_expression else _BEGINS if "NUMBER" in accepted else frozenset()
        if terminal in accepted and terminal not in implied:
            words.append(word)
    if not words:
        return "the end of the text"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(token: Token) -> str:
    """Text of a token, shortened to 30 characters."""
    return token.text if len(token.text) <= 30 else token.text[:29] + "…"


def _begins_statement(span: Span) -> bool:
    """Return whether a span is the first on its line or after a brace."""
    text = span.source.text
    before = text[text.rfind("\n", 0, span.start) + 1 : span.start].rstrip()
    return before.endswith(("{", "}")) or not before


def _error(code: str, message: str, span: Span, help: str | None = None) -> Diagnostic:
    return Diagnostic("error", code, message, span, (), help)
