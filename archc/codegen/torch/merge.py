"""Merging of the texts of instances: an argument replaces each literal that differs between instances."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

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
            these literals and their keyword (`p` in `Dropout(p=0.5)`, or ""), and returns the replacement.

    Raises:
        Mismatch: the texts differ in more than literals.
    """
    first = texts[0]
    if all(text == first for text in texts):
        return first
    skeletons = [_skeleton(text) for text in texts]
    check_same([skeleton[0] for skeleton in skeletons])
    gaps = skeletons[0][0]
    pieces = [gaps[0]]
    for position, gap in enumerate(gaps[1:]):
        values = tuple(literals[position] for _, literals, _ in skeletons)
        same = all(value == values[0] for value in values)
        pieces += [values[0] if same else argument(values, skeletons[0][2][position]), gap]
    return "".join(pieces)


@lru_cache(maxsize=4096)
def _skeleton(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Split a text at its literals.

    A literal inside another literal does not count: `(2, 3)` is a single literal.

    Returns:
        Three tuples: the pieces of text before, between and after the literals; the literals; the keyword of each
        literal.  For `f(2, p=0.5)`, they are `("f(", ", p=", ")")`, `("2", "0.5")` and `("", "p")`.
    """
    encoded = text.encode()  # `ast` counts offsets in bytes
    gaps, literals, keywords = [], [], []
    end = 0
    spans = sorted((node.col_offset, node.end_col_offset or 0, keyword) for node, keyword in _literals(text))
    for start, stop, keyword in spans:
        gaps.append(encoded[end:start].decode())
        literals.append(encoded[start:stop].decode())
        keywords.append(keyword)
        end = stop
    gaps.append(encoded[end:].decode())
    return tuple(gaps), tuple(literals), tuple(keywords)


def _literals(text: str) -> Iterator[tuple[ast.expr, str]]:
    stack: list[tuple[ast.AST, str]] = [(ast.parse(text, mode="eval").body, "")]
    while stack:
        node, keyword = stack.pop()
        if isinstance(node, ast.expr) and _is_literal(node):
            yield node, keyword
            continue
        if isinstance(node, ast.keyword):
            keyword = node.arg or ""
        stack.extend((child, keyword) for child in ast.iter_child_nodes(node))


def _is_literal(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return True
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
    return "".join([*pieces, encoded[end:].decode()])


@lru_cache(maxsize=4096)
def _holes(text: str) -> tuple[tuple[int, int, int, bool], ...]:
    """Start, end and number of each placeholder, and whether an infix operand there needs parentheses."""
    found = []
    stack: list[tuple[ast.AST, bool]] = [(ast.parse(text, mode="eval").body, False)]
    while stack:
        node, tight = stack.pop()
        if isinstance(node, ast.Name) and node.id.startswith("operand_"):
            found.append((node.col_offset, node.end_col_offset or 0, int(node.id.split("_")[1]), tight))
        for child in ast.iter_child_nodes(node):
            argument = isinstance(node, (ast.Tuple, ast.List, ast.keyword)) or (
                isinstance(node, ast.Call) and child is not node.func
            )
            stack.append((child, not argument))
    return tuple(sorted(found))
