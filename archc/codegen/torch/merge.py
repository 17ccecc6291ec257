"""Merging of the texts of instances: an argument replaces each literal that differs between instances.

An argument is a name, or a formula such as `C // 2`, which needs parentheses as an operand of a stronger operator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from archc.declaration.spelling import atom

Values = tuple[str, ...]
"""The literals at one position of a text, one for each instance.

For example, the instances `Dropout(2)` and `Dropout(3)` have the literals `("2", "3")`.
"""


class Mismatch(Exception):
    """Instances that differ in more than literals; each of `groups` has the numbers of equal instances."""

    def __init__(self, groups: Sequence[tuple[int, ...]]):
        super().__init__(f"{len(groups)} kinds of instances")
        self.groups = groups


def check_same(keys: Sequence[object]) -> None:
    """Raise a `Mismatch` if the keys of the instances are not all equal."""
    if any(key != keys[0] for key in keys):
        groups: dict[object, list[int]] = {}
        for number, key in enumerate(keys):
            groups.setdefault(key, []).append(number)
        raise Mismatch([tuple(group) for group in groups.values()])


def merge(texts: Sequence[str], argument: Callable[[Values, str], str]) -> str:
    """The text that all instances share.

    Args:
        texts: the expression in each instance.
        argument: a function that is called for each position at which the literals of the instances differ.  It gets
            these literals and their keyword (`p` in `Dropout(p=0.5)`, or ""), and returns the replacement, which is an
            `Infix` if it may need parentheses.

    Raises:
        Mismatch: the texts differ in more than literals.
    """
    first = texts[0]
    if all(text == first for text in texts):
        return first
    skeletons = [_skeleton(text) for text in texts]
    check_same([skeleton.gaps for skeleton in skeletons])
    gaps, literals = skeletons[0].gaps, skeletons[0].literals
    pieces = [gaps[0]]
    for position, (gap, literal) in enumerate(zip(gaps[1:], literals)):
        values = tuple(skeleton.literals[position].text for skeleton in skeletons)
        text = literal.source
        if any(value != literal.text for value in values):
            text = argument(values, literal.keyword)
            text = atom(text) if literal.tight else text
        pieces += [text, gap]
    return tidied("".join(pieces))


class _Literal(NamedTuple):
    """A literal in a text.

    Attributes:
        source: the literal with the parentheses around it: `(-2)` in `x * (-2)`.
        keyword: the keyword of the argument that the literal is in, or "".
        tight: True if a formula needs parentheses in its place.
    """

    text: str
    source: str
    keyword: str
    tight: bool


class _Skeleton(NamedTuple):
    """A text, split at its literals.

    A literal inside another literal does not count: `(2, 3)` is a single literal.

    Attributes:
        gaps: the pieces of text before, between and after the literals: `("f(", ", p=", ")")` for `f(2, p=0.5)`.
        literals: the literals.
    """

    gaps: tuple[str, ...]
    literals: tuple[_Literal, ...]


@lru_cache(maxsize=4096)
def _skeleton(text: str) -> _Skeleton:
    """Split a text at its literals."""
    text = _with_all_bounds(text)
    encoded = text.encode()  # `ast` counts offsets in bytes
    gaps, literals = [], []
    end = 0
    for start, stop, keyword, tight in sorted(_literals(text)):
        first, last = _with_parentheses(encoded, start, stop)
        gaps.append(encoded[end:first].decode())
        literals.append(_Literal(encoded[start:stop].decode(), encoded[first:last].decode(), keyword, tight))
        end = last
    gaps.append(encoded[end:].decode())
    return _Skeleton(tuple(gap.replace(" ** ", "**") for gap in gaps), tuple(literals))


def _with_all_bounds(text: str) -> str:
    """An expression with the defaults that its slices omit: `x[0:5:1]` for `x[:5]`.

    `tidied` removes these defaults.
    """
    edits: list[_Edit] = []
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Slice):
            start, stop = node.col_offset, node.end_col_offset or 0
            bounds = [_source(bound, text) or default for bound, default in zip(_bounds(node), _BOUNDS)]
            edits.append(_Edit(start, stop, ":".join(bounds)))
    return _edited(text, edits)


def _with_parentheses(text: bytes, start: int, stop: int) -> tuple[int, int]:
    """Start and end of a literal with the parentheses around it, which are not those of a call."""
    before, after = text[:start].decode(), text[stop : stop + 1]
    grouped = before.endswith("(") and after == b")" and not re.search(r"[\w\])]\($", before)
    return (start - 1, stop + 1) if grouped else (start, stop)


def _literals(text: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, keyword and tightness of each literal; see `_Literal`."""
    stack: list[tuple[ast.AST, str, bool]] = [(ast.parse(text, mode="eval").body, "", False)]
    while stack:
        node, keyword, tight = stack.pop()
        if isinstance(node, ast.expr) and _is_literal(node):
            yield node.col_offset, node.end_col_offset or 0, keyword, tight
            continue
        if isinstance(node, ast.keyword):
            keyword = node.arg or ""
        tight = not isinstance(node, ast.Compare)  # formulas bind more strongly than comparisons
        stack.extend((child, keyword, tight and _is_tight(node, child)) for child in _parts(node))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression; each index of `x[0, 1]` is a part of its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.Subscript) and child is node.slice and isinstance(child, ast.Tuple):
            yield from child.elts
        else:
            yield child


