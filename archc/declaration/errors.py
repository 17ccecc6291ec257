"""Errors for operands and attributes that do not fit an operator, and their messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

from archc.declaration.notation import Notation
from archc.types.attributes import AttributeInfo, attributes
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Contradiction, Misfit
from archc.types.signature import Pattern, RankMismatch, Signature
from archc.types.tensor_type import MOST_AXES, DType, TensorType


class OperatorError(Misfit):
    """Operands or attributes that do not fit an operator.

    The caller adds the position in the source text, and converts the error to a diagnostic.

    Attributes:
        code, help, notes: as in a diagnostic.
        attribute: the name of the wrong attribute; None if no attribute is wrong.
        operand: the number of the wrong data operand; None if no operand is wrong.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        attribute: str | None = None,
        operand: int | None = None,
        help: str | None = None,
        notes: Sequence[str] = (),
    ):
        super().__init__(message)
        self.code, self.message, self.attribute, self.operand = code, message, attribute, operand
        self.help, self.notes = help, tuple(notes)


def too_many_axes(count: int) -> OperatorError:
    """The error for a tensor with more axes than kernels support."""
    message = f"a tensor has at most {MOST_AXES} axes, got {count:,}"
    return OperatorError("too-many-axes", message, help="merge axes with `flatten` or `reshape`")


def check_representable(op: Notation, dtypes: Iterable[DType]) -> None:
    """Check that the dtype of the data can represent numbers in attributes: i8 does not allow `x + 300`.

    In a floating-point dtype, infinity, NaN and all numbers in the range are valid, even if they are rounded.
    Attributes that must be integers are not checked: a kernel size may exceed the largest i8.

    Args:
        dtypes: dtypes of the operands and the results.

    Raises:
        OperatorError: an attribute is not representable (`number-too-large`, `dtype-mismatch`).
    """
    computed = sorted(set(dtypes) - {DType.bool}, key=lambda dtype: (not dtype.floating, dtype.largest))
    dtype = computed[0] if computed else DType.bool
    for info in attributes(type(op)):
        value = info.of(op)
        if isinstance(value, SymbolicDim) and info.element and dtype is DType.bool:
            raise OperatorError(
                "dtype-mismatch",
                f"{_attribute_noun(op, info)} is the symbolic size {value}, and bool holds only 0 and 1",
                attribute=info.name,
                help="`dtype = i64`" if getattr(op, "dtype", None) is dtype else "convert with `cast(i64)`",
            )
        if not isinstance(value, (int, float)) or float not in (info.type, *get_args(info.type)):
            continue
        if info.element and not dtype.floating:
            _check_integer(op, info, value, dtype)
        elif computed:
            _check_size(op, info, value, dtype)


def _check_size(op: Notation, info: AttributeInfo, value: int | float, dtype: DType) -> None:
    """Check that a number is infinite or in the range of a dtype (`number-too-large`)."""
    if dtype.largest < abs(value) < math.inf and value != dtype.smallest:
        raise OperatorError(
            "number-too-large",
            f"{_attribute_noun(op, info)} is {_text(value)}, and the largest {dtype} is {_text(dtype.largest)}",
            attribute=info.name,
            help=f"write a number from {_text(dtype.smallest)} to {_text(dtype.largest)}"
            + (f", or `{math.copysign(math.inf, value)}`" if dtype.floating else ""),
        )


def _check_integer(op: Notation, info: AttributeInfo, value: int | float, dtype: DType) -> None:
    """Check that a number is an element of an integer dtype or of bool."""
    whole = math.isfinite(value) and value == int(value)
    if whole and abs(value) > dtype.largest:
        _check_size(op, info, value, dtype)
    elif not whole or value < dtype.smallest:
        holds = f"{dtype.smallest} to {dtype.largest}" if whole or dtype is DType.bool else "integers"
        needed = "i64" if whole else "f32"
        converted = f"`dtype = {needed}`" if getattr(op, "dtype", None) is dtype else f"convert with `cast({needed})`"
        raise OperatorError(
            "dtype-mismatch",
            f"{_attribute_noun(op, info)} is {_text(value)}, and {dtype} holds {holds}",
            attribute=info.name,
            help=f"{converted}, or another number",
        )


