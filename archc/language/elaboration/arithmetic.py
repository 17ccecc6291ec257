"""Arithmetic on attribute values: numbers, symbolic sizes, strings and tuples."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from archc.diagnostics import ArchcError
from archc.frozen_dataclass import frozen_dataclass
from archc.types import dims
from archc.types.dims import SymbolicDim

LARGEST_NUMBER = 2**63 - 1
LONGEST_TEXT = 1_000_000
"""Limit on the characters of a string."""
LONGEST_LIST = 4_000
"""Limit on the items of a list that `+` returns.

A loop that appends to a list copies the list in each iteration, so its time is quadratic in the length of the list.
"""
MOST_ITEMS = 20_000
"""Limit on the items of a tuple or list, including nested items."""
LARGEST_SIZE = 2**31 - 1
"""Limit on the size of an axis: the largest index in the kernels of PyTorch and ONNX Runtime."""


class ArithmeticProblem(Exception):
    """Failure of an operation, with the code, message and help of the diagnostic."""

    def __init__(self, code: str, message: str, help: str | None = None):
        super().__init__(message)
        self.code, self.message, self.help = code, message, help


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@frozen_dataclass
class ScaledSize:
    """Symbolic size times a fraction; `int` or `floor` converts the product to a size."""

    size: SymbolicDim
    factor: float

    def __str__(self) -> str:
        return f"{self.size} * {self.factor}"


_ORDER = ("<", "<=", ">", ">=")
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def binary(symbol: str, left: Any, right: Any) -> Any:
    """Value of `left symbol right`.

    Raises:
        ArithmeticProblem: the operation is not defined for the operands, divides by 0, gives a number out of bounds,
            or compares sizes that are known only when the model runs.
    """
    if isinstance(left, SymbolicDim) or isinstance(right, SymbolicDim):
        with _within_limits():
            return _symbolic(symbol, left, right)
    numbers = _is_number(left) and _is_number(right)
    sequences = isinstance(left, (str, tuple, list)) and type(left) is type(right)
    if not (numbers or (sequences and symbol in ("+", "==", "!=")) or symbol in ("==", "!=")):
        raise ArithmeticProblem(
            "wrong-type", f"`{symbol}` does not apply to {describe_kind(left)} and {describe_kind(right)}"
        )
    if symbol in ("==", "!="):
        return _BINARY[symbol](left, right)
    longest = LONGEST_TEXT if isinstance(left, str) else LONGEST_LIST
    if sequences and len(left) + len(right) > longest:
        raise ArithmeticProblem("number-too-large", f"the result of `{symbol}` is longer than {longest:,}")
    if sequences and not isinstance(left, str):
        check_items((left, right))
    try:
        if symbol == "**" and _too_large_power(left, right):
            raise OverflowError
        value = _BINARY[symbol](left, right)
    except ZeroDivisionError:
        raise ArithmeticProblem("division-by-zero", f"`{symbol}` divides by 0") from None
    except OverflowError:
        raise ArithmeticProblem("number-too-large", f"the result of `{symbol}` is too large") from None
    if isinstance(value, complex):
        raise ArithmeticProblem("wrong-type", "the root of a negative number is not a real number")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ArithmeticProblem(
            "number-too-large", f"the result of `{symbol}` is too large", "the largest integer is 2**63 - 1"
        )
    return check_number(value)


def item_count(value: Any) -> int:
    """Number of items of a tuple or list, including nested items; the count stops above `MOST_ITEMS`."""
    count, waiting = 0, [value]
    while waiting and count <= MOST_ITEMS:
        one = waiting.pop()
        count += len(one)
        waiting += [item for item in one if type(item) in (tuple, list)]
    return count


def check_items(values: Sequence[Any], written: int = 0) -> None:
    """Check the number of items of a new tuple or list that holds the given values, with nested items.

    Args:
        written: number of characters of the tuple or list in the source text.  The limit is `MOST_ITEMS + written`, so
            that items that are written out in the text never exceed it.

    Raises:
        ArithmeticProblem: the tuple or list has too many items (`number-too-large`).
    """
    nested = sum(item_count(value) for value in values if isinstance(value, tuple | list))
    if nested > MOST_ITEMS + written:
        message = f"a tuple or list has more than {MOST_ITEMS:,} items, with nested items"
        raise ArithmeticProblem("number-too-large", message, "use a shorter list")


def check_number(value: Any) -> Any:
    """Check that a number is within bounds, and return it.

    Raises:
        ArithmeticProblem: an integer exceeds 64 bits, or a float is infinite or NaN.
    """
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ArithmeticProblem("number-too-large", f"an integer is at most {LARGEST_NUMBER}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ArithmeticProblem("number-too-large", "the number is too large for a float")
    return value


def _symbolic(symbol: str, left: Any, right: Any) -> Any:
    sizes = all(isinstance(value, SymbolicDim) or type(value) is int for value in (left, right))
    if symbol in ("==", "!=") and sizes:
        if left == right:
            return symbol == "=="
        difference = left - right
        if isinstance(difference, int):  # `N == N + 1` is false for all N
            return symbol == "!="
        raise _undecided(symbol, left, right)
    if symbol in _ORDER and sizes:
        difference = left - right
        if isinstance(difference, int):
            return _BINARY[symbol](difference, 0)
        bound = _bounded(symbol, left, right)
        if bound is not None:
            return bound
        raise _undecided(symbol, left, right)
    if symbol == "*" and isinstance(left, float) and left > 0:
        return ScaledSize(right, left)
    if symbol == "*" and isinstance(right, float) and right > 0:
        return ScaledSize(left, right)
    if not sizes:
        raise ArithmeticProblem(
            "not-known-yet",
            f"`{symbol}` does not apply to {describe_kind(left)} and {describe_kind(right)}:"
            " a size is known only when the model runs",
        )
    if symbol == "**":
        if type(right) is not int or not 0 <= right <= 8:
            raise ArithmeticProblem("wrong-type", f"the power of a size is an integer from 0 to 8, got {right}")
        return _power(left, right)
    if symbol == "/" and right != 0:
        exact = dims.divide(left, right)
        if exact is None:
            raise ArithmeticProblem(
                "not-known-yet", f"`{left} / {right}` is known only when the model runs", help="use `//`"
            )
        return exact
    try:
        return _BINARY["//" if symbol == "/" else symbol](left, right)
    except ZeroDivisionError:
        raise ArithmeticProblem("division-by-zero", f"`{symbol}` divides by 0") from None


def _power(size: Any, exponent: int) -> Any:
    result: Any = 1
    for _ in range(exponent):
        result = result * size
    return result


@contextmanager
def _within_limits() -> Iterator[None]:
    """Raise an `ArithmeticProblem` for a size that exceeds the limits of `archc.types.dims`."""
    try:
        yield
    except ArchcError as limit:
        (problem,) = limit.diagnostics
        raise ArithmeticProblem(problem.code, problem.message, problem.help) from None


def _bounded(symbol: str, left: Any, right: Any) -> bool | None:
    """Value of a comparison such as `T <= 1024`, if the bounds of T decide it; None otherwise.

    The lower bound is 1, and the upper bound is the declared maximum of T.
    """
    if isinstance(left, int):
        symbol, left, right = _MIRRORED[symbol], right, left
    own = dims.as_symbol(left)
    if own is None or not isinstance(right, int):
        return None
    if symbol in ("<", "<=") and own.maximum is not None and _BINARY[symbol](own.maximum, right):
        return True
    if symbol in (">", ">=") and own.maximum is not None and not _BINARY[symbol](own.maximum, right):
        return False
    if symbol in (">", ">=") and _BINARY[symbol](1, right):
        return True
    if symbol in ("<", "<=") and not _BINARY[symbol](1, right):
        return False
    return None


def _undecided(symbol: str, left: Any, right: Any) -> ArithmeticProblem:
    return ArithmeticProblem(
        "not-known-yet",
        f"whether `{left} {symbol} {right}` holds is known only when the model runs",
        help="`if` and `assert` are evaluated at compile time; declare the size as a number",
    )


def _too_large_power(base: Any, exponent: Any) -> bool:
    return isinstance(base, int) and isinstance(exponent, int) and exponent > 64 and abs(base) > 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def describe_kind(value: Any) -> str:
    """Phrase for the kind of a value, for messages: "an integer", "a list"."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int):
        return "an integer"
    names = {float: "a floating-point number", str: "a string", tuple: "a tuple", list: "a list"}
    names |= {SymbolicDim: "a size", ScaledSize: "a size times a fraction"}
    return names.get(type(value)) or f"a {type(value).__name__.removesuffix('Ref').lower()}"


