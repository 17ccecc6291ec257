"""Guards for methods of extensions: operators and passes from outside archc.

A mistake in such a method is no bug of archc.  `guard` wraps the methods when their class is defined, so each exception
becomes a diagnostic, wherever the compiler calls the method.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from types import CodeType, FunctionType
from typing import Any

from archc.diagnostics import ArchcError

Fail = Callable[[Any, str, BaseException], BaseException | None]
"""A function that converts an exception of a method for the caller.

The arguments are the instance or class, the name of the method, and the exception.  The caller receives the returned
exception; with None, it receives the original one.
"""


def is_outside(thing: object) -> bool:
    """Return whether a class or function is defined outside archc."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] != "archc"


def class_text(cls: Any) -> str:
    """The class of an operator or pass as text: "`cube` is the class `Cube` of the module `my_package`"."""
    return f"`{cls.name}` is the class `{cls.__qualname__}` of the module `{cls.__module__}`"


def guard(cls: type, names: Collection[str], fail: Fail, check: Callable[[Any, str, Any], None] | None = None) -> None:
    """Wrap methods that a class from outside archc defines, if they have certain names.

    Args:
        names: names of the methods that archc calls.
        fail: makes the exception that the caller receives.
        check: called with the instance or class, the name of the method, and its result; it may raise an exception.
    """
    for name, found in list(vars(cls).items()) if is_outside(cls) else ():
        if name not in names:
            continue
        if isinstance(found, classmethod):
            setattr(cls, name, classmethod(_guarded(found.__func__, name, fail, check)))
        elif isinstance(found, FunctionType):
            setattr(cls, name, _guarded(found, name, fail, check))


def _guarded(
    function: Callable[..., Any], name: str, fail: Fail, check: Callable[[Any, str, Any], None] | None
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = function(self, *args, **kwargs)
        except (ArchcError, MemoryError):
            raise
        except (Exception, SystemExit) as failure:
            reported = fail(self, name, failure)
            if reported is None:
                raise
            raise reported from failure
        if check is not None:
            check(self, name, result)
        return result

    return call


def reason_of(failure: BaseException) -> str:
    """An exception as text: its class and its message."""
    return f"{type(failure).__name__}: {failure}"


def line_of(failure: BaseException, function: Any) -> str | None:
    """The line at which an exception was raised, as text: "line 5 of `counts.py`".

    It is the innermost line of the file that defines a function of the extension, or of the function itself if the
    exception was raised elsewhere.  None if the function is not written in Python.
    """
    from traceback import walk_tb

    code = _code_of(function)
    if code is None:
        return None
    lines = [line for frame, line in walk_tb(failure.__traceback__) if frame.f_code.co_filename == code.co_filename]
    return f"line {lines[-1]} of `{code.co_filename}`" if lines else definition_of(function)


def definition_of(function: Any) -> str | None:
    """The line at which a function is defined, as text; None if it is not written in Python."""
    code = _code_of(function)
    return None if code is None else f"line {code.co_firstlineno} of `{code.co_filename}`"


def _code_of(function: Any) -> CodeType | None:
    return getattr(getattr(function, "__wrapped__", function), "__code__", None)
