"""Frozen dataclasses that cost nothing until they are used.

archc declares its operators and the nodes of its syntax tree as dataclasses, some two hundred of them, and any one
text uses a few.  `dataclasses.dataclass(frozen=True)` writes and compiles six methods for each class when the module
is imported, which took half of the time of `archc check`.  A `record` is the same thing made lazily: the
constructor is compiled when the first instance is made, and the other methods are shared by all records.

`dataclasses.fields` and `dataclasses.replace` work on records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from archc.ir.attributes import attribute

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(attribute, dataclasses.field))
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass: fields from its annotations, equality and hash by their values."""
    made = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    made.__init__ = _first_init(made)  # type: ignore[misc]
    made.__eq__ = _equal  # type: ignore[method-assign,assignment]
    made.__hash__ = _hash  # type: ignore[method-assign,assignment]
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _repr  # type: ignore[method-assign,assignment]
    made.__setattr__ = _refuse  # type: ignore[method-assign,assignment]
    made.__delattr__ = _refuse  # type: ignore[method-assign,assignment]
    made.__match_args__ = tuple(field.name for field in dataclasses.fields(made))  # type: ignore[attr-defined,arg-type]
    return made


def _first_init(cls: type) -> Callable[..., None]:
    """A constructor that compiles the real one, puts it in its own place, and calls it."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _compiled_init(cls)  # type: ignore[misc]
        cls.__init__(self, *args, **kwargs)  # type: ignore[misc]

    return __init__


def _compiled_init(cls: type) -> Callable[..., None]:
    namespace: dict[str, Any] = {"_set": object.__setattr__}
    positional, by_name, lines = ["self"], [], []
    for field in dataclasses.fields(cls):
        parameter = field.name
        if field.default is not dataclasses.MISSING:
            namespace[f"_default_{field.name}"] = field.default
            parameter += f"=_default_{field.name}"
        (by_name if field.kw_only else positional).append(parameter)
        lines.append(f"    _set(self, {field.name!r}, {field.name})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n" + ("\n".join(lines) or "    pass"), namespace)
    init: Callable[..., None] = namespace["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _values(instance: Any) -> tuple[Any, ...]:
    return tuple([getattr(instance, name) for name in instance.__match_args__])


def _equal(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self is other or _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, *_values(self)))


def _repr(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{self.__class__.__qualname__}({fields})"


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change `{name}` of a {self.__class__.__name__}")