# Functions ------------------------------------------------------------------------------------------------


def _rounding(function: Callable[[float], int]) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, (int, SymbolicDim)) else function(value)


def _down(function: Callable[[float], int]) -> Callable[[Any], Any]:
    whole = _rounding(function)
    return lambda value: dims.scaled(value.size, value.factor) if isinstance(value, ScaledSize) else whole(value)


def _extreme(numbers: Callable[[Any, Any], Any], sizes: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def function(*values: Any) -> Any:
        if len(values) == 1 and isinstance(values[0], (tuple, list)):
            values = tuple(values[0])
        if not values:
            raise TypeError
        best = values[0]
        for value in values[1:]:
            symbolic = isinstance(best, SymbolicDim) or isinstance(value, SymbolicDim)
            if symbolic and not all(isinstance(one, SymbolicDim) or type(one) is int for one in (best, value)):
                raise TypeError
            best = sizes(best, value) if symbolic else numbers(best, value)
        return best

    return function


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": _extreme(min, dims.minimum),
    "max": _extreme(max, dims.maximum),
    "sqrt": math.sqrt,
    "log": math.log,
    "log2": math.log2,
    "exp": math.exp,
    "abs": abs,
    "int": _down(int),
    "floor": _down(math.floor),
    "ceil": _rounding(math.ceil),
    "round": _rounding(round),
    "len": len,
}
"""Functions of attribute values, for expressions such as `1 / sqrt(D)`."""


def call_function(name: str, arguments: list[Any]) -> Any:
    """Value of a function of `FUNCTIONS`.

    Raises:
        ArithmeticProblem: the function is not defined for the arguments.
    """
    shown = ", ".join(describe_kind(argument) for argument in arguments)
    if name not in ("len", "min", "max", "int", "floor", "ceil", "round") and any(
        isinstance(argument, SymbolicDim) for argument in arguments
    ):
        raise ArithmeticProblem("not-known-yet", f"`{name}` of a size is known only when the model runs")
    if any(isinstance(argument, bool) for argument in arguments):
        raise ArithmeticProblem("wrong-type", f"`{name}` does not apply to {shown}")
    try:
        with _within_limits():
            return check_number(FUNCTIONS[name](*arguments))
    except TypeError:
        raise ArithmeticProblem("wrong-type", f"`{name}` does not apply to {shown or 'nothing'}") from None
    except (ValueError, OverflowError):
        raise ArithmeticProblem("wrong-type", f"`{name}` is not defined for {shown} of this value") from None
