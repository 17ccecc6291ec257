"""Operands and attributes that do not fit an operator, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, get_args

from archc.ir.attributes import attributes
from archc.ir.signature import Pattern, RankMismatch
from archc.ir.solve import Contradiction, Misfit
from archc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from archc.ops.operator import Operator


class OperatorError(Misfit):
    """Operands or attributes that do not fit; whoever knows the text turns it into a diagnostic.

    Attributes:
        code: stable and kebab-case, as of a diagnostic; help, notes: as there.
        attribute: the attribute at fault, if one is; operand: the number of the data operand at fault, if one is.
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


def check_numbers(op: Operator, dtypes: Iterable[DType]) -> None:
    """Raise where an attribute that is a number of the data cannot be one of their dtype; infinity always can.

    Only attributes that may be floats are such numbers: a kernel may well be larger than the largest i8.

    Args:
        dtypes: those of the operands and of the results.
    """
    computed = sorted(set(dtypes) - {DType.bool}, key=lambda dtype: (not dtype.floating, dtype.largest))
    if not computed:
        return
    dtype = computed[0]
    for info in attributes(type(op)):
        value = getattr(op, info.name)
        if type(value) not in (int, float) or float not in (info.type, *get_args(info.type)):
            continue
        if dtype.largest < abs(value) < math.inf and value != -dtype.largest - 1:
            raise OperatorError(
                "number-too-large",
                f"`{info.name}` of `{op.name}` is {_short(value)}, and the largest {dtype} is {_short(dtype.largest)}",
                attribute=info.name,
            )


def _short(number: int | float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"


def rank_error(
    op: Operator, mismatch: RankMismatch, data: Sequence[Pattern], types: Sequence[TensorType]
) -> OperatorError:
    """The error for an operand with too many or too few axes.

    Args:
        data: the patterns of the data operands; types: what the operator received for them.
    """
    operand = next(number for number, pattern in enumerate(data) if pattern.name == mismatch.pattern.name)
    axes = ", ".join(str(axis) for axis in mismatch.pattern.axes)
    # A spread stands for any number of axes; what else is in the pattern is one each.
    fixed = [axis for axis in mismatch.pattern.axes if not str(axis).startswith(("*", "~"))]
    least = "at least " if len(fixed) < len(mismatch.pattern.axes) else ""
    expected = len(fixed) if mismatch.expected is None else mismatch.expected
    count = f"{least if mismatch.expected is None else ''}{expected} ax{'i' if expected == 1 else 'e'}s [{axes}]"
    which = f" as `{mismatch.pattern.name}`" if len(data) > 1 else ""
    return OperatorError(
        "rank-mismatch",
        f"`{op.name}` expects {count}{which}, and receives {mismatch.rank}: {types[operand]}",
        operand=operand,
    )


def shape_error(
    op: Operator, found: Contradiction, data: Sequence[Pattern], types: Sequence[TensorType]
) -> OperatorError:
    """The error for sizes that contradict the signature, in the words of the attribute that said otherwise.

    Args:
        data: the patterns of the data operands; types: what the operator received for them.
    """
    operand = next(number for number, pattern in enumerate(data) if pattern.name == found.operand.name)
    phrases = {info.index: info for info in attributes(type(op)) if info.index is not None}
    info = phrases.get(found.index) if found.index is not None else None
    given = found.expected is not None and info is not None and getattr(op, info.name) == found.expected
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
            f"`{op.name}` expects {found.expected} {phrase}, and receives {found.actual}",
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
        reason = f"axis {found.axis} (`{axis}`) of size {found.actual} does not tell the sizes of its factors"
    which = f"`{found.operand.name}` of " if len(data) > 1 else ""
    return OperatorError(
        "shape-mismatch",
        f"{which}`{op.name}` receives {types[operand]}: {reason}",
        operand=operand,
        notes=[f"the signature is {op.signature_for(types)}"],
    )
