"""Frozen dataclasses whose methods are compiled when they are first called.

archc declares about four hundred frozen dataclasses, such as operators and nodes of the syntax tree, and one text uses
only a few of them.  `dataclasses.dataclass(frozen=True)` compiles six methods of each class during the import of the
module, and this compilation took half of the time of `archc check`.  `frozen_dataclass` makes the same class, but
compiles a method at its first call.  `frozen_by_identity` corresponds to `dataclass(frozen=True, eq=False)`.

`dataclasses.fields` and `dataclasses.replace` work on these classes.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen_dataclass(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass, with fields from its annotations and equality by their values."""
    made: Any = frozen_by_identity(cls)
    made.__eq__ = _on_first_call(made, "__eq__", _eq)
    made.__hash__ = _on_first_call(made, "__hash__", _hash)
    return made  # type: ignore[no-any-return]  # the same object as `cls`


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def frozen_by_identity(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass of which an instance equals only itself."""
    make: Callable[[Any], Any] = dataclasses.dataclass(init=False, repr=False, eq=False)
    made: Any = make(cls)
    made.__init__ = _on_first_call(made, "__init__", _init)
    made.__signature__ = _Signature()
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _repr
    made.__setattr__ = made.__delattr__ = _refuse
    return made  # type: ignore[no-any-return]  # the same object as `cls`


def _on_first_call(cls: Any, name: str, write: Callable[[Any], tuple[str, dict[str, Any]]]) -> Callable[..., Any]:
    """Return a method that compiles the final method, replaces itself with it, and calls it."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        source, namespace = write(cls)
        exec(source, namespace)
        compiled = namespace[name]
        compiled.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, compiled)
        return compiled(self, *args, **kwargs)

    return method


class _Signature:
    """`__signature__` of a class: the signature of its `__init__`, for `help` and notebooks."""

    def __get__(self, instance: Any, cls: Any) -> inspect.Signature:
        annotations = {field.name: field.type for field in dataclasses.fields(cls)}
        source, namespace = _init(cls)
        exec(source, namespace)
        whole = inspect.signature(namespace["__init__"])
        parameters = [
            parameter.replace(annotation=annotations[name])
            for name, parameter in whole.parameters.items()
            if name != "self"
        ]
        return whole.replace(parameters=parameters)


def _init(cls: Any) -> tuple[str, dict[str, Any]]:
    namespace: dict[str, Any] = {"_set": object.__setattr__, "_absent": object()}
    positional, lines = ["self"], []
    by_name: list[str] = []
    for field in dataclasses.fields(cls):
        parameter = field.name
        value = field.name
        if field.default is not dataclasses.MISSING:
            namespace[f"_default_{field.name}"] = field.default
            parameter += f"=_default_{field.name}"
        elif field.default_factory is not dataclasses.MISSING:
            namespace[f"_make_{field.name}"] = field.default_factory
            parameter += "=_absent"
            value = f"_make_{field.name}() if {field.name} is _absent else {field.name}"
        (by_name if field.kw_only else positional).append(parameter)
        lines.append(f"    _set(self, {field.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *by_name] if by_name else [])])
    return f"def __init__({parameters}):\n" + ("\n".join(lines) or "    pass"), namespace


def _eq(cls: Any) -> tuple[str, dict[str, Any]]:
    equal = [f"self.{name} == other.{name}" for name in _compared(cls)]
    return (
        "def __eq__(self, other):\n"
        "    if other.__class__ is not self.__class__:\n"
        "        return NotImplemented\n"
        f"    return self is other or ({' and '.join(equal) or 'True'})"
    ), {}


def _hash(cls: Any) -> tuple[str, dict[str, Any]]:
    values = "".join(f", self.{name}" for name in _compared(cls))
    return f"def __hash__(self):\n    return hash((self.__class__{values}))", {}


def _compared(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.compare]


def _repr(self: Any) -> str:
    names = [field.name for field in dataclasses.fields(self)]
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
    return f"{self.__class__.__qualname__}({fields})"


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change `{name}` of a {self.__class__.__name__}")
