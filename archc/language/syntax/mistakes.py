"""What is wrong where the parser could not go on, in the words of the language.

The parser knows the words that could have followed; a person wants to know which mistake this is.
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

# Help texts, as those of `foreign_names`: all code in backticks is valid.
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
STEP = "a step is an operator, a block or a layer; branches are a tuple: `(x -> relu, x -> tanh) -> concat(1)`"
METHOD = "the next step comes after an arrow: `x -> linear(10) -> relu`"
CHAIN = "an arrow binds loosest of all: put the chain in parentheses, `(x -> relu) * 2`"
POINT = "a number has digits on both sides of its point: `0.5`, `1.0`"
PLUS = "leave the sign out"
FOR = "write `for i in 0..3 { x = x -> relu }`"
RANGE = "a range has two points: `for i in 0..3 { x = x -> relu }`"
BODY = "a body is between braces, `{` and `}`"
COMMENT = "text that describes a model is in a comment, which begins with `#`"

TOP_LEVEL = frozenset({"MODEL", "BLOCK", "PIPELINE", "IMPORT", "DEVICES"})
STATEMENT = frozenset({"INPUT", "OUTPUT", "LAYER", "LET", "FOR", "SCAN", "YIELD", "IF", "ASSERT"})
CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}

_COMPARISONS = frozenset({"EQUALS", "DIFFERS", "LESS", "LESS_EQUAL", "MORE", "MORE_EQUAL"})
_AFTER_A_NAME = frozenset({"EQUAL", "ARROW", "DOT"})
# What may come next, as a person would say it; operators go without saying.
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
# What an expression may go on or begin with is less likely meant than what ends it.
_GOES_ON = frozenset({"LPAR", "LSQB", "ARROW", "RANGE", "COLON", "EQUAL"})
_BEGINS = frozenset({"LPAR", "LSQB", "COLON"})
_BINARY = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "POWER", "EQUALS", "DIFFERS", "LESS", "MORE"}
)
_NO_STATEMENT = re.compile(r"[ \t]*(?!(input|output|layer|let|for|scan|yield|if|assert)\b|\w+\s*(:|=[^=]))[\w(\[]")
_NUMBER_END = re.compile(r"[0-9]\s*$")
_LONGEST_STATEMENT = 400  # characters that are searched for words of other languages
_NAME_BEFORE = re.compile(r"\b([A-Za-z_]\w*)[ \t]+$")
_IS_NONE = re.compile(r"is[ \t]+(?P<negated>not[ \t]+)?None\b")
_DOTTED = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class Failure:
    """The point at which parsing stopped.

    `token` is the word that fits nowhere and `previous` the one before it; `accepted` are the types that would
    fit; `parts` is what was read of the unfinished statement or item, and `open` the brackets not yet closed.
    """

    token: Token
    previous: Token | None
    accepted: frozenset[str]
    parts: list[Any]
    open: list[Token]

    @property
    def start(self) -> int:
        """Where the unfinished statement starts."""
        if not self.parts:
            return self.token.start
        first = self.parts[0]
        start: int = first.start if isinstance(first, Token) else first.span.start
        return start


def is_reserved(failure: Failure) -> bool:
    """Whether a keyword stands where a name is wanted, and was hardly meant to begin a statement."""
    token = failure.token
    return (
        "NAME" in failure.accepted
        and bool(failure.parts)
        and token.text.isalpha()
        and token.type != "NAME"
        and not (token.first_on_line and token.type in STATEMENT | TOP_LEVEL | {"ELSE"})
    )


def only_ends_a_supplied_body(failure: Failure) -> bool:
    """Return whether a `}` is missing only because its `{` is, which was reported already."""
    opener = failure.open[-1] if failure.open else None
    return opener is not None and opener.start == opener.end and _ends_all(failure.token)


def _ends_all(token: Token) -> bool:
    return token.type == "$END" or (token.type in TOP_LEVEL and token.first_on_line)


def explain(failure: Failure) -> Diagnostic:
    """The diagnostic for a failure."""
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    if is_reserved(failure):
        return reserved(token)
    if previous and failure.parts == [previous] and previous.type in STATEMENT and token.type in _AFTER_A_NAME:
        return reserved(previous)
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
            help="compare two by two: `a < b and b < c`",
        )
    if token.type == "ELSE" and "LET" in accepted:
        return _error("syntax-error", "`else` belongs to no `if`", token.span, help="it comes right after its `}`")
    if token.type == "ELSE" and "LBRACE" in accepted:
        way = "a conditional expression is inside brackets: `let n = (8 if wide else 4)`"
        return _error("syntax-error", "the `if` before this `else` begins a statement", token.span, help=way)
    if token.type == "OPTIONAL":
        way = "within brackets, `a if condition else b` chooses; after an input's type, `?` makes it optional"
        if failure.open and failure.open[-1].type == "LSQB":
            way = OPEN_SIZE
        return _error("syntax-error", "`?` does not fit here", token.span, help=way)
    statement = foreign_statement(token.source, token.start)
    if statement is not None:
        return statement
    lone = _lone_name(failure)
    if lone is not None:
        return lone
    return _unexpected(failure)


def _foreign(failure: Failure) -> Diagnostic | None:
    """The diagnostic for a word or punctuation of another language."""
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
        return _error("syntax-error", f"`{word}` is not a keyword of the language", span, help=help_)
    cased = failure.parts[0] if failure.parts else token
    if isinstance(cased, Token | tree.Name) and cased.span.text.upper() in STATEMENT | TOP_LEVEL:
        typed = cased.span.text
        if not typed.islower():
            way = f"write `{typed.lower()}`"
            return _error("syntax-error", f"`{typed}` is not a keyword of the language", cased.span, help=way)
    if failure.previous is not None and failure.previous.type == "IMPORT" and token.type == "NAME":
        return _error("syntax-error", f"expected a string, found `{token.text}`", token.span, help=KEYWORDS["from"])
    symbol = symbol_at(text, token.start)
    if symbol is None or (symbol == token.text and hint(failure) is not None):
        return None
    place = text.index(symbol, max(0, token.start - len(symbol) + 1))
    span = Span(token.source, place, place + len(symbol))
    return _error("syntax-error", f"`{symbol}` does not fit here", span, help=SYMBOLS[symbol])


def _absence(text: str, place: int) -> str | None:
    """Help for the `is` of `x is None`, at a place of a text; None for any other word."""
    name = _NAME_BEFORE.search(text, max(0, place - _LONGEST_STATEMENT), place)
    asked = _IS_NONE.match(text, place)
    if name is None or asked is None:
        return None
    return f"write `{'' if asked['negated'] else 'not '}given({name[1]})`"


def _foreign_dtype(failure: Failure) -> Diagnostic | None:
    """The diagnostic for `torch.float32[...]`."""
    if failure.previous is None:
        return None
    source, start = failure.previous.source, failure.previous.start
    dotted = _DOTTED.match(source.text, start)
    assert dotted is not None, "a name precedes the dot"
    help_ = dtype_help(dotted.group().rpartition(".")[2])
    span = Span(source, start, dotted.end())
    return _error("unknown-dtype", f"there is no dtype `{dotted.group()}`", span, help=help_) if help_ else None


def reserved(token: Token) -> Diagnostic:
    return _error(
        "reserved-word",
        f"`{token.text}` is a word of the language, and cannot be a name",
        token.span,
        help=f"choose another name, such as `{token.text}_`"
        + ("; what a model returns is `output x`" if token.type == "OUTPUT" else ""),
    )


def _bracket(failure: Failure) -> Diagnostic | None:
    """The diagnostic for brackets that do not match, where that is what is wrong."""
    token = failure.token
    opener = failure.open[-1] if failure.open else None
    ends_all = _ends_all(token)
    if opener is not None and (ends_all or (token.type in CLOSERS.values() and CLOSERS[opener.type] != token.type)):
        if opener.type == "LBRACE" and not ends_all:
            return _closes_nothing(token)
        notes = () if token.type == "$END" else (Note(f"it is still open at `{token.text}`", token.span),)
        return Diagnostic("error", "unclosed-bracket", f"`{opener.text}` is never closed", opener.span, notes)
    if opener is None and token.type in CLOSERS.values():
        return _closes_nothing(token)
    return None


def _closes_nothing(token: Token) -> Diagnostic:
    return _error("unmatched-bracket", f"`{token.text}` closes nothing", token.span)


def _lone_name(failure: Failure) -> Diagnostic | None:
    """The diagnostic for a name that stands where a statement should, or behind one."""
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
            f"`{name}` does not fit here",
            span,
            help="is an operator, a comma or `->` missing before it?",
        )
    if token.type == "ARROW":
        return _error(
            "unused-chain",
            f"the chain that starts with `{name}` gives its result to nobody",
            span,
            help=f"name the result (`y = {name} -> …`), or return it (`output {name} -> …`)",
        )
    if token.first_on_line or token.type == "RBRACE":
        return _error(
            "syntax-error",
            f"`{name}` alone is not a statement",
            span,
            help=f"`{name} = …` gives it a value, `output {name}` returns it",
        )
    return None


def _unexpected(failure: Failure) -> Diagnostic:
    token, previous, accepted = failure.token, failure.previous, failure.accepted
    wanted = _wanted(accepted)
    help_ = hint(failure) or _help_for(token, accepted)
    if previous is not None and (token.first_on_line or token.type == "$END"):
        # The next line is innocent: what is missing is missing behind the word before.
        return _error("syntax-error", f"expected {wanted} after `{_shown(previous)}`", previous.span, help=help_)
    found = "the end of the text" if token.type == "$END" else f"`{_shown(token)}`"
    return _error("syntax-error", f"expected {wanted}, found {found}", token.span, help=help_)


def _help_for(token: Token, accepted: frozenset[str]) -> str | None:
    """Help for an unexpected token, independent of its statement."""
    if token.type == "EQUAL" and "EQUALS" in accepted:
        return "`==` compares; `=` gives a name its value, at the start of a statement"
    if token.type == "COMMA" and "LET" in accepted:
        return SYMBOLS[";"]
    if "MODEL" in accepted and "LET" not in accepted:
        return "statements are between the braces of a `model` or a `block`"
    if accepted == {"LSQB"}:
        return "a type is a dtype with its sizes: `f32[N, 10]`; that of a scalar is `f32[]`"
    return None


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


def _wanted(accepted: frozenset[str]) -> str:
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
    # What was read may be reduced already to what takes no operator any more.
    behind_expression = bool(accepted & {"PLUS", "OR", "ARROW"})
    for terminal, word in _WORDS.items():
        implied = _GOES_ON if behind_expression else _BEGINS if "NUMBER" in accepted else frozenset()
        if terminal in accepted and terminal not in implied:
            words.append(word)
    if not words:
        return "the end of the text"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(token: Token) -> str:
    return token.text if len(token.text) <= 30 else token.text[:29] + "…"


def _begins_statement(span: Span) -> bool:
    text = span.source.text
    before = text[text.rfind("\n", 0, span.start) + 1 : span.start].rstrip()
    return before.endswith(("{", "}")) or not before


def _error(code: str, message: str, span: Span, help: str | None = None) -> Diagnostic:
    return Diagnostic("error", code, message, span, (), help)
