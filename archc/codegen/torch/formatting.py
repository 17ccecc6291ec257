"""Formatting of emitted Python: lines as ruff formats them at its default width, and docstrings.

A long expression is split at its brackets.  The arguments of a call share one line if they fit on it; otherwise each
argument has its own line.  In a chain of several method calls, each call has its own line.  Each operand of infix
operators has its own line, and the line begins with the operator.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise

from archc.frozen_dataclass import frozen_dataclass

WIDTH = 88
_INDENT = "    "
_OPENING, _CLOSING = "([{", ")]}"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPERATOR = re.compile(r" (?=(?:[-+*/%@&|<>=!]+|if|else|in|is|not|and|or) )")
_LEADING = re.compile(r"(?:[-+*/%@&|<>=!]+|if|else|in|is|not|and|or) ")


def lines_of(prefix: str, expression: str, indent: int, comment: str = "") -> list[str]:
    """The lines of a statement that consists of a prefix (`x = `, `return `) and an expression.

    A comment that does not fit on the line is left out.
    """
    line = f"{_INDENT * indent}{prefix}{expression}"
    if len(line) <= WIDTH:
        noted = f"{line}  # {comment}"
        return [noted if comment and len(noted) <= WIDTH else line]
    return _broken(prefix, expression, "", indent)


def assignment(targets: str, expression: str, indent: int, comment: str = "") -> list[str]:
    """The lines of `targets = expression`; the targets are one name or several, separated by commas."""
    prefix = f"{targets} = "
    if "," not in targets or len(_INDENT) * indent + len(f"{prefix}(") <= WIDTH:
        return lines_of(prefix, expression, indent, comment)
    return [*_bracketed("", targets, indent), *_broken(") = ", expression, "", indent)]


def loop_header(targets: str, iterable: str, indent: int) -> list[str]:
    """The lines of `for targets in iterable:`."""
    prefix = f"for {targets} in "
    line = f"{_INDENT * indent}{prefix}{iterable}:"
    if len(line) <= WIDTH:
        return [line]
    groups = _outline(iterable).groups
    opening = iterable[: groups[0].opening + 1] if groups else f"{iterable}:"
    # A bracketed name on its own line would get a trailing comma, and the comma would make it a tuple.
    if "," not in targets or len(_INDENT) * indent + len(prefix + opening) <= WIDTH:
        return _broken(prefix, iterable, ":", indent)
    return [*_bracketed("for ", targets, indent), *_broken(") in ", iterable, ":", indent)]


def _bracketed(prefix: str, targets: str, indent: int) -> list[str]:
    """An opening bracket and one line for each target; the caller adds the closing bracket."""
    return [f"{_INDENT * indent}{prefix}(", *_elements(targets, indent + 1)]


def signature(head: str, parameters: Sequence[str], result: str, indent: int) -> list[str]:
    """The lines of `def head(parameters)result:`; the result is empty, or ` -> ` and a type."""
    pad = _INDENT * indent
    line = f"{pad}def {head}({', '.join(parameters)}){result}:"
    if len(line) <= WIDTH:
        return [line]
    joined = f"{pad}{_INDENT}{', '.join(parameters)}"
    body = [joined] if len(joined) <= WIDTH else [f"{pad}{_INDENT}{parameter}," for parameter in parameters]
    return [f"{pad}def {head}(", *body, *_broken(")" + result[:4], result[4:], ":", indent)]


def has_name(code: str, name: str, called: bool = False) -> bool:
    """Return whether code has a name outside strings and comments; with `called`, only calls count."""
    end = r"\(" if called else r"\b"
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}{end}")
    lines = (line for line in code.split("\n") if name in line)
    return any(pattern.search(_STRING.sub('""', line).partition("  #")[0]) for line in lines)


@frozen_dataclass
class _Group:
    """The offsets of an outermost pair of brackets."""

    opening: int
    closing: int


@frozen_dataclass
class _Outline:
    """Places at which a text can be split.

    Attributes:
        groups: the outermost pairs of brackets.
        operators: the offsets of blanks before infix operators, outside brackets.
        commas: the offsets of commas outside brackets.
    """

    groups: tuple[_Group, ...]
    operators: tuple[int, ...]
    commas: tuple[int, ...]


def _outline(text: str) -> _Outline:
    blank = _STRING.sub(lambda match: "_" * len(match.group()), text)
    spaces = {match.start() for match in _OPERATOR.finditer(blank)}
    groups, operators, commas = [], [], []
    depth = opening = 0
    for position, character in enumerate(blank):
        if character in _OPENING:
            opening = position if not depth else opening
            depth += 1
        elif character in _CLOSING:
            depth -= 1
            if not depth:
                groups.append(_Group(opening, position))
        elif not depth and position in spaces:
            operators.append(position)
        elif not depth and character == ",":
            commas.append(position)
    return _Outline(tuple(groups), tuple(operators), tuple(commas))


def _broken(prefix: str, text: str, suffix: str, indent: int, bracketed: bool = False) -> list[str]:
    """The lines of an expression between a prefix and a suffix such as a comma.

    Args:
        bracketed: the expression is inside brackets already, so that it may take several lines.
    """
    pad = _INDENT * indent
    whole = f"{pad}{prefix}{text}{suffix}"
    outline = _outline(text)
    if len(whole) <= WIDTH or not (outline.groups or outline.operators or outline.commas):
        return [whole]
    if outline.commas and not bracketed:  # a tuple, as in `return a, b`
        return [f"{pad}{prefix}(", *_elements(text, indent + 1), f"{pad}){suffix}"]
    chain = _links(text, outline)
    if outline.operators:
        last = outline.groups[-1] if outline.groups else None
        if len(outline.operators) == 1 and last is not None and last.closing == len(text) - 1 and not bracketed:
            return _opened(prefix, text, last, suffix, indent)
        if len(outline.operators) == 1 and text[0] == "(" and not bracketed:
            return _opened(prefix, text, outline.groups[0], suffix, indent)
        pieces = _cut(text, outline.operators)
    elif len(chain) > 2:
        pieces = chain
    else:
        return _opened(prefix, text, _last_in_line(outline, pad + prefix), suffix, indent)
    if bracketed:
        return _stacked(prefix, pieces, suffix, indent)
    inner = f"{pad}{_INDENT}{text}"
    lines = [inner] if len(inner) <= WIDTH else _stacked("", pieces, "", indent + 1)
    return [f"{pad}{prefix}(", *lines, f"{pad}){suffix}"]


def _stacked(prefix: str, pieces: Sequence[str], suffix: str, indent: int) -> list[str]:
    """The lines of an expression that is split into pieces; each piece begins a new line."""
    lines: list[str] = []
    for number, piece in enumerate(pieces):
        operator = _LEADING.match(piece)
        lead = operator.group() if operator else ""
        before = prefix + lead if not number else lead
        lines += _broken(before, piece[len(lead) :], suffix if number == len(pieces) - 1 else "", indent, True)
    return lines


def _opened(prefix: str, text: str, group: _Group, suffix: str, indent: int) -> list[str]:
    """The lines of an expression that is split at one pair of brackets."""
    pad = _INDENT * indent
    head, body, tail = text[: group.opening + 1], text[group.opening + 1 : group.closing], text[group.closing :]
    first = f"{pad}{prefix}{head}"
    is_call = head[-1] in "([" and len(head) > 1 and (head[-2].isalnum() or head[-2] in "_)]")
    outline = _outline(body)
    if not body:
        return [f"{first}{tail}{suffix}"]
    if (is_call or not outline.commas) and len(_INDENT) * (indent + 1) + len(body) <= WIDTH:
        inner = [f"{pad}{_INDENT}{body}"]
    elif _is_comprehension(body, outline):
        element, _, loop = body.rpartition(" for ")
        inner = [*_broken("", element, "", indent + 1, True), f"{pad}{_INDENT}for {loop}"]
    else:
        inner = _broken("", body, "", indent + 1, True) if not outline.commas else _elements(body, indent + 1)
    return [*first.split("\n"), *inner, *_broken("", tail, suffix, indent, True)]


def _is_comprehension(text: str, outline: _Outline) -> bool:
    """Return whether the last `for` of a text is outside all brackets."""
    place = text.rfind(" for ")
    inside = any(group.opening < place < group.closing for group in outline.groups)
    return place >= 0 and not inside and not outline.commas


def _elements(body: str, indent: int) -> list[str]:
    """The lines of a comma-separated text; each element begins a new line."""
    lines: list[str] = []
    for element in _cut(body, _outline(body).commas):
        element = element.lstrip(",").strip()
        keyword = re.match(r"[A-Za-z_]\w*=(?!=)|\"(?:[^\"\\]|\\.)*\": |\*+", element)
        name = keyword.group() if keyword else ""
        lines += _broken(name, element[len(name) :], ",", indent, True) if element else []
    return lines


def _cut(text: str, places: Sequence[int]) -> list[str]:
    starts = [0, *places]
    return [text[start:stop].strip() for start, stop in zip(starts, [*places, len(text)])]


def _links(text: str, outline: _Outline) -> list[str]:
    """The links of a chain of method calls: `F.pad(x)`, `.abs()`, `.sum(0)`."""
    starts = [group.closing + 1 for group in outline.groups if text[group.closing + 1 : group.closing + 2] == "."]
    return [piece for piece in _cut(text, starts) if piece]


def _last_in_line(outline: _Outline, before: str) -> _Group:
    """The last pair of brackets that opens within the width of a line; the first pair if none does."""
    groups = outline.groups
    for group, following in pairwise(groups):
        if len(before) + following.opening + 1 > WIDTH:
            return group
    return groups[-1]


def docstring(paragraphs: Sequence[str], indent: int) -> list[str]:
    """The lines of a docstring; paragraphs are filled, except for lines that begin with a blank."""
    pad = _INDENT * indent
    blocks = _filled(paragraphs, WIDTH - len(pad))
    if len(blocks) == 1 and len(blocks[0]) == 1:
        # A single line needs room for the closing quotes.
        blocks = _filled(paragraphs, WIDTH - len(pad) - 3)
        if len(blocks[0]) == 1:
            return [f'{pad}{blocks[0][0]}"""']
    found: list[str] = []
    for lines in blocks:
        found += ["", *(f"{pad}{line}" for line in lines)]
    return [*found[1:], f'{pad}"""']


