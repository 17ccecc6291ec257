"""Axes of signatures that an operator makes for the ranks of its operands."""

from __future__ import annotations

from archc.types.signature import Axis, Index


def plain_axis(name: str) -> Axis:
    """An axis with a single index."""
    return Axis(((Index(name),),))


def plain_axes(rank: int) -> list[Axis]:
    """Axes of a tensor of the given rank: d0, d1, …"""
    return [plain_axis(f"d{number}") for number in range(rank)]