def _is_tight(parent: ast.AST, child: ast.AST) -> bool:
    """Return whether an infix expression needs parentheses in the place of a part of an expression."""
    if isinstance(parent, ast.Call):
        return child is parent.func
    if isinstance(parent, ast.Subscript):
        return child is parent.value
    return not isinstance(parent, ast.Tuple | ast.List | ast.keyword | ast.Slice)


class _Edit(NamedTuple):
    """The replacement of a part of a text; start and end count bytes."""

    start: int
    end: int
    replacement: str


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    """A text after edits that do not overlap."""
    encoded = text.encode()
    for edit in sorted(edits, reverse=True):
        encoded = encoded[: edit.start] + edit.replacement.encode() + encoded[edit.end :]
    return encoded.decode()


def tidied(text: str) -> str:
    """An expression in its usual form.

    - Blanks around `:` and `**` as the formatter writes them: `x[:, self.by :]`, `(4 * C) ** 2`.
    - No bounds of slices that equal their defaults: `x[:5]` for `x[0:5:1]`.
    - No unpacked tuples: `f(0, width)` for `f(*(0, width))`.
    """
    edits: list[_Edit] = []
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Slice):
            edits.append(_Edit(node.col_offset, node.end_col_offset or 0, _slice_text(node, text)))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            start, stop = node.left.end_col_offset or 0, node.right.col_offset
            blank = "" if _is_plain(node.left) and _is_plain(node.right) else " "
            between = text.encode()[start:stop].decode().replace(" ", "")
            edits.append(_Edit(start, stop, between.replace("**", f"{blank}**{blank}")))
        elif isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple) and node.value.elts:
            stop = node.end_col_offset or 0
            edits.append(_Edit(node.col_offset, node.value.col_offset + 1, ""))
            edits.append(_Edit(stop - 2 if text.encode()[stop - 2 : stop] == b",)" else stop - 1, stop, ""))
    return _edited(text, edits)


_BOUNDS = ("0", "None", "1")
"""Texts of the default bounds of a slice."""


def _bounds(node: ast.Slice) -> tuple[ast.expr | None, ...]:
    return node.lower, node.upper, node.step


def _source(node: ast.expr | None, text: str) -> str:
    """The text of a part of an expression; empty for None."""
    return "" if node is None else ast.get_source_segment(text, node) or ""


def _slice_text(node: ast.Slice, text: str) -> str:
    """A slice with blanks around its colons, unless each bound is a name, a number or absent."""
    bounds = [None if _source(bound, text) == default else bound for bound, default in zip(_bounds(node), _BOUNDS)]
    bounds = bounds if bounds[-1] is not None else bounds[:-1]
    texts = [_source(bound, text) for bound in bounds]
    if all(bound is None or (_is_plain(bound) and not isinstance(bound, ast.Attribute)) for bound in bounds):
        return ":".join(texts)
    words = [word for bound in texts for word in (bound, ":")][:-1]
    return " ".join(word for word in words if word).replace(": :", "::")


def _is_plain(node: ast.expr) -> bool:
    """Return whether an expression is a name, an attribute or a literal, with or without a sign."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Name | ast.Attribute | ast.Constant)


def _is_literal(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is not ...
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
    return isinstance(node, (ast.Tuple, ast.List)) and bool(node.elts) and all(map(_is_literal, node.elts))


def placeholders(count: int) -> list[str]:
    """Names for operands in a text, to be replaced later by `fill_placeholders`."""
    return [f"operand_{number}_" for number in range(count)]


def fill_placeholders(text: str, operands: Sequence[str]) -> str:
    """A text with its `placeholders` replaced by operands, in parentheses where necessary."""
    encoded = text.encode()
    pieces, end = [], 0
    for start, stop, number, tight in _holes(text):
        operand = operands[number]
        pieces += [encoded[end:start].decode(), atom(operand) if tight else operand]
        end = stop
    filled = "".join([*pieces, encoded[end:].decode()])
    return tidied(filled) if "**" in filled else filled


@lru_cache(maxsize=4096)
def _holes(text: str) -> tuple[tuple[int, int, int, bool], ...]:
    """Start, end and number of each placeholder, and whether an infix operand there needs parentheses."""
    found = []
    stack: list[tuple[ast.AST, bool]] = [(ast.parse(text, mode="eval").body, False)]
    while stack:
        node, tight = stack.pop()
        if isinstance(node, ast.Name) and node.id.startswith("operand_"):
            found.append((node.col_offset, node.end_col_offset or 0, int(node.id.split("_")[1]), tight))
        stack.extend((child, _is_tight(node, child)) for child in ast.iter_child_nodes(node))
    return tuple(sorted(found))
