"""Keywords, punctuation, comments and statements of Python, C and others, each with the text to write instead.

The values are help texts, as those of `foreign_names`.
"""

from __future__ import annotations

import keyword
import re

from archc.diagnostics import Diagnostic, Source, Span
from archc.language.syntax.foreign_names import member_help

_FUNCTION = "write a block: `block Twice { input x output x + x }`"
_IMPORT = (
    'leave it out: operators need no import; files of blocks have names in quotes, `import "std/attention.arch" as att`'
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
    "break": "choose the number of rounds: `for i in 0..n { x = x -> relu }`",
    "continue": "choose by a condition: `for i in 0..3 { if i > 0 { x = x -> relu } }`",
    "try": _NO_ERRORS,
    "raise": _NO_ERRORS,
    "with": "leave it out; a text has no contexts",
    "del": "leave it out; a text manages no memory",
    "global": "leave it out; give a block attributes instead",
    "var": "write `z = x`",
    "auto": "write `z = x`",
    "const": "write `let k = 3`",
    "val": "write `let k = 3`",
    "param": "write `w = parameter((8, 8))`",
    "print": "leave it out; `archc show` prints every layer's shape",
    "self": "layers need no `self`: the name comes before the operator, `x -> fc: linear(10)`",
    "inputs": "write `input z: f32[N, 8]`",
    "outputs": "write `output x`",
    "async": "leave it out; a text has no order in time",
    "is": "write `given(x)` to ask for an optional input, and `n == 3` to compare",
}
"""Texts to write for keywords of other languages, by keyword."""

_BOTH = "write `and` between truth values; of tensors, `(x > 0, x < 1) -> logical_and`"
_EITHER = "write `or` between truth values; of tensors, `(x < 0, x > 1) -> logical_or`"
SYMBOLS = {
    "=>": "an arrow is `->`: `x -> relu`",
    "~>": "an arrow is `->`: `x -> relu`",
    "<-": "write `z = x`",
    "|>": "an arrow is `->`: `x -> relu`",
    ">>": "an arrow is `->`: `x -> relu`",
    ":=": "write `z = x`",
    "+=": "write `x = x + y`",
    "-=": "write `x = x - y`",
    "*=": "write `x = x * y`",
    "/=": "write `x = x / y`",
    "++": "write `x = x + 1`",
    "--": "write `x = x - 1`",
    "===": "write `n == 3`",
    "::": "a member is written with a point, and a slice has one colon: `x[:, 0]`",
    "/*": "a comment begins with `#` and ends with the line",
    "//": "a comment begins with `#` and ends with the line; `//` divides and rounds down",
    "**": "attributes are written out, one by one: `x -> linear(8, bias = false)`",
    "*": "attributes are written out, one by one: `x -> linear(8, bias = false)`",
    "@": "a matrix product is `(x, y) -> matmul`",
    ";": "statements need no separator",
    "\\": "an expression goes on over the end of a line by itself",
    "`": 'text is in quotes: `"same"`',
    "&": _BOTH,
    "&&": _BOTH,
    "|": _EITHER,
    "||": _EITHER,
    "~": "write `not`; of a tensor, `mask -> logical_not`",
    "$": "names are written alone: `x`",
    "“": 'text is in straight quotes: `"same"`',
    "”": 'text is in straight quotes: `"same"`',
    "‘": 'text is in straight quotes: `"same"`',
    "’": 'text is in straight quotes: `"same"`',
}
"""Texts to write for punctuation of other languages."""

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
"""Punctuation that stands for one operator of this language, with that operator."""

_STRING = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_COMMENT = re.compile(r"//(?!\s*[0-9])|/\*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LONGEST = 200  # characters of a line that are searched
_TARGET = re.compile(r"\s*(?P<target>[^=#\n]*?[^=#\s!<>:+\-*/])\s*=(?!=)")
_SEVERAL = re.compile(r"[\[(]?[\w\s,()\[\]]*,[\w\s,()\[\]]*")
_PART = re.compile(r"[A-Za-z_][\w.]*\[[^\]]*\]")
_MEMBER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_CALL = re.compile(r"\s*(?P<call>(?P<owner>[A-Za-z_]\w*)\.(?P<method>[A-Za-z_]\w*)\s*\((?P<argument>.*)\))")

_GROWS = {"append": "({},)", "extend": "{}", "add": "({},)", "push": "({},)", "insert": "({},)"}
"""Methods by which a list grows, each with the tuple to add instead."""


def symbol_at(text: str, offset: int) -> str | None:
    """The punctuation of another language that covers an offset of a text; None where there is none."""
    for symbol in sorted(SYMBOLS, key=len, reverse=True):
        for start in range(max(0, offset - len(symbol) + 1), offset + 1):
            if text.startswith(symbol, start):
                return symbol
    return None


def comment_start(text: str, offset: int) -> int | None:
    """The start of a comment in C's syntax, `//` or `/*`, on the line of an offset and not after it; None without one.

    A number after `//` makes it a division.
    """
    line = text.rfind("\n", 0, offset) + 1
    outside_strings = _STRING.sub(lambda match: " " * len(match.group()), text[line : offset + 2])
    found = _COMMENT.search(outside_strings)
    return line + found.start() if found else None


def comment_end(text: str, start: int) -> int:
    """The end of a comment in C's syntax that begins at `start`."""
    mark, length = ("*/", 2) if text.startswith("/*", start) else ("\n", 0)
    end = text.find(mark, start + 2)
    return len(text) if end < 0 else end + length


def foreign_word(text: str) -> str | None:
    """The first keyword of Python in a statement, or of any language at its start; None where there is none."""
    words = _WORD.findall(_STRING.sub("", text))
    return next((word for i, word in enumerate(words) if word in KEYWORDS and (i == 0 or _is_pythons(word))), None)


def _is_pythons(word: str) -> bool:
    return keyword.iskeyword(word) or word == "self"


def foreign_statement(source: Source, offset: int) -> Diagnostic | None:
    """The diagnostic for a Python statement on the line where the parser stopped; None for any other line.

    Args:
        offset: the character at which it stopped.
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
    target = span.text
    if _SEVERAL.fullmatch(target) and not target.replace(",", "").replace(" ", "").isidentifier():
        names = ", ".join(re.findall(r"[A-Za-z_]\w*", target))
        help_ = f"write the names side by side, without brackets: `{names} = ...`"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot come before `=`", span, (), help_)
    if _PART.fullmatch(target):
        help_ = "write `(mask, x, y) -> where` to choose between two, or `(x, index, y) -> scatter(1)` to set elements"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot be given a value", span, (), help_)
    if _MEMBER.fullmatch(target):
        help_ = "tensors have plain names, and a layer's name comes before its operator: `x -> fc: linear(10)`"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot be given a value", span, (), help_)
    return None


def _method(call: re.Match[str], span: Span) -> Diagnostic:
    owner, method, argument = call["owner"], call["method"], call["argument"].strip()
    grown = _GROWS.get(method)
    if grown is not None and argument:
        item = argument.partition(",")[2].strip() if method == "insert" else argument
        more = item if item.startswith("(") else grown.format(item)
        help_ = f"a tuple grows by a tuple: `{owner} = {owner} + {more}`; it begins as `{owner} = ()`"
    else:
        told = member_help(method.rstrip("_"))
        help_ = f"give the result a name: `{owner} = {owner} -> ...`" + (f"; {told}" if told else "")
    return Diagnostic(
        "error", "syntax-error", f"`{span.text}(...)` is not a statement of the language", span, (), help_
    )