def _attribute_noun(op: Notation, info: AttributeInfo) -> str:
    """Name of an attribute in a message: "the number of `mul`" for `x * 2`, not "`scalar`"."""
    return f"{info.phrase or f'`{info.name}`'} of `{op.name}`"


def _text(number: int | float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"


def rank_error(
    op: Notation, mismatch: RankMismatch, data: Sequence[Pattern], types: Sequence[TensorType]
) -> OperatorError:
    """The error for an operand with too many or too few axes.

    Args:
        data: patterns of the data operands.
        types: types of the data operands.
    """
    operand = next(number for number, pattern in enumerate(data) if pattern.name == mismatch.pattern.name)
    axes = ", ".join(str(axis) for axis in mismatch.pattern.axes)
    # A spread (`*b`) matches any number of axes, and every other item of the pattern matches one axis.
    fixed = [axis for axis in mismatch.pattern.axes if not str(axis).startswith(("*", "~"))]
    least = "at least " if len(fixed) < len(mismatch.pattern.axes) else ""
    expected = len(fixed) if mismatch.expected is None else mismatch.expected
    count = f"{least if mismatch.expected is None else ''}{expected} ax{'i' if expected == 1 else 'e'}s [{axes}]"
    which = f" as `{mismatch.pattern.name}`" if len(data) > 1 else ""
    return OperatorError(
        "rank-mismatch",
        f"`{op.name}` expects {count}{which}, got {mismatch.rank}: {types[operand]}",
        operand=operand,
    )


def shape_error(
    op: Notation,
    signature: Signature,
    found: Contradiction,
    data: Sequence[Pattern],
    types: Sequence[TensorType],
) -> OperatorError:
    """The error for sizes that contradict the signature.

    If an attribute gives the expected size, the error names the attribute.

    Args:
        data: patterns of the data operands.
        types: types of the data operands.
    """
    operand = next(number for number, pattern in enumerate(data) if pattern.name == found.operand.name)
    phrases = {info.index: info for info in attributes(type(op)) if info.index is not None}
    info = phrases.get(found.index) if found.index is not None else None
    given = found.expected is not None and info is not None and info.of(op) == found.expected
    if found.index is not None and "." in found.index:
        message = (
            f"`{op.name}` cannot combine "
            + " with ".join(str(operand) for operand in types)
            + f": {found.expected} and {found.actual} are different sizes"
        )
        return OperatorError(
            "shape-mismatch", message, operand=operand, help="sizes must be equal, or one of them the constant 1"
        )
    if given and info is not None and str(found.operand.axes[found.axis]) == found.index:
        phrase = info.phrase or f"{found.index}"
        return OperatorError(
            "shape-mismatch",
            f"`{op.name}` expects {found.expected} {phrase}, got {found.actual}",
            operand=operand,
            attribute=info.name,
        )
    axis = str(found.operand.axes[found.axis])
    expected = "" if found.expected is None else f", expected {found.expected}"
    if found.expected is not None and found.index is not None and axis != found.index:
        divisor = f"`{info.name}` = {found.expected}" if given and info is not None else f"{found.expected}"
        expected = f", which {divisor} does not divide"
    reason = f"axis {found.axis} (`{axis}`) is {found.actual}{expected}"
    if found.expected is None:
        reason = f"axis {found.axis} (`{axis}`) of size {found.actual} does not determine the sizes of its factors"
    which = f"`{found.operand.name}` of " if len(data) > 1 else ""
    return OperatorError(
        "shape-mismatch",
        f"{which}`{op.name}` receives {types[operand]}: {reason}",
        operand=operand,
        notes=[f"the signature is {signature}"],
    )
