"""Keywords, punctuation, comments and statements of Python, C and others, and help for each.

The values of the tables are help texts, as in `foreign_operators`.
"""

from __future__ import annotations

import keyword
import re

from archc.diagnostics import Diagnostic, Source, Span
from archc.language.syntax.foreign_names import member_help

_FUNCTION = "write a block: `block Twice { input x output x + x }`"
_IMPORT = (
    'leave it out: operators need no import; to import blocks, quote the file: `import "std/attention.arch" as att`'
)
_NO_ERRORS = "check a condition of attributes with `assert n > 0`"
KEYWORDS = {
    "elif": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "elseif": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "switch": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "return": "write `output x`",
    "def": _FUNCTION,
    "function": _FUNCTION,
    "func": _FUNCTION,
    "fn": _FUNCTION,
    "lambda": _FUNCTION,
    "class": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "network": "write `model net { input x: f32[N, 8] output x -> relu }`",
    "struct": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "module": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "from": _IMPORT,
    "include": _IMPORT,
    "while": "loop a number of times: `for i in 0..3 { x = x -> relu }`",
    "repeat": "loop a number of times: `for i in 0..3 { x = x -> relu }`",
    "pass": "leave it out; a body may be empty",
    "break": "set the number of iterations: `for i in 0..n { x = x -> relu }`",
    "continue": "use a condition: `for i in 0..3 { if i > 0 { x = x -> relu } }`",
    "try": _NO_ERRORS,
    "raise": _NO_ERRORS,
    "with": "leave it out; the language has no context managers",
    "del": "leave it out; the language has no memory management",
    "global": "leave it out; give the block an attribute instead",
    "var": "write `z = x`",
    "auto": "write `z = x`",
    "const": "write `let k = 3`",
    "val": "write `let k = 3`",
    "param": "write `w = parameter((8, 8))`",
    "print": "leave it out; `archc show` prints every layer's shape",
    "self": "layers need no `self`: the name comes before the operator, `x -> fc: linear(10)`",
    "inputs": "write `input z: f32[N, 8]`",
    "outputs": "write `output x`",
    "async": "leave it out; the language has no concurrency",
    "is": "write `given(x)` to test for an optional input, and `n == 3` to compare",
}
"""Help for keywords of other languages, by keyword."""

_BOTH = "write `and` between truth values; for tensors, `(x > 0, x < 1) -> logical_and`"
_EITHER = "write `or` between truth values; for tensors, `(x < 0, x > 1) -> logical_or`"
_ARROW = "write the arrow as `->`: `x -> relu`"
_KEYWORD_ARGUMENTS = "write the attributes one by one: `x -> linear(8, bias = false)`"
_QUOTES = 'write strings in straight quotes: `"same"`'
SYMBOLS = {
    "=>": _ARROW,
    "~>": _ARROW,
    "<-": "write `z = x`",
    "|>": _ARROW,
    ">>": _ARROW,
    ":=": "write `z = x`",
    "+=": "write `x = x + y`",
    "-=": "write `x = x - y`",
    "*=": "write `x = x * y`",
    "/=": "write `x = x / y`",
    "++": "write `x = x + 1`",
    "--": "write `x = x - 1`",
    "===": "write `n == 3`",
    "::": "write a single `.` for a member, and a single `:` for a slice: `x[:, 0]`",
    "/*": "begin each line of a comment with `#`",
    "//": "begin a comment with `#`; `//` is integer division",
    "**": _KEYWORD_ARGUMENTS,
    "*": _KEYWORD_ARGUMENTS,
    "@": "write a matrix product as `(x, y) -> matmul`",
    ";": "leave it out; statements need no separator",
    "\\": "leave it out; an expression may continue on the next line",
    "`": _QUOTES,
    "&": _BOTH,
    "&&": _BOTH,
    "|": _EITHER,
    "||": _EITHER,
    "~": "write `not`; for a tensor, `mask -> logical_not`",
    "$": "write the name alone: `x`",
    "“": _QUOTES,
    "”": _QUOTES,
    "‘": _QUOTES,
    "’": _QUOTES,
}
"""Help for punctuation of other languages."""

EQUIVALENTS = {
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
    "^": "**",
    "|>": "->",
    "→": "->",
    "⇒": "->",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
}
"""Operators of this language, by the equivalent operator of another language."""

