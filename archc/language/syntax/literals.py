"""Values of literals, and the units of quantities such as `50GB/s`."""

from __future__ import annotations

import math
import re
from typing import Any

from archc.diagnostics import Diagnostics, Span
from archc.frozen_dataclass import frozen_dataclass
from archc.language.syntax import tree
from archc.language.syntax.scanner import Token
from archc.types.attributes import AttributeProblem
from archc.types.tensor_type import DType


@frozen_dataclass
class QuantityUnit:
    """Unit of a quantity.

    Attributes:
        measures: `bytes`, `bytes a second`, `seconds` or `a number`.
        factor: number of base units in the unit.  The base units are the byte, the byte a second, the second, and 1.
    """

    measures: str
    factor: int | float


_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_COUNTS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_TIMES = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

UNITS: dict[str, QuantityUnit] = {
    **{name: QuantityUnit("bytes", factor) for name, factor in _BYTES.items()},
    **{f"{name}/s": QuantityUnit("bytes a second", factor) for name, factor in _BYTES.items()},
    **{name: QuantityUnit("seconds", factor) for name, factor in _TIMES.items()},
    **{name: QuantityUnit("a number", factor) for name, factor in _COUNTS.items()},
}
"""Units by suffix, for bytes, bytes a second, time, and plain numbers times a power of 1000."""


def quantity(number: tree.Number) -> int | float:
    """Value of a number in its base unit; bytes are rounded to an integer.

    `24GB` is 24000000000.
    """
    if number.unit is None:
        return number.value
    unit = UNITS[number.unit]
    value = number.value * unit.factor
    return round(value) if unit.measures == "bytes" else value


def measure(number: tree.Number) -> str:
    """Dimension of a number: `bytes`, `bytes a second`, `seconds` or `a number`."""
    return "a number" if number.unit is None else UNITS[number.unit].measures


def _unit_help(number: str, unit: str) -> str:
    """Correction of a number whose suffix is no unit."""
    bytes_units = (each for each, factor in UNITS.items() if factor.measures.startswith("bytes"))
    near = next((each for each in bytes_units if len(each) > 1 and each.lower() == unit.lower()), None)
    if near is not None:
        return f"did you mean `{_shortened(number + near)}`?"
    return (
        "begin a name with a letter or `_`; a unit measures bytes, bytes a second or time, such as "
        "`16GiB`, `50GB/s` and `10us`"
    )


_NUMBER = re.compile(r"([0-9][0-9_]*)(\.[0-9][0-9_]*)?([eE][+-]?[0-9]+)?(.*)", re.DOTALL)
_LARGEST = 2**63 - 1  # the largest int64: sizes and indices are int64
_DIGITS = 19  # number of digits of `_LARGEST`

_ESCAPE = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}|\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


def number(token: Token, diagnostics: Diagnostics) -> tree.Number:
    """Number node of a token; an invalid number is reported and has the value 0."""
    match = _NUMBER.fullmatch(token.text)
    assert match is not None, "the pattern accepts all tokens of type NUMBER"
    whole, fraction, exponent, unit = match.groups()
    if unit and unit not in UNITS:
        diagnostics.error(
            "invalid-number",
            f"`{_shortened(token.text)}` is neither a number nor a name",
            token.span,
            help=_unit_help(token.text.removesuffix(unit), unit),
        )
        return tree.Number(token.span, 0)
    value: int | float
    if fraction is None and exponent is None:
        digits = whole.replace("_", "").lstrip("0")
        # The length is checked first: `int` raises for text of more than 4300 digits.
        value = int(digits or "0") if len(digits) <= _DIGITS else _LARGEST + 1
        too_large = value > _LARGEST
        limit = "integers go up to 2**63 - 1"
    else:
        value = float(f"{whole}{fraction or ''}{exponent or ''}".replace("_", ""))
        too_large = math.isinf(value)
        limit = "floating-point numbers go up to about 1.8e308"
    if too_large:
        message = f"the number {_shortened(token.text)} is too large"
        diagnostics.error("number-too-large", message, token.span, help=limit)
        value = 0
    return tree.Number(token.span, value, unit or None)


def string(token: Token, diagnostics: Diagnostics) -> tree.String:
    """String node of a token; an unknown escape is reported and left out."""
    inner = token.text[1:-1]
    if "\\" not in inner:
        return tree.String(token.span, inner)

    def decode(match: re.Match[str]) -> str:
        code, letter = match.groups()
        if code is not None:
            value = int(code, 16)
            if value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF:
                return chr(value)
        elif letter in _ESCAPES:
            return _ESCAPES[letter]
        start = token.start + 1 + match.start()
        diagnostics.error(
            "invalid-escape",
            f"`{match.group()}` is not an escape",
            Span(token.source, start, start + len(match.group())),
            help=r"use \n, \t, \\, \", \' or \u{…} with the hexadecimal number of a character; "
            r"write a backslash as \\",
        )
        return ""

    return tree.String(token.span, _ESCAPE.sub(decode, inner))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text):,} characters)"


def value_of(node: tree.Expression | tree.SliceExpression, argument: str | int | None = None) -> Any:
    """The value of a literal; a bare word that is not a dtype is a string, as in `quant(scheme = weight)`.

    A quantity is converted to its base unit: `2GB` is 2000000000.

    Args:
        argument: name or position of the argument with this value, for the error.

    Raises:
        AttributeProblem: the expression is not a literal.
    """
    if isinstance(node, tree.Number):
        return quantity(node)
    if isinstance(node, (tree.String, tree.Boolean)):
        return node.value
    if isinstance(node, tree.Name):
        known = {"inf": math.inf, **DType.__members__}
        return known.get(node.name, node.name)
    if isinstance(node, tree.UnaryExpression) and node.operator == "-":
        value = value_of(node.operand, argument)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value
    if isinstance(node, (tree.Tuple, tree.List)):
        return tuple(value_of(item, argument) for item in node.items)
    raise AttributeProblem(
        "wrong-type", f"a literal is needed here, but `{node.span.text}` is not a literal", argument, "write its value"
    )
