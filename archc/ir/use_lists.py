"""Use lists: for each value, the nodes that use it, in O(1).

A graph keeps its use lists up to date while nodes are added, changed and removed.  Both kinds of graphs have them: the
graph of a network (`archc.ir.graph`), and the ONNX graph under construction (`archc.codegen.onnx`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class UseLists(Generic[N, V]):
    """Nodes that use each value, in the order in which the uses were added, and the outputs."""

    def __init__(self) -> None:
        self._counts: dict[V, dict[N, int]] = {}
        self._outputs: dict[V, int] = {}

    def connect(self, node: N, operands: Iterable[V]) -> None:
        """Add the uses of a node's operands; a value that is two operands has two uses."""
        for value in operands:
            users = self._counts.get(value)
            if users is None:
                self._counts[value] = {node: 1}
            else:
                users[node] = users.get(node, 0) + 1

    def disconnect(self, node: N, operands: Iterable[V]) -> None:
        """Remove all uses of a node's operands."""
        for value in operands:
            users = self._counts.get(value, {})
            users.pop(node, None)
            if not users:
                self._counts.pop(value, None)

    def add_output(self, value: V) -> None:
        """Record that a value is an output; a value can be several outputs."""
        self._outputs[value] = self._outputs.get(value, 0) + 1

    def remove_output(self, value: V) -> None:
        """Remove one output of a value.

        Raises:
            KeyError: the value is no output.
        """
        self._outputs[value] -= 1
        if not self._outputs[value]:
            del self._outputs[value]

    def consumers(self, value: V) -> list[N]:
        """Return the nodes that use a value; a node that uses it twice is in the list once."""
        return list(self._counts.get(value, ()))

    def is_output(self, value: V) -> bool:
        """Return True if a value is an output."""
        return value in self._outputs

    def only_consumer(self, value: V) -> N | None:
        """Return the node that has the only use of a value; None if there is no use, or more than one."""
        users = self._counts.get(value, {})
        if len(users) != 1 or value in self._outputs:
            return None
        ((node, count),) = users.items()
        return node if count == 1 else None
