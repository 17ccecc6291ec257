"""Axes of signatures, and checks of attributes that are axis numbers."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import Operator, OperatorError
from archc.types.signature import Axis, Index


def plain_axis(name: str) -> Axis:
    """An axis with a single index."""
    return Axis(((Index(name),),))


def plain_axes(rank: int) -> list[Axis]:
    """Axes of a tensor of the given rank: d0, d1, …"""
    return [plain_axis(f"d{number}") for number in range(rank)]


def axis_number(op: Operator, dim: int, rank: int, attribute: str = "dim") -> int:
    """Number of an axis, counted from 0, for a `dim` that may count from the end (-1 is the last axis).

    Raises:
        OperatorError: the axis does not exist.
    """
    if not -rank <= dim < rank:
        wrong = f"an axis from {-rank} to {rank - 1}, got axis {dim}" if rank else "a tensor with axes, got a scalar"
        raise OperatorError("bad-attribute", f"`{op.name}` expects {wrong}", attribute=attribute)
    return dim % rank


def axis_numbers(op: Operator, dims: Sequence[int], rank: int, attribute: str = "dim") -> tuple[int, ...]:
    """Numbers of several axes, counted from 0, in the order of `dims`; see `axis_number`.

    Raises:
        OperatorError: an axis does not exist, or is given twice.
    """
    numbers = tuple(axis_number(op, dim, rank, attribute) for dim in dims)
    for position, number in enumerate(numbers):
        if number in numbers[:position]:
            raise OperatorError(
                "bad-attribute", f"`{op.name}` expects different axes, got axis {number} twice", attribute=attribute
            )
    return numbers
