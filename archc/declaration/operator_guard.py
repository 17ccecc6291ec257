"""Guards for the methods of operators from outside archc.

A mistake in such a method is an `OperatorFailure`, wherever the compiler calls the method.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from archc.declaration.operator_failure import OperatorFailure, operator_failure
from archc.declaration.type_inference import Typed
from archc.diagnostics import ArchcError, did_you_mean
from archc.extension_failure import definition_of, guard, is_outside, line_of, reason_of
from archc.types.attributes import AttributeProblem
from archc.types.extent_solver import Misfit
from archc.weights.initializers import Initializer

_REFUSING = {"onnx", "__post_init__"}
"""Methods that may refuse an operator with an `OperatorError`, as those of type inference may."""


def guard_operator(cls: Any, base: Any) -> None:
    """Guard the methods that a class of operators defines, if archc calls them.

    Args:
        base: the base class of all operators, whose methods archc calls.

    Raises:
        ValueError: the signature has a function axis such as `conv(h)`, and the class has no such method.
    """
    if not is_outside(cls):
        return
    functions = re.findall(r"(\w+)\(", cls.signature)
    for name in functions if cls.function_extent is base.function_extent else ():
        if not hasattr(cls, name):
            way = did_you_mean(name, (known for known in dir(cls) if not hasattr(base, known)))
            raise ValueError(
                f"the signature of `{cls.__name__}` calls `{name}`, which is no method of the class;"
                f" {way or f'define `def {name}(self, extent, position)`'}"
            )
    methods = {name for name in dir(base) if not name.startswith("_")}
    guard(cls, {*methods, *functions, "__post_init__"}, _fail, partial(_check_result, base))


def initializer_of(op: Typed, name: str, extents: Mapping[str, Any]) -> Initializer:
    """Initializer of a parameter, for the extents of the signature's indices.

    Raises:
        OperatorFailure: the declared function of a class from outside archc fails, or returns something else.
    """
    function = op.parameters[name].initializer
    what = f"the initializer of `{name}` of the operator `{op.name}`"
    try:
        made = function(extents)
    except (ArchcError, MemoryError):
        raise
    except (Exception, SystemExit) as failure:
        if not is_outside(type(op)):
            raise
        line = line_of(failure, function)
        raise OperatorFailure(op, f"{what} failed: {reason_of(failure)}", [f"in {line}"] if line else ()) from failure
    if not isinstance(made, Initializer):
        place = definition_of(function)
        where = [f"in the function at {place}"] if place else []
        raise OperatorFailure(
            op,
            f"{what} returned {made!r:.60}, not an initializer; write `archc.Parameter(constant(1.0))`, with"
            " `constant` of `archc.declaration.parameter`",
            where,
        )
    return made


def _fail(op: Any, method: str, failure: BaseException) -> BaseException | None:
    may_refuse = method in _REFUSING or hasattr(Typed, method) or not hasattr(type(op).__base__, method)
    if isinstance(failure, AttributeProblem) or (isinstance(failure, Misfit) and may_refuse):
        return None
    return operator_failure(op, method, failure)


def _check_result(base: Any, op: Any, method: str, result: Any) -> None:
    """Check the type of a result, and the syntax of a PyTorch expression."""
    declared = _declared_result(base, method)
    if not _conforms(result, declared):
        text = declared.__name__ if isinstance(declared, type) else str(declared)
        wanted = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text.replace("NoneType", "None"))
        shown = "None" if result is None else f"{type(result).__name__} {result!r:.60}"
        where = [f"in the method at {definition_of(getattr(op, method))}"]
        raise OperatorFailure(op, f"`{method}` of the operator `{op.name}` returned {shown}, not {wanted}", where)
    if method == "torch":
        try:
            compile(result, "<torch>", "eval")
        except (SyntaxError, ValueError) as mistake:
            raise operator_failure(op, method, mistake, [f"the expression is `{result}`"]) from mistake


@cache
def _declared_result(base: Any, method: str) -> Any:
    """The declared type of a method's result; `Any` if it is unknown outside type checkers."""
    try:
        return get_type_hints(getattr(base, method, None)).get("return", Any)
    except (NameError, TypeError):
        return Any


def _conforms(value: Any, declared: Any) -> bool:
    """Return whether a value has a declared type, as far as the declaration is a class, union or tuple."""
    origin, parts = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        return any(_conforms(value, part) for part in parts)
    if origin is tuple:
        items = parts[:1] * len(value) if parts[1:] == (...,) and isinstance(value, tuple) else parts
        return isinstance(value, tuple) and len(items) == len(value) and all(map(_conforms, value, items))
    kind = origin or declared
    return not isinstance(kind, type) or isinstance(value, kind)
