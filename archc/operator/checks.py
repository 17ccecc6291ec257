"""Checks of attributes and dtypes that several families share; each raises an `OperatorError`."""

from __future__ import annotations

from archc.operator.base import Operator, OperatorError
from archc.types.attributes import value_text
from archc.types.tensor_type import TensorType


def bad_attribute(op: Operator, name: str, must: str, help: str | None = None) -> OperatorError:
    """The error for an attribute whose value makes no sense: "`p` of `dropout` must be ..., and is 2.0"."""
    value = value_text(getattr(op, name))
    return OperatorError(
        "bad-attribute", f"`{name}` of `{op.name}` must be {must}, and is {value}", attribute=name, help=help
    )


def check_positive(op: Operator, *names: str) -> None:
    """Raise unless each of the named attributes is above 0; None passes, NaN does not."""
    for name in names:
        value = getattr(op, name)
        if value is not None and not value > 0:
            raise bad_attribute(op, name, "positive")


def check_probability(op: Operator, name: str) -> None:
    """Raise unless the attribute, a probability or a share, is from 0 to 1."""
    if not 0 <= getattr(op, name) <= 1:
        raise bad_attribute(op, name, "from 0 to 1")


def check_rank(op: Operator, operand: TensorType, least: int, most: int) -> None:
    """Raise unless the first operand has from `least` to `most` axes."""
    if not least <= operand.rank <= most:
        raise OperatorError("rank-mismatch", f"`{op.name}` expects {least} to {most} axes, got {operand}", operand=0)


def check_channels(op: Operator, name: str, operand: TensorType) -> None:
    """Raise if the attribute is given and is not the size of the operand's axis 1."""
    wanted = getattr(op, name)
    # An operand of too few axes is the signature's to reject.
    if wanted is not None and operand.rank > 1 and operand.shape[1] != wanted:
        noun = "input channels" if name == "in_channels" else "channels"
        raise OperatorError(
            "shape-mismatch",
            f"`{op.name}` expects {wanted} {noun}, got {operand.shape[1]}",
            operand=0,
            attribute=name,
        )
