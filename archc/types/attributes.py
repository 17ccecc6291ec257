"""Attributes of operators and options of passes: the fields of frozen dataclasses.

Operators and passes are declared in the same way.  This module creates an instance from the arguments of a text, such
as `conv2d(32, 3, padding = 1)` or `lowrank(energy = 0.95, on = "fc*")`, and prints these arguments for an instance.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any, TypeVar, get_type_hints

from archc.diagnostics import did_you_mean
from archc.frozen_dataclass import frozen_dataclass
from archc.types.attribute_suggestions import choice_help, unquoted
from archc.types.attribute_types import convert, type_text
from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType

T = TypeVar("T")


class AttributeProblem(Exception):
    """Error for a wrong, missing or surplus argument.

    `Pass.check` raises it for an invalid option: `AttributeProblem("bad-option", message, "limit")`.

    Attributes:
        code: code of the diagnostic.
        argument: name or position of the argument; None if the argument is missing.
        help: a way to correct the argument, or None.
    """

    def __init__(self, code: str, message: str, argument: str | int | None = None, help: str | None = None):
        super().__init__(message)
        self.code, self.message, self.argument, self.help = code, message, argument, help


def attribute(
    default: Any = dataclasses.MISSING,
    *,
    doc: str = "",
    index: str | None = None,
    phrase: str | None = None,
    keyword: bool = False,
    element: bool = False,
    axis: str | None = None,
    leading: bool = False,
) -> Any:
    """Declare a field of an operator or a pass.

    Args:
        default: value of an omitted attribute; an attribute without a default is required.
        doc: one line for `archc ops` and the reference page.
        index: index in the operator's signature whose extent the attribute gives, such as `o` for `out_features`.
        phrase: name of that extent in diagnostics, such as "input features".
        keyword: the attribute is given by name only, not by position.
        element: the attribute, such as a bound of `clamp`, is combined with elements of an operand, and must be
            representable in the dtype of the operand.
        axis: operand or result in the operator's signature, such as `x`.  The attribute selects one of its axes, or
            several axes by a tuple.  Axes are numbered from 0, and negative numbers count from the end.  archc refuses
            an axis that does not exist; `Operator.axis_number` converts negative numbers.
        leading: an optional attribute that texts give by position, as if it were required: `prune(0.5)`.
    """
    metadata = {"doc": doc, "index": index, "phrase": phrase, "keyword": keyword, "element": element, "axis": axis}
    return dataclasses.field(default=default, metadata={**metadata, "leading": leading})


@frozen_dataclass
class AttributeInfo:
    """Declaration of one attribute: the arguments of `attribute`, and `type`, the resolved annotation.

    Attributes:
        name: the name in the language.  `field` is the name in Python, which has a final underscore if the name is a
            keyword of Python: the field `for_` declares the option `for`.
    """

    name: str
    field: str
    type: Any
    default: Any
    doc: str
    index: str | None
    phrase: str | None
    keyword: bool
    element: bool
    axis: str | None
    leading: bool

    def of(self, instance: Any) -> Any:
        """Value of the attribute in an instance of the class."""
        return getattr(instance, self.field)

    @property
    def required(self) -> bool:
        """True if the attribute has no default."""
        return self.default is dataclasses.MISSING

    @property
    def type_text(self) -> str:
        """Description of the type: `an integer or a tuple of integers`, `"zeros" or "same"`."""
        return type_text(self.type)


def attributes(cls: type) -> tuple[AttributeInfo, ...]:
    """Return the attributes of an operator or pass class, in the order of their positions."""
    return _attributes(cls)  # a separate cached function, because mypy does not accept every `type[T]` as hashable


def attribute_name(field: str) -> str:
    """Name in the language of a field of a class: `for` for the field `for_`."""
    return field.removesuffix("_")


def _field_types(cls: type) -> dict[str, Any]:
    """Types of the fields of a dataclass by name.

    `get_type_hints(cls)` would also evaluate the annotations of the class variables, which are ten times as many.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = {name: type for name, type in inspect.get_annotations(base).items() if name in names}
        found |= get_type_hints(types.SimpleNamespace(__annotations__=own), vars(sys.modules[base.__module__]))
    return found


@cache
def _attributes(cls: type) -> tuple[AttributeInfo, ...]:
    hints = _field_types(cls)
    found = []
    for field in dataclasses.fields(cls):
        metadata = field.metadata
        found.append(
            AttributeInfo(
                attribute_name(field.name),
                field.name,
                hints[field.name],
                field.default,
                metadata.get("doc", ""),
                metadata.get("index"),
                metadata.get("phrase"),
                metadata.get("keyword", False),
                metadata.get("element", False),
                metadata.get("axis"),
                metadata.get("leading", False),
            )
        )
    return tuple(found)


