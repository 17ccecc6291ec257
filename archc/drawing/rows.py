"""What is written in the boxes of operators, and which of them are boxes at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archc.drawing.scene import Row
from archc.drawing.wording import bracketed, cut, operator_text
from archc.ir.graph import Node
from archc.operator.base import formula_of
from archc.types.storage import Dense, Weight

if TYPE_CHECKING:
    from archc.codegen.outline.program import Loop


def is_symbol(node: Node) -> bool:
    """Whether an operator is drawn as a sign in a circle: a formula of two tensors."""
    return node.name is None and formula_of(node.op) == "binary" and len(node.operands) == 2


def layer_row(nodes: Sequence[Node], label: str, weights: Mapping[str, Weight]) -> Row:
    """The row of an operator."""
    stored = {weights[path].storage for node in nodes for path in node.weights.values()}
    names = sorted({storage.name for storage in stored if not isinstance(storage, Dense)})
    return Row(
        operator_text(nodes),
        cut(label, 28),
        nodes[0].op.family,
        light=_is_light(nodes[0], weights),
        storage=", ".join(names),
    )


def _is_light(node: Node, weights: Mapping[str, Weight]) -> bool:
    """Whether an operator takes what comes from one other, and mixes it with no matrix of its own."""
    producers = {value.producer for value in node.operands}
    return len(producers) == 1 and all(len(weights[path].shape) < 2 for path in node.weights.values())


def member_label(name: str, loops: Sequence[tuple[Loop, str]]) -> str:
    """A layer's name as the text has it, with the letters of the loops that it is in."""
    for loop, letter in reversed(loops):
        for one in loop.lists:
            first = f"{one}.{loop.first}"
            if name == first or name.startswith(f"{first}."):
                name = f"{one}.[{letter}]{name[len(first) :]}"
    return bracketed(name)
