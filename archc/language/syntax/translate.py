"""Help for spellings of other languages and libraries, from the tables in `foreign_words`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from archc.diagnostics import did_you_mean, squashed
from archc.language.syntax import tree
from archc.language.syntax.foreign_words import (
    ATTRIBUTES,
    DTYPES,
    KEYWORDS,
    NAMES,
    NAMESPACES,
    OPERATORS,
    RENAMED,
    SYMBOLS,
    TRAINING,
    TRANSPOSE,
    WITH_AXIS,
)
from archc.operator.registry import find_operator, operator_names
from archc.types.tensor_type import DType

_STRING = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_COMMENT = re.compile(r"//(?!\s*[0-9])|/\*")
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def operator_help(name: str, own: Iterable[str] = (), axis: str | None = None) -> str | None:
    """Help for the unknown name of a layer or function.

    Args:
        own: names that the user gave; one that is near precedes the tables.
        axis: the axis that the call has, for the text to write instead.
    """
    told = member_help(name)
    if told is not None and axis is not None and squashed(name) in _squashed_with_axis():
        told = told.replace("(1)", f"({axis})")
    return did_you_mean(name, own) or told or did_you_mean(name, operator_names())


def axis_text(arguments: Sequence[tree.Argument]) -> str | None:
    """Axis of a call with one argument, an integer; None for other arguments."""
    if len(arguments) != 1 or arguments[0].name not in (None, "dim", "axis"):
        return None
    text = arguments[0].value.span.text
    return text if _INTEGER.fullmatch(text) else None


def name_help(name: str, own: Iterable[str] = ()) -> str | None:
    """Help for the unknown name of a value; the arguments are those of `operator_help`."""
    dtype = dtype_help(name)
    return (
        did_you_mean(name, own) or NAMES.get(name) or dtype or _operator(name) or did_you_mean(name, operator_names())
    )


def dtype_help(name: str) -> str | None:
    """Help for a dtype of another library, or one in quotes."""
    dtype = name if name in DType.__members__ else _squashed_dtypes().get(squashed(name))
    return None if dtype is None else f"write `{dtype}`"


def member_help(name: str) -> str | None:
    """Help for a member of a tensor: `x.view(2, 3)`, `x.relu()`, `x.shape`, `x.float()`."""
    if name in ("T", "t"):
        return TRANSPOSE
    dtype = _squashed_dtypes().get(squashed(name))
    return _operator(name) or (f"a cast is a stage: `x -> cast({dtype})`" if dtype is not None else None)


def dotted_help(node: tree.Expression) -> str | None:
    """Help for a dotted name of another library: `nn.ReLU`, `torch.float32`; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, tree.MemberExpression):
        parts.append(node.name)
        node = node.value
    if not parts or not isinstance(node, tree.Name) or node.name not in NAMESPACES:
        return None
    if node.name == "self":
        return NAMES["self"]
    known = name_help(parts[0])
    return known or f"nothing of `{node.name}` is known here: `archc ops` lists the operators"


def attribute_help(name: str, known: Collection[str]) -> str | None:
    """Help for an attribute that an operator does not have.

    Args:
        known: the attributes that it has.
    """
    near = did_you_mean(name, known)
    here = next((other for other in RENAMED.get(name, ()) if other in known), None)
    return f"write `{here}`" if here is not None else ATTRIBUTES.get(name) or near


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


def _operator(name: str) -> str | None:
    """Help from the table of operators, or an operator whose name differs in case and underscores only."""
    key = squashed(name)
    told = _squashed_operators().get(key)
    if told is not None:
        return told
    if key.endswith("loss"):
        return TRAINING
    same = next((known for known in operator_names() if squashed(known) == key), None)
    if same is None:
        return None
    operator = find_operator(same)
    example = operator.example if operator is not None else ""
    return f"write `{same}`, for example `{example}`" if example else f"write `{same}`"


@cache
def _squashed_with_axis() -> Collection[str]:
    return frozenset(map(squashed, WITH_AXIS))


@cache
def _squashed_operators() -> Mapping[str, str]:
    return {squashed(name): told for name, told in OPERATORS.items()}


@cache
def _squashed_dtypes() -> Mapping[str, str]:
    return {squashed(name): dtype for name, dtype in DTYPES.items()}
