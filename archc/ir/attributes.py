"""Attributes of operators, options of passes: the fields of frozen dataclasses, bound from text and printed back.

An operator and a pass are declared the same way, so one module knows how `conv2d(32, 3, padding = 1)` and
`lowrank(energy = 0.95, on = "fc*")` become instances, and how instances become that text again.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from archc.diagnostics import did_you_mean
from archc.ir.dims import SymbolicDim
from archc.ir.types import DType

T = TypeVar("T")


class AttributeProblem(Exception):
    """An argument that does not fit; `argument` tells which: a name, a position, or None for a missing one."""

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
) -> Any:
    """A field of an operator or a pass.

    Args:
        default: the value where the text gives none; without it the attribute is required.
        doc: one line for `archc ops` and the reference page.
        index: the index of the signature whose extent the attribute gives (`o` for `out_features`).
        phrase: what a diagnostic calls that extent: "input features".
        keyword: given by name only, never by position.
    """
    metadata = {"doc": doc, "index": index, "phrase": phrase, "keyword": keyword}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class AttributeInfo:
    """One attribute as a class declares it; `type` is the annotation, resolved."""

    name: str
    type: Any
    default: Any
    doc: str
    index: str | None
    phrase: str | None
    keyword: bool

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def type_text(self) -> str:
        """The type as a person writes it: `int`, `int or tuple of int`, `"zeros" or "same"`."""
        return _describe(self.type)


def attributes(cls: type) -> tuple[AttributeInfo, ...]:
    """The attributes of an operator or pass class, in the order of their positions."""
    return _attributes(cls)


@cache
def _attributes(cls: type) -> tuple[AttributeInfo, ...]:
    hints = get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        metadata = field.metadata
        found.append(
            AttributeInfo(
                field.name,
                hints[field.name],
                default,
                metadata.get("doc", ""),
                metadata.get("index"),
                metadata.get("phrase"),
                metadata.get("keyword", False),
            )
        )
    return tuple(found)


def bind(cls: type[T], noun: str, positional: Sequence[Any], named: Mapping[str, Any], word: str = "attribute") -> T:
    """An instance of an operator or pass class from the arguments of a text.

    Args:
        noun: what to call it in messages, for instance "`conv2d`".
        word: what messages call an argument: an operator has attributes, a pass has options.

    Raises:
        AttributeProblem: an unknown, missing, surplus or ill-typed argument; the first one found.
    """
    infos = attributes(cls)
    by_name = {info.name: info for info in infos}
    slots = [info for info in infos if not info.keyword]
    if len(positional) > len(slots):
        takes = f"no {word}" if not slots else f"at most {len(slots)} {word}{'s' if len(slots) != 1 else ''}"
        # `reshape(a, b)` for `reshape((a, b))`, as PyTorch has it
        sequence = slots[-1] if slots and _describe(slots[-1].type).startswith("a tuple") else None
        raise AttributeProblem(
            f"too-many-{word}s",
            f"{noun} takes {takes} by position, and is given {len(positional)}",
            len(slots),
            f"`{sequence.name}` is a tuple, with parentheses of its own" if sequence is not None else None,
        )
    values: dict[str, Any] = {}
    for position, (info, value) in enumerate(zip(slots, positional)):
        values[info.name] = _coerced(info, noun, value, position)
    for name, value in named.items():
        if name not in by_name:
            known = ", ".join(f"`{info.name}`" for info in infos)
            raise AttributeProblem(
                f"unknown-{word}",
                f"{noun} has no {word} `{name}`",
                name,
                did_you_mean(name, by_name) or (f"it has {known}" if known else "it has none"),
            )
        if name in values:
            raise AttributeProblem(f"duplicate-{word}", f"{noun} is given `{name}` twice", name)
        values[name] = _coerced(by_name[name], noun, value, name)
    missing = [info.name for info in infos if info.required and info.name not in values]
    if missing:
        wanted = " and ".join(f"`{name}`" for name in missing)
        raise AttributeProblem(f"missing-{word}", f"{noun} needs {wanted}", None, f"write {usage(cls, noun)}")
    return cls(**values)


def usage(cls: type, noun: str) -> str:
    """How the class is written with its required attributes: `conv2d(out_channels, kernel_size)`."""
    required = ", ".join(info.name for info in attributes(cls) if info.required)
    name = noun.strip("`")
    return f"`{name}({required})`" if required else f"`{name}`"


def arguments_text(instance: Any) -> list[str]:
    """The arguments that make an instance again: required ones by position, the others by name, defaults left out."""
    texts = []
    for info in attributes(type(instance)):
        value = getattr(instance, info.name)
        if info.required and not info.keyword:
            texts.append(value_text(value))
        elif value != info.default or type(value) is not type(info.default):
            texts.append(f"{info.name} = {value_text(value)}")
    return texts


def value_text(value: Any) -> str:
    """An attribute's value as the language writes it; reading it back gives an equal value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, DType):
        return value.value
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (tuple, list)):
        items = ", ".join(value_text(item) for item in value)
        return f"[{items}]" if isinstance(value, list) else f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else f"-{_inf}" if value < 0 else _inf
    return str(value)


