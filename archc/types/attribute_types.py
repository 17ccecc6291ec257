"""The types of attributes: does a value of the language fit an annotation, and what is the annotation in words?"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from archc.diagnostics import did_you_mean
from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def convert(value: Any, wanted: Any) -> tuple[bool, Any]:
    """Whether a value of the language is one of a type, and the value as that type has it (2 as a float is 2.0).

    Args:
        wanted: an annotation: a class, a union, a `Literal` or a tuple of those.
    """
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        for option in get_args(wanted):
            fits, converted = convert(value, option)
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
        converted = [convert(item, item_type) for item, item_type in zip(value, item_types)]
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


def type_text(wanted: Any) -> str:
    """A type in words: `an integer`, `a tuple of integers`, `"zeros" or "same"`."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(wanted) if option is not type(None)]
        if SymbolicDim in options and int in options:  # a size is an integer, or will be one
            options = [option for option in options if option is not int]
        return " or ".join(type_text(option) for option in options)
    if origin is Literal:
        return " or ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in get_args(wanted))
    if origin is tuple:
        items = get_args(wanted)
        if len(items) == 2 and items[1] is Ellipsis:
            item = type_text(items[0])
            if " or " in item:
                return f"a tuple, each of it {item}"
            return f"a tuple of {item.removeprefix('an ').removeprefix('a ')}s"
        return f"({', '.join(type_text(item).removeprefix('an ').removeprefix('a ') for item in items)})"
    return _WORDS.get(wanted, getattr(wanted, "__name__", str(wanted)))


def nearest_choice(value: Any, wanted: Any) -> str | None:
    """Help for a string that is none of a `Literal`'s choices, or None where none is near."""
    choices: Iterable[Any] = get_args(wanted) if get_origin(wanted) is Literal else ()
    if not choices and get_origin(wanted) in (Union, types.UnionType):
        choices = [c for option in get_args(wanted) if get_origin(option) is Literal for c in get_args(option)]
    return did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else None


def unquoted(value: Any, wanted: Any) -> str | None:
    """Help for a number or truth value in quotes, or None for any other value."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    inside: Any = {"true": True, "false": False}.get(text)
    if _NUMBER.fullmatch(text):
        inside = float(text) if "." in text else int(text)
    return f"leave the quotes out: `{text}`" if inside is not None and convert(inside, wanted)[0] else None
