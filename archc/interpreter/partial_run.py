"""Execution of a graph in two parts, of which the second can run several times with changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from archc.interpreter.evaluate import bind_sizes, run_item, values_of
from archc.ir.graph import Graph, Value
from archc.ir.scans import schedule

if TYPE_CHECKING:
    import torch


class PartialRun:
    """A run of a graph up to one of its items, with the tensors that later items need.

    Args:
        kept: values that `tensor` is asked for, each with the last place at which it is.

    Attributes:
        place: number of items of the schedule that have run.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, torch.Tensor], kept: Mapping[Value, int] | None = None):
        self.place = 0
        self._graph = graph
        self._items = schedule(graph)
        last = {value: place for place, item in enumerate(self._items) for value in values_of(item)}
        last.update((value, max(last.get(value, 0), place)) for value, place in (kept or {}).items())
        self._expiring: dict[int, list[Value]] = {}
        for value, place in last.items():
            if not graph.is_output(value):
                self._expiring.setdefault(place, []).append(value)
        self._sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in inputs.items()})
        self._tensors: dict[Value, torch.Tensor] = {value: inputs[value.name or ""] for value in graph.inputs}

    def advance(self, place: int) -> None:
        """Run the items before a place; it must not be before the present one."""
        self._run(self._graph, self._tensors, range(self.place, place))
        self.place = place

    def tensor(self, value: Value) -> torch.Tensor:
        """A value that later items need, or that was to be kept up to this place."""
        return self._tensors[value]

    def finished(self, graph: Graph, changed: Mapping[Value, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The outputs if the other items run with the weights of another graph, which has the same nodes.

        Args:
            changed: other tensors for values of the first part.
        """
        tensors = self._tensors | dict(changed or {})
        self._run(graph, tensors, range(self.place, len(self._items)))
        return {name: tensors[value] for name, value in graph.outputs.items()}

    def _run(self, graph: Graph, tensors: dict[Value, torch.Tensor], places: range) -> None:
        import torch

        for place in places:
            with torch.no_grad():
                _exhaust(run_item(graph, self._items[place], tensors, self._sizes))
            for value in self._expiring.get(place, ()):
                tensors.pop(value, None)


def _exhaust(results: Iterator[object]) -> None:
    for _ in results:
        pass
