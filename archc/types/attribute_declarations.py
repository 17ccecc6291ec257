"""Checks of the attributes that a class from outside archc declares, when the class is defined.

Without them, a wrong declaration fails only when a text first uses the operator or the pass.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, Field, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from archc.diagnostics import did_you_mean
from archc.extension_failure import is_outside
from archc.types.attribute_types import convert, type_text

_TYPES = ("int", "float", "bool", "str", "tuple")
"""Names of the types that most attributes have, for the help on a misspelt one."""


def check_attributes(cls: type, base: type) -> None:
    """Check the names, the types and the defaults of the attributes that a class declares.

    The class may be new: its decorator has not made it a dataclass yet.

    Args:
        base: the base class of all operators or passes; attributes must not hide its methods and class variables.

    Raises:
        ValueError: a declaration is wrong; the message names the class, the attribute and the correction.
    """
    annotations = inspect.get_annotations(cls)
    for name, value in vars(cls).items():
        if isinstance(value, Field) and name not in annotations:
            raise ValueError(f"`{name}` of `{cls.__name__}` has no type; write `{name}: int = archc.attribute(...)`")
    for name, declared in own_fields(cls).items():
        if hasattr(base, name):
            raise ValueError(
                f"`{name}` of `{cls.__name__}` cannot be an attribute, since `archc.{base.__name__}` defines `{name}`;"
                " give the attribute another name"
            )
        _check_default(cls, name, declared)
    optional = None
    for name, declared in all_fields(cls).items():
        if declared.kw_only is True:
            continue
        if declared.default is not MISSING or declared.default_factory is not MISSING:
            optional = name
        elif optional is not None:
            raise ValueError(
                f"`{name}` of `{cls.__name__}` has no default, but `{optional}` before it has one; declare `{name}`"
                f" before `{optional}`, or give it a default"
            )


def check_decorator(cls: type, base: type, decorator: str) -> None:
    """Check that a class from outside archc, and its bases, are dataclasses if they declare attributes.

    Args:
        base: the base class of all operators or passes.
        decorator: the decorator to write, such as `@archc.operator`.

    Raises:
        TypeError: a class declares attributes, but has no decorator.
    """
    for one in cls.__mro__ if is_outside(cls) else ():
        if issubclass(one, base) and is_outside(one) and "__dataclass_fields__" not in vars(one):
            names = ", ".join(f"`{name}`" for name in own_fields(one))
            if names:
                raise TypeError(
                    f"`{one.__name__}` declares {names}, but has no decorator; write `{decorator}` in the line before"
                    f" `class {one.__name__}`"
                )


def all_fields(cls: type) -> dict[str, Field[Any]]:
    """The fields of a class and of its bases by name, in the order of the arguments."""
    found: dict[str, Field[Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= own_fields(base) if "__dataclass_fields__" in vars(base) else {}
    return found | own_fields(cls)


def own_fields(cls: type) -> dict[str, Field[Any]]:
    """The fields that a class itself declares, before or after its decorator has made it a dataclass."""
    made = vars(cls).get("__dataclass_fields__", {})
    found: dict[str, Field[Any]] = {}
    keyword = False
    for name, annotation in inspect.get_annotations(cls).items():
        special = _special(annotation)
        keyword = keyword or special == "KW_ONLY"
        if special:
            continue
        default = vars(cls).get(name, MISSING)
        one = made.get(name) or (default if isinstance(default, Field) else field(default=default))
        if keyword:
            one.kw_only = True  # as the decorator does
        found[name] = one
    return found


def _special(annotation: Any) -> str:
    """The word of `dataclasses` in an annotation that makes no field; an empty text for a field."""
    text = annotation if isinstance(annotation, str) else str(annotation)
    found = re.match(r"<?(?:class ')?(?:\w+\.)*(ClassVar|InitVar|KW_ONLY)\b", text)
    return found[1] if found else ""


def _check_default(cls: type, name: str, declared: Field[Any]) -> None:
    annotation = inspect.get_annotations(cls)[name]
    is_class = isinstance(annotation, type) and not get_args(annotation)
    text = annotation.__name__ if is_class else str(annotation)
    try:
        kind = eval(annotation, vars(sys.modules[cls.__module__])) if isinstance(annotation, str) else annotation
    except Exception as mistake:  # an annotation is any expression
        way = did_you_mean(text.lower(), _TYPES) or f"write a type such as `{name}: float`"
        raise ValueError(f"the type `{text}` of `{name}` of `{cls.__name__}` is wrong: {mistake}; {way}") from None
    if not _is_known(kind):
        raise ValueError(
            f"`{name}` of `{cls.__name__}` has the type `{text}`, which no value in a text has; write a type such as"
            f" `{name}: float` or `{name}: tuple[int, ...]`"
        )
    if declared.default is not MISSING and not convert(declared.default, kind)[0]:
        raise ValueError(
            f"the default of `{name}` of `{cls.__name__}` must be {type_text(kind)}, as its type `{text}` says, got"
            f" {declared.default!r}; correct the default or the type"
        )


def _is_known(kind: Any) -> bool:
    """Return whether the values of a text can be converted to a type: a class, union, `Literal` or tuple."""
    origin = get_origin(kind)
    if origin in (Union, UnionType, tuple):
        return all(part is Ellipsis or _is_known(part) for part in get_args(kind))
    return kind in (Any, None) or origin is Literal or (origin is None and isinstance(kind, type))


def check_name(cls: Any) -> None:
    """Check that the name of an operator or pass can be written in a text.

    Raises:
        ValueError: it is no identifier.
    """
    if not (isinstance(cls.name, str) and cls.name.isascii() and cls.name.isidentifier()):
        words = "".join(char if char.isascii() and char.isalnum() else "_" for char in str(cls.name)).strip("_").lower()
        raise ValueError(
            f"`name` of `{cls.__name__}` is {cls.name!r}, which is no name in a text; use letters, digits and `_`, as"
            f' in `name = "{words if words.isidentifier() else cls.__name__.lower()}"`'
        )
