"""Checks of attributes and operands that several operator families share; they raise `OperatorError`."""

from __future__ import annotations

from archc.declaration.base import Operator, OperatorError
from archc.types.attributes import value_text
from archc.types.tensor_type import TensorType


def bad_attribute(op: Operator, name: str, must: str, help: str | None = None) -> OperatorError:
    """The error for an invalid value of an attribute: "`p` of `dropout` must be …, got 2.0"."""
    value = value_text(getattr(op, name))
    return OperatorError(
        "bad-attribute", f"`{name}` of `{op.name}` must be {must}, got {value}", attribute=name, help=help
    )


def check_positive(op: Operator, *names: str) -> None:
    """Check that each of the named attributes is above 0 or None; NaN fails."""
    for name in names:
        value = getattr(op, name)
        if value is not None and not value > 0:
            raise bad_attribute(op, name, "positive")


def check_probability(op: Operator, name: str) -> None:
    """Check that an attribute is from 0 to 1."""
    if not 0 <= getattr(op, name) <= 1:
        raise bad_attribute(op, name, "from 0 to 1")


def check_rank(op: Operator, operand: TensorType, least: int, most: int) -> None:
    """Check that the first operand has at least `least` and at most `most` axes."""
    if not least <= operand.rank <= most:
        raise OperatorError("rank-mismatch", f"`{op.name}` expects {least} to {most} axes, got {operand}", operand=0)


def check_channels(op: Operator, name: str, operand: TensorType) -> None:
    """Check that an attribute is None or the size of axis 1 of the operand."""
    wanted = getattr(op, name)
    # The signature, not this check, rejects an operand with fewer than two axes.
    if wanted is not None and operand.rank > 1 and operand.shape[1] != wanted:
        noun = "input channels" if name == "in_channels" else "channels"
        raise OperatorError(
            "shape-mismatch",
            f"`{op.name}` expects {wanted} {noun}, got {operand.shape[1]}",
            operand=0,
            attribute=name,
        )