def _filled(paragraphs: Sequence[str], width: int) -> list[list[str]]:
    """The lines of each paragraph; the first line has the opening quotes."""
    blocks: list[list[str]] = []
    for paragraph in (part for text in paragraphs for part in re.split(r"\n{2,}", safe_text(text))):
        lines: list[str] = []
        for line in _joined(paragraph.split("\n")):
            quotes = "" if blocks or lines else '"""'
            margin = line[: len(line) - len(line.lstrip())]
            lines += textwrap.wrap(
                quotes + line,
                width,
                subsequent_indent=f"{margin}{_INDENT}" if margin else "",
                break_long_words=False,
                break_on_hyphens=False,
            )
        blocks.append(lines)
    return blocks


def _joined(lines: Sequence[str]) -> list[str]:
    """Join continuation lines to the line before; an indented line or a list item begins a new line."""
    found = [lines[0]]
    for line in lines[1:]:
        if line.startswith((" ", "- ", "* ")) or found[-1].startswith(" "):
            found.append(line)
        else:
            found[-1] = f"{found[-1]} {line}"
    return found


def safe_text(text: str) -> str:
    """User text, escaped so that it cannot end a docstring or contain escape sequences."""
    kept = "".join(c if c == "\n" or c.isprintable() else " " for c in text.replace("\r\n", "\n").expandtabs(4))
    kept = "\n".join(line.rstrip() for line in kept.split("\n")).strip()
    kept = kept.replace("\\", "\\\\")
    # Escape runs of three or more quotes, and quotes next to the docstring's own quotes.
    return re.sub(r'"{3,}|\A"+|"+\Z', lambda match: '\\"' * len(match.group()), kept)
