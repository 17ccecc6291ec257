"""Axes by number: what operators with a `dim` share."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import Operator, OperatorError
from archc.types.signature import Axis, Index


def plain_axis(name: str) -> Axis:
    """The axis that is one index."""
    return Axis(((Index(name),),))


def plain_axes(rank: int) -> list[Axis]:
    """An axis for each of `rank` dimensions: d0, d1, …"""
    return [plain_axis(f"d{number}") for number in range(rank)]


def axis_number(op: Operator, dim: int, rank: int, attribute: str = "dim") -> int:
    """An axis counted from 0, where negative ones count from the end.

    Raises:
        OperatorError: there is no such axis.
    """
    if not -rank <= dim < rank:
        exist = f"from {-rank} to {rank - 1}" if rank else "of a tensor without axes"
        raise OperatorError(
            "bad-attribute",
            f"`{op.name}` is asked for axis {dim}, and there are only those {exist}",
            attribute=attribute,
        )
    return dim % rank


def axis_numbers(op: Operator, dims: Sequence[int], rank: int, attribute: str = "dim") -> tuple[int, ...]:
    """Several axes counted from 0, in the order given.

    Raises:
        OperatorError: one does not exist, or stands twice.
    """
    numbers = tuple(axis_number(op, dim, rank, attribute) for dim in dims)
    for position, number in enumerate(numbers):
        if number in numbers[:position]:
            raise OperatorError("bad-attribute", f"`{op.name}` is given axis {number} twice", attribute=attribute)
    return numbers
