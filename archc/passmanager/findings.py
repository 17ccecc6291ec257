"""Results of measurements on the calibration data, kept for later passes on equal graphs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeVar

from archc.ir.graph import Graph, Node
from archc.weights.tensor import LazyTensor

Result = TypeVar("Result")

MOST_GRAPHS = 3
"""Number of graphs whose results are kept; those of the first graph always stay.

A search of pipelines begins with the same graph again and again, and continues from a few others.
"""


class Findings:
    """Measurements that depend only on a graph, its weights and the calibration data.

    Two graphs are equal if they have the same nodes in the same order and share the stored tensors, which never change.

    Args:
        keep: False to keep nothing, so that every measurement is made when it is asked for.
    """

    def __init__(self, keep: bool = True):
        self._keep = keep
        self._first: Hashable = None
        self._graphs: dict[Hashable, _OfGraph] = {}

    def of(self, graph: Graph, question: Hashable, measure: Callable[[], Result]) -> Result:
        """The result of a measurement of a graph, which is made if no equal graph was asked this question.

        Args:
            question: identifies the measurement and its settings, without the graph.
            measure: makes the measurement; its result is not changed afterwards, and has no nodes of the graph.
        """
        if not self._keep:
            return measure()
        answers = self._of_graph(graph).answers
        if question not in answers:
            answers[question] = measure()
        found: Result = answers[question]
        return found

    def of_nodes(
        self, graph: Graph, question: Hashable, nodes: Collection[Node], measure: Callable[[], Mapping[Node, Result]]
    ) -> dict[Node, Result]:
        """The results of a measurement of nodes of a graph.

        Args:
            nodes: the nodes to measure; with `question`, they identify the measurement.
            measure: returns a result for some of the nodes.
        """
        if not self._keep:
            return dict(measure())
        order = [*graph.nodes()]
        places = {node: place for place, node in enumerate(order)}
        whole = (question, tuple(places[node] for node in nodes))
        found = self.of(graph, whole, lambda: {places[node]: each for node, each in measure().items()})
        return {order[place]: each for place, each in found.items()}

    def _of_graph(self, graph: Graph) -> _OfGraph:
        tensors = dict(graph.tensors or {})
        titles = tuple(node.title for node in graph.nodes())
        key = (graph.canonical(), titles, tuple((name, id(tensor)) for name, tensor in tensors.items()))
        found = self._graphs.pop(key, None) or _OfGraph(tensors)
        self._first = self._first or key
        if len(self._graphs) >= MOST_GRAPHS:
            del self._graphs[next(each for each in self._graphs if each != self._first)]
        self._graphs[key] = found
        return found


class _OfGraph:
    """Results for one graph, whose tensors live as long, so that their identities stay unique."""

    def __init__(self, tensors: Mapping[str, LazyTensor]):
        self.answers: dict[Hashable, Any] = {}
        self.tensors = tensors
