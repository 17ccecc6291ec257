"""Types of attributes: conversion of the values of a text, and descriptions for messages."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType


def convert(value: Any, wanted: Any) -> tuple[bool, Any]:
    """Convert a value of the language to a type, such as 2 to the float 2.0.

    Args:
        wanted: an annotation: a class, a union, a `Literal` or a tuple of these.

    Returns:
        True and the converted value, or False if the value is not of the type.
    """
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        for option in get_args(wanted):
            fits, converted = convert(value, option)
            if fits:
                return True, converted
        return False, None
    if origin is Literal:
        # In Python, 1 == True.  Equal values must therefore also have equal types.
        choices = get_args(wanted)
        if isinstance(value, DType):  # a choice such as `f16` is also the name of a dtype
            value = value.value
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
    """Return the description of a type: `an integer`, `a tuple of integers`, `"zeros" or "same"`."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(wanted) if option is not type(None)]
        if SymbolicDim in options and int in options:  # "a size" includes integers
            options = [option for option in options if option is not int]
        return " or ".join(type_text(option) for option in options)
    if origin is Literal:
        return " or ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in get_args(wanted))
    if origin is tuple:
        items = get_args(wanted)
        if len(items) == 2 and items[1] is Ellipsis:
            item = type_text(items[0])
            if " or " in item:
                return f"a tuple of items, each {item}"
            return f"a tuple of {item.removeprefix('an ').removeprefix('a ')}s"
        return f"({', '.join(type_text(item).removeprefix('an ').removeprefix('a ') for item in items)})"
    name: str = getattr(wanted, "type_phrase", "") or getattr(wanted, "__name__", str(wanted))
    return _WORDS.get(wanted, name)


def choices(wanted: Any) -> tuple[str, ...]:
    """Return the words of a type that is a `Literal` or a union with one; none for other types."""
    if get_origin(wanted) in (Union, types.UnionType):
        return tuple(choice for option in get_args(wanted) for choice in choices(option))
    return tuple(c for c in get_args(wanted) if isinstance(c, str)) if get_origin(wanted) is Literal else ()
