"""Lockstep evaluation of a model and its compressed copy, for sequential calibration.

The nodes run in the order of the data flow, each on all batches before the next.  When a layer is reached, its operand
is known in both models: in the original one, and in the one whose earlier layers are compressed already.  So a layer
can be compressed on the inputs that it will get, with the results of the original model as targets.
(Frantar et al. 2022, "GPTQ", section 3; Frantar and Alistarh 2022, "Optimal Brain Compression", section 4.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.interpreter.evaluate import bind_sizes, run_item, values_of
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, schedule
from archc.weights.tensor import Weights

if TYPE_CHECKING:
    import torch

    Tensors = list[dict[Value, torch.Tensor]]


class Lockstep:
    """The values of a graph and of its original, for all batches, at the node that is reached.

    The graph is changed while it is evaluated, but only its weights: the nodes, their operands and the shapes of the
    weights stay.

    Args:
        batches: inputs by name.
        rounding: nodes that the original model does not have, such as the quantizers of operands.  There, their first
            result is their first operand.

    Attributes:
        samples: number of samples in each batch.
    """

    def __init__(
        self,
        graph: Graph,
        batches: Sequence[Mapping[str, torch.Tensor]],
        rounding: Collection[Node] = (),
    ):
        self.samples = [max((len(tensor) for tensor in batch.values() if tensor.ndim), default=1) for batch in batches]
        self._graph = graph
        self._rounding = frozenset(rounding)
        self._original = _with_weights_of(graph)
        self._sizes = [
            bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batch.items()}) for batch in batches
        ]
        self._floats: Tensors = [{value: batch[value.name or ""] for value in graph.inputs} for batch in batches]
        self._compressed: Tensors = [dict(tensors) for tensors in self._floats]
        self._changed: set[str] = set()

    def nodes(self) -> Iterator[Node]:
        """Yield each node outside scans, when its operands are known and before its result is computed.

        The consumer may change the node's weights in the graph, and calls `changed` with their paths.
        """
        import torch

        items = schedule(self._graph)
        last = {value: item for item in items for value in item.operands}
        for item in items:
            if isinstance(item, Node):
                yield item
            with torch.no_grad():  # left before each `yield`, so that two evaluations can run in turns
                self._run(item)
            for value in values_of(item):
                if last.get(value, item) is item:
                    for tensors in (*self._floats, *self._compressed):
                        tensors.pop(value, None)

    def changed(self, *paths: str) -> None:
        """Note that weights of the graph were changed."""
        self._changed.update(paths)

    def operands(self, node: Node) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the first operand of a node for each batch, in the original and in the compressed model."""
        for floats, compressed in zip(self._floats, self._compressed):
            yield floats[node.operands[0]], compressed[node.operands[0]]

    def results(self, node: Node) -> Iterator[torch.Tensor]:
        """Yield the first result of a node in the original model for each batch."""
        import torch

        for floats, sizes in zip(self._floats, self._sizes):
            tensors = {value: floats[value] for value in node.operands}
            with torch.no_grad():
                result = next(iter(run_item(self._original, node, tensors, sizes)))[1]
            yield result

    def error(self, value: Value) -> Iterator[torch.Tensor | None]:
        """Yield original minus compressed value for each batch; None if they are equal or not known yet."""
        for floats, compressed in zip(self._floats, self._compressed):
            known = value in floats and floats[value] is not compressed[value]
            yield floats[value] - compressed[value] if known else None

    def _run(self, item: Node | Scan) -> None:
        nodes = list(item.nodes) if isinstance(item, Scan) else [item]
        rounds = isinstance(item, Node) and item in self._rounding
        differ = rounds or any(path in self._changed for node in nodes for path in node.weights.values())
        for floats, compressed, sizes in zip(self._floats, self._compressed, self._sizes):
            if rounds:
                floats[nodes[0].results[0]] = floats[nodes[0].operands[0]]
            else:
                for _ in run_item(self._original, item, floats, sizes):
                    pass
            if differ or any(floats[value] is not compressed[value] for value in item.operands):
                for _ in run_item(self._graph, item, compressed, sizes):
                    pass
            else:
                compressed.update({value: floats[value] for node in nodes for value in node.results if value in floats})


def _with_weights_of(graph: Graph) -> Graph:
    """A graph with the current weights, for `run_item`, that later changes of the weights do not affect."""
    frozen = Graph(graph.name)
    frozen.weights.update(graph.weights)
    frozen.tensors = Weights(graph.tensors or {})
    return frozen