_inf = "inf"


def quoted(text: str) -> str:
    """A string literal of the language."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    body = "".join(escapes.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)
    return f'"{body}"'


# Types ----------------------------------------------------------------------------------------------------


def _coerced(info: AttributeInfo, noun: str, value: Any, argument: str | int) -> Any:
    fits, converted = _convert(value, info.type)
    if not fits:
        raise AttributeProblem(
            "wrong-type",
            f"`{info.name}` of {noun} must be {info.type_text}, and is {_shown(value)}",
            argument,
            _near_choice(value, info.type),
        )
    return converted


def _convert(value: Any, wanted: Any) -> tuple[bool, Any]:
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        for option in get_args(wanted):
            fits, converted = _convert(value, option)
            if fits:
                return True, converted
        return False, None
    if origin is Literal:
        # `int8` alone and `"int8"` both mean the choice: a bare name arrives here as a string.
        choices = get_args(wanted)
        return (True, value) if any(value == c and type(value) is type(c) for c in choices) else (False, None)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False, None
        item_types = get_args(wanted)
        if len(item_types) == 2 and item_types[1] is Ellipsis:
            item_types = (item_types[0],) * len(value)
        if len(item_types) != len(value):
            return False, None
        converted = [_convert(item, item_type) for item, item_type in zip(value, item_types)]
        return all(fits for fits, _ in converted), tuple(item for _, item in converted)
    if wanted is Any:
        return True, value
    if wanted is type(None) or wanted is None:
        return value is None, None
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return True, float(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if wanted is str and isinstance(value, DType):
        return False, None
    return isinstance(value, wanted), value


_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "`true` or `false`",
    str: "a string",
    DType: "a dtype",
    SymbolicDim: "a size",
    types.EllipsisType: "`...`",
}


def _describe(wanted: Any) -> str:
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(wanted) if option is not type(None)]
        if SymbolicDim in options and int in options:  # a size is an integer, or will be one
            options = [option for option in options if option is not int]
        return " or ".join(_describe(option) for option in options)
    if origin is Literal:
        return " or ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in get_args(wanted))
    if origin is tuple:
        items = get_args(wanted)
        if len(items) == 2 and items[1] is Ellipsis:
            item = _describe(items[0])
            if " or " in item:
                return f"a tuple, each of it {item}"
            return f"a tuple of {item.removeprefix('an ').removeprefix('a ')}s"
        return f"({', '.join(_describe(item).removeprefix('an ').removeprefix('a ') for item in items)})"
    return _WORDS.get(wanted, getattr(wanted, "__name__", str(wanted)))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float, str, DType, SymbolicDim, tuple, list)):
        text = value_text(value)
        return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"
    return f"a {type(value).__name__.lower()}"


def _near_choice(value: Any, wanted: Any) -> str | None:
    choices: Iterable[Any] = get_args(wanted) if get_origin(wanted) is Literal else ()
    if not choices and get_origin(wanted) in (Union, types.UnionType):
        choices = [c for option in get_args(wanted) if get_origin(option) is Literal for c in get_args(option)]
    return did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else None
