"""Diagnostics for syntax errors: the likely mistake, from the parser's state at an unexpected token.

The parser knows the tokens that it would accept instead.  The functions here recognize missing brackets, reserved
words, code in other languages and other common mistakes.  Other errors are reported as "expected …, found …".
"""

from __future__ import annotations

import re

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
from archc.language.syntax.parse_failure import CLOSERS, STATEMENT, TERMINAL_WORDS, TOP_LEVEL, Failure
from archc.language.syntax.scanner import Token, foreign_comment
from archc.language.syntax.syntax_hints import hint, token_hint

_COMPARISONS = frozenset({"EQUALS", "DIFFERS", "LESS", "LESS_EQUAL", "MORE", "MORE_EQUAL"})
_AFTER_A_NAME = frozenset({"EQUAL", "ARROW", "DOT"})
# The list of expected tokens leaves out `_CONTINUES` after an expression, and `_BEGINS` before an expression.
# Nearly any expression can continue or begin with these tokens.
_CONTINUES = frozenset({"LPAR", "LSQB", "ARROW", "RANGE", "COLON", "EQUAL"})
_BEGINS = frozenset({"LPAR", "LSQB", "COLON"})
_LONGEST_STATEMENT = 400  # characters that are searched for keywords of other languages
_NAME_BEFORE = re.compile(r"\b([A-Za-z_]\w*)[ \t]+$")
_IS_NONE = re.compile(r"is[ \t]+(?P<negated>not[ \t]+)?None\b")
_DOTTED = re.compile(r"[\w.]+")


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
    if symbol is None or (symbol == token.text and hint(failure) is not None):
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
    help_ = hint(failure) or token_hint(token, accepted)
    if previous is not None and (token.first_on_line or token.type == "$END"):
        # The missing token belongs after the previous one, not on the next line.
        return _error("syntax-error", f"expected {wanted} after `{_shown(previous)}`", previous.span, help=help_)
    found = "the end of the text" if token.type == "$END" else f"`{_shown(token)}`"
    return _error("syntax-error", f"expected {wanted}, found {found}", token.span, help=help_)


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
    # One of the tokens `+`, `or` and `->` is accepted exactly if the text before is an expression.
    after_expression = bool(accepted & {"PLUS", "OR", "ARROW"})
    for terminal, word in TERMINAL_WORDS.items():
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