_STRING = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_COMMENT = re.compile(r"//(?!\s*[0-9])|/\*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LONGEST = 200  # characters of a line that the patterns below are matched against
_TARGET = re.compile(r"\s*(?P<target>[^=#\n]*?[^=#\s!<>:+\-*/])\s*=(?!=)")
_SEVERAL = re.compile(r"[\[(]?[\w\s,()\[\]]*,[\w\s,()\[\]]*")
_PART = re.compile(r"[A-Za-z_][\w.]*\[[^\]]*\]")
_MEMBER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_CALL = re.compile(r"\s*(?P<call>(?P<owner>[A-Za-z_]\w*)\.(?P<method>[A-Za-z_]\w*)\s*\((?P<argument>.*)\))")

_LIST_METHODS = {"append": "({},)", "extend": "{}", "add": "({},)", "push": "({},)", "insert": "({},)"}
"""Methods that extend a list, each with the tuple to add instead."""


def symbol_at(text: str, offset: int) -> str | None:
    """Punctuation of another language that covers an offset of a text, or None."""
    for symbol in sorted(SYMBOLS, key=len, reverse=True):
        for start in range(max(0, offset - len(symbol) + 1), offset + 1):
            if text.startswith(symbol, start):
                return symbol
    return None


def comment_start(text: str, offset: int) -> int | None:
    """Start of a comment in C's syntax, `//` or `/*`, at or before an offset on the same line.

    A `//` before a number is a division.  Return None if there is no comment.
    """
    line = text.rfind("\n", 0, offset) + 1
    outside_strings = _STRING.sub(lambda match: " " * len(match.group()), text[line : offset + 2])
    found = _COMMENT.search(outside_strings)
    return line + found.start() if found else None


def comment_end(text: str, start: int) -> int:
    """End of a comment in C's syntax that begins at `start`."""
    mark, length = ("*/", 2) if text.startswith("/*", start) else ("\n", 0)
    end = text.find(mark, start + 2)
    return len(text) if end < 0 else end + length


def foreign_word(text: str) -> str | None:
    """First keyword of another language in a statement, or None.

    After the first word of the statement, only keywords of Python count.
    """
    words = _WORD.findall(_STRING.sub("", text))
    return next((word for i, word in enumerate(words) if word in KEYWORDS and (i == 0 or _is_pythons(word))), None)


def _is_pythons(word: str) -> bool:
    return keyword.iskeyword(word) or word == "self"


def foreign_statement(source: Source, offset: int) -> Diagnostic | None:
    """Diagnostic for a Python statement on the line of a syntax error; None for any other line.

    Bracketed targets, item assignment and method calls are recognized.

    Args:
        offset: offset of the unexpected token.
    """
    start = max(source.text.rfind(sign, 0, offset) for sign in "\n{}") + 1
    line = source.text[start : start + _LONGEST].partition("\n")[0]
    target = _TARGET.match(line)
    if target is not None and start + target.end() > offset:
        return _target(Span(source, start + target.start("target"), start + target.end("target")))
    call = _CALL.match(line)
    if call is not None and start + call.end("owner") <= offset <= start + call.end("method"):
        return _method(call, Span(source, start + call.start("call"), start + call.end("method")))
    return None


def _target(span: Span) -> Diagnostic | None:
    """Diagnostic for an assignment to brackets, an item or a member; None for any other target."""
    target = span.text
    if _SEVERAL.fullmatch(target) and not target.replace(",", "").replace(" ", "").isidentifier():
        names = ", ".join(re.findall(r"[A-Za-z_]\w*", target))
        help_ = f"write the names without brackets: `{names} = ...`"
        return Diagnostic("error", "syntax-error", f"cannot assign to `{target}`", span, (), help_)
    if _PART.fullmatch(target):
        help_ = "write `(mask, x, y) -> where` to select elements, or `(x, index, y) -> scatter(1)` to set some"
        return Diagnostic("error", "syntax-error", f"cannot assign to `{target}`", span, (), help_)
    if _MEMBER.fullmatch(target):
        help_ = "assign to a plain name; a layer is named before its operator: `x -> fc: linear(10)`"
        return Diagnostic("error", "syntax-error", f"cannot assign to `{target}`", span, (), help_)
    return None


def _method(call: re.Match[str], span: Span) -> Diagnostic:
    """Diagnostic for a method call as a statement."""
    owner, method, argument = call["owner"], call["method"], call["argument"].strip()
    addition = _LIST_METHODS.get(method)
    if addition is not None and argument:
        item = argument.partition(",")[2].strip() if method == "insert" else argument
        more = item if item.startswith("(") else addition.format(item)
        help_ = f"add a tuple: `{owner} = {owner} + {more}`; the initial value is `{owner} = ()`"
    else:
        help_ = f"assign the result to a name: `{owner} = {owner} -> ...`"
        operator = member_help(method.rstrip("_"))
        if operator is not None:
            help_ += f"; {operator}"
    return Diagnostic("error", "syntax-error", f"`{span.text}(...)` is not a statement", span, (), help_)
