"""Lines of Python as the formatter would leave them, docstrings, and what user text may do in them.

The emitted source must pass `ruff format --check` at its default width.  So lines that are too long are split
the way ruff splits them: at the last pair of brackets, whose contents go to one line of their own where they fit,
and to one line an element where they do not.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

WIDTH = 88
_INDENT = "    "
_OPENING, _CLOSING = "([{", ")]}"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def lines_of(prefix: str, expression: str, indent: int, comment: str = "") -> list[str]:
    """The lines of a statement: `prefix` (`x = `, `return `) and an expression, indented by `indent` levels.

    A comment is left out where it does not fit: it is a service to the reader, not worth a split.
    """
    line = f"{_INDENT * indent}{prefix}{expression}"
    if len(line) <= WIDTH:
        noted = f"{line}  # {comment}"
        return [noted if comment and len(noted) <= WIDTH else line]
    return _split(prefix, expression, "", indent)


def _split(prefix: str, expression: str, suffix: str, indent: int) -> list[str]:
    """`expression` over several lines, between a prefix and a suffix such as a comma."""
    pad = _INDENT * indent
    whole = f"{pad}{prefix}{expression}{suffix}"
    opening = _last_bracket(expression)
    if len(whole) <= WIDTH:
        return [whole]
    if opening is None:
        return [whole]
    if _has_operator(expression):
        if not prefix:
            return [whole]
        return [f"{pad}{prefix}(", *_operands(expression, indent + 1), f"{pad}){suffix}"]
    head, body, tail = expression[: opening + 1], expression[opening + 1 : -1], expression[-1]
    first, last = f"{pad}{prefix}{head}", f"{pad}{tail}{suffix}"
    if len(_INDENT) * (indent + 1) + len(body) <= WIDTH and head[-1] == "(":
        return [first, f"{pad}{_INDENT}{body}", last]
    element, loop, iterable = body.partition(" for ") if _is_generator(body) else (body, "", "")
    if loop:
        return [first, *_split("", element, "", indent + 1), f"{pad}{_INDENT}{loop.lstrip()}{iterable}", last]
    inner: list[str] = []
    for part in split_commas(body):
        keyword, value = _keyword(part)
        inner += _split(keyword, value, ",", indent + 1)
    return [first, *inner, last]


def split_commas(text: str) -> list[str]:
    """The elements of a comma-separated text, commas within brackets and strings aside."""
    parts, depth, start = [], 0, 0
    for position, character in _code(text):
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _code(text: str) -> list[tuple[int, str]]:
    """The characters of a text that are no part of a string literal."""
    blank = _STRING.sub(lambda match: " " * len(match.group()), text)
    return list(enumerate(blank))


def _last_bracket(text: str) -> int | None:
    """Where the bracket opens that the text's last character closes; None where it closes none, or nothing."""
    if not text or text[-1] not in _CLOSING:
        return None
    depth = 0
    for position, character in reversed(_code(text)):
        depth += (character in _CLOSING) - (character in _OPENING)
        if not depth:
            return position if position < len(text) - 2 else None
    return None


def _has_operator(text: str) -> bool:
    """Whether an infix operator stands outside all brackets."""
    depth = 0
    for _, character in _code(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == " " and not depth and not text.startswith("lambda"):
            return True
    return False


def _operands(expression: str, indent: int) -> list[str]:
    """`a + b` with an operand a line, each after its operator."""
    pieces, depth, start = [], 0, 0
    code = _code(expression)
    for position, character in code:
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == " " and not depth and expression[position + 1 : position + 2] in list("+-*/%@&|<>="):
            pieces.append(expression[start:position].strip())
            start = position + 1
    pieces.append(expression[start:].strip())
    lines: list[str] = []
    for piece in pieces:
        operator = re.match(r"[-+*/%@&|<>=]+ ", piece)
        lead = operator.group() if operator else ""
        lines += _split(lead, piece[len(lead) :], "", indent)
    return lines


def _is_generator(body: str) -> bool:
    element, loop, _ = body.partition(" for ")
    return bool(loop) and len(split_commas(body)) == 1 and element.count("(") == element.count(")")


def _keyword(part: str) -> tuple[str, str]:
    match = re.match(r"[A-Za-z_]\w*=(?!=)", part)
    return (match.group(), part[match.end() :]) if match else ("", part)


def signature(head: str, parameters: Sequence[str], result: str, indent: int) -> list[str]:
    """`def head(parameters) -> result:`, split as the formatter splits it."""
    pad = _INDENT * indent
    line = f"{pad}def {head}({', '.join(parameters)}){result}:"
    if len(line) <= WIDTH:
        return [line]
    joined = f"{pad}{_INDENT}{', '.join(parameters)}"
    body = [joined] if len(joined) <= WIDTH else [f"{pad}{_INDENT}{parameter}," for parameter in parameters]
    return [f"{pad}def {head}(", *body, f"{pad}){result}:"]


def docstring(paragraphs: Sequence[str], indent: int) -> list[str]:
    """A docstring of paragraphs; lines within a paragraph that begin with a blank are kept, the rest is filled."""
    pad = _INDENT * indent
    blocks = []
    for number, paragraph in enumerate(paragraphs):
        lines: list[str] = []
        for line in safe_text(paragraph).split("\n"):
            # Three quotes and a blank stand before the first line.
            first = " " * 3 if not number else ""
            lead = line[: len(line) - len(line.lstrip())]
            filled = textwrap.wrap(
                first + line,
                WIDTH - len(pad),
                subsequent_indent=f"{lead}{_INDENT}" if lead else "",
                break_long_words=False,
                break_on_hyphens=False,
            ) or [""]
            lines += [filled[0][len(first) :], *filled[1:]]
        blocks.append("\n".join(lines).rstrip())
    text = "\n\n".join(blocks)
    if "\n" not in text and len(pad) + len(text) + 6 <= WIDTH:
        return [f'{pad}"""{text}"""']
    return [*(f"{pad}{line}".rstrip() for line in f'"""{text}'.split("\n")), f'{pad}"""']


def safe_text(text: str) -> str:
    """Text of a user's as it may stand in a docstring: it can neither end it nor escape from it."""
    kept = "".join(c if c == "\n" or c.isprintable() else " " for c in text.replace("\r\n", "\n").expandtabs(4))
    kept = "\n".join(line.rstrip() for line in kept.split("\n")).strip("\n")
    kept = kept.replace("\\", "\\\\")
    # Runs of quotes, and those that would touch the docstring's own.
    return re.sub(r'"{3,}|\A"+|"+\Z', lambda match: '\\"' * len(match.group()), kept)


def has_name(lines: Sequence[str], name: str) -> bool:
    """Whether code mentions a name outside string literals and comments."""
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}\b")
    return any(name in line and pattern.search(_STRING.sub('""', line).partition("  #")[0]) for line in lines)
