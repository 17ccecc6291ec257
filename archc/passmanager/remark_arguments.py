"""Checks of the arguments with which a pass adds a remark, such as `context.left(node, reason)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.ir.attempts import NoMatch
from archc.ir.graph import Value


def check_remark(layer: Any, message: Any, figures: Mapping[str, Any]) -> None:
    """Check the layer, the message and the figures of a remark.

    Raises:
        TypeError: an argument is of a wrong type; the message names the correction.
    """
    if not isinstance(layer, str):
        way = "`value.producer`, the node that computes it" if isinstance(layer, Value) else "the node itself"
        raise TypeError(f"the layer of a remark must be a node or a path, got {_shown(layer)}; give {way}")
    if not isinstance(message, str):
        way = "`found.reason`" if isinstance(message, NoMatch) else 'a text, such as f"{node.title} has no weight"'
        raise TypeError(f"the message of a remark must be a text, got {_shown(message)}; give {way}")
    for name, figure in figures.items():
        if not isinstance(figure, (int, float, str)):
            raise TypeError(
                f"the figure `{name}` of a remark must be a number or a text, got {_shown(figure)}; convert it:"
                f" `{name}=float(...)`"
            )


def _shown(value: Any) -> str:
    return "None" if value is None else f"a `{type(value).__name__}`"