def bind(cls: type[T], noun: str, positional: Sequence[Any], named: Mapping[str, Any], word: str = "attribute") -> T:
    """Create an instance of an operator or pass class from the arguments of a text.

    Args:
        noun: name of the class in messages, such as "`conv2d`".
        word: name of an argument in messages: "attribute" for operators, "option" for passes.

    Raises:
        AttributeProblem: the first argument that is unknown, missing, surplus or of a wrong type.
    """
    infos = attributes(cls)
    by_name = {info.name: info for info in infos}
    slots = [info for info in infos if not info.keyword]
    if len(positional) > len(slots):
        takes = f"no {word}" if not slots else f"at most {len(slots)} {word}{'s' if len(slots) != 1 else ''}"
        # Users of PyTorch write `reshape(a, b)` for `reshape((a, b))`.
        sequence = slots[-1] if slots and type_text(slots[-1].type).startswith("a tuple") else None
        raise AttributeProblem(
            f"too-many-{word}s",
            f"{noun} takes {takes} by position, got {len(positional)}",
            len(slots),
            f"`{sequence.name}` is a tuple: enclose it in parentheses" if sequence is not None else _by_name(infos),
        )
    values: dict[str, Any] = {}
    for position, (info, value) in enumerate(zip(slots, positional)):
        values[info.name] = _coerced(info, infos, noun, value, position)
    for name, value in named.items():
        if name not in by_name:
            known = ", ".join(f"`{info.name}`" for info in infos)
            raise AttributeProblem(
                f"unknown-{word}",
                f"{noun} has no {word} `{name}`",
                name,
                did_you_mean(name, by_name) or (f"it has {known}" if known else f"it has no {word}s"),
            )
        if name in values:
            raise AttributeProblem(f"duplicate-{word}", f"{noun} gets `{name}` twice", name)
        values[name] = _coerced(by_name[name], infos, noun, value, name)
    missing = [info.name for info in infos if info.required and info.name not in values]
    if missing:
        wanted = " and ".join(f"`{name}`" for name in missing)
        raise AttributeProblem(f"missing-{word}", f"{noun} needs {wanted}", None, f"write {usage(cls, noun)}")
    return cls(**{by_name[name].field: value for name, value in values.items()})


def _by_name(infos: Sequence[AttributeInfo]) -> str | None:
    """Help that names the attributes that are given by name only; None if there are none."""
    names = ", ".join(f"`{info.name}`" for info in infos if info.keyword)
    return f"give other attributes by name: {names}" if names else None


def _coerced(info: AttributeInfo, infos: Sequence[AttributeInfo], noun: str, value: Any, argument: str | int) -> Any:
    fits, converted = convert(value, info.type)
    if not fits:
        raise AttributeProblem(
            "wrong-type",
            f"`{info.name}` of {noun} must be {info.type_text}, got {_shown(value)}",
            argument,
            unquoted(value, info.type) or choice_help(value, info.type, {each.name: each.type for each in infos}),
        )
    return converted


def usage(cls: type, noun: str) -> str:
    """Return a call with the names of the required attributes: `conv2d(out_channels, kernel_size)`."""
    required = ", ".join(info.name for info in attributes(cls) if info.required)
    name = noun.strip("`")
    return f"`{name}({required})`" if required else f"`{name}`"


def given_attributes(instance: Any, also: Collection[str] = ()) -> list[tuple[str | None, AttributeInfo]]:
    """Return the attributes that a text must give to create an equal instance, each with its keyword.

    Required and `leading` attributes come first and are given by position, with the keyword None.  Other attributes are
    given by name, and omitted if they have the default.

    Args:
        also: attributes that are included even with the default value.
    """
    infos = attributes(type(instance))
    slots = [info for info in infos if not info.keyword]
    leading = list(takewhile(lambda info: info.required or _leads(instance, info), slots))
    found: list[tuple[str | None, AttributeInfo]] = [(None, info) for info in leading]
    for info in infos:
        is_given = info.required or info.name in also
        if info not in leading and (is_given or not _same_text(info.of(instance), info.default)):
            found.append((info.name, info))
    return found


def _leads(instance: Any, info: AttributeInfo) -> bool:
    return info.leading and not _same_text(info.of(instance), info.default)


def arguments_text(instance: Any) -> list[str]:
    """Return the arguments that create an equal instance, as text in the language."""
    texts = ((name, value_text(info.of(instance))) for name, info in given_attributes(instance))
    return [text if name is None else f"{name} = {text}" for name, text in texts]


def _same_text(value: Any, default: Any) -> bool:
    """Return True if a value and the default have the same text; 1 and `true` differ, as do -0.0 and 0.0."""
    return value == default and value_text(value) == value_text(default)


def value_text(value: Any) -> str:
    """Return the value of an attribute as text in the language, which parses to an equal value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, DType):
        return value.value
    if isinstance(value, str):
        return string_literal(value)
    if isinstance(value, (tuple, list)):
        items = ", ".join(value_text(item) for item in value)
        return f"[{items}]" if isinstance(value, list) else f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, float):
        return repr(value)  # `inf` and `-inf` are literals of the language, too
    return str(value)


def string_literal(text: str) -> str:
    """Return a text as a string literal of the language."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    body = "".join(escapes.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)
    return f'"{body}"'


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float, str, DType, SymbolicDim, tuple, list)):
        text = value_text(value)
        return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"
    return f"a {type(value).__name__.lower()}"
