"""The table of `archc show --passes`: layer widths before and after the passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archc.cli import output
from archc.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from archc.ir.graph import Graph, Node


@frozen_dataclass
class Width:
    """Channels of a layer's result; `before` or `after` is None if the layer does not exist then."""

    layer: str
    before: int | None
    after: int | None

    def to_json(self) -> dict[str, Any]:
        """JSON object for `--json`."""
        return {"layer": self.layer, "before": self.before, "after": self.after}


def compare(before: Graph, after: Graph) -> list[Width]:
    """Widths of the layers of both graphs, in the order of the graph `before`.

    If a layer exists only in the graph `after`, it is inserted directly above its successor in `after`.
    """
    was, now = _widths(before), _widths(after)
    order = list(was)
    following = len(order)
    for layer in reversed(now):
        if layer not in was:
            order.insert(following, layer)
        following = order.index(layer)
    return [Width(layer, was.get(layer), now.get(layer)) for layer in order]


def text(widths: list[Width]) -> str:
    """A table of the layers, or one line if no width changed."""
    if not any(width.before != width.after for width in widths):
        return "all layers are as wide as before"
    cells = [[width.layer, _number(width.before), _number(width.after)] for width in widths]
    columns: list[tuple[str, output.Align]] = [("layer", "left"), ("width before", "right"), ("after", "right")]
    return output.table(columns, cells, [])


def _number(width: int | None) -> str:
    return "" if width is None else f"{width:,}"


def _widths(graph: Graph) -> dict[str, int]:
    found = {layer: _width(graph, node) for layer, node in graph.layers().items()}
    return {layer: width for layer, width in found.items() if width is not None}


def _width(graph: Graph, node: Node) -> int | None:
    """The number of channels or features of a layer's result, or None.

    It is the size of a result axis that shares an index with a trainable weight in the operator's signature, such as
    the axis `o` in `x[*s, i], weight[o, i] -> y[*s, o]`.  If several result axes share an index with a weight, the
    width is the size of the last one.  Axes of symbolic size are skipped.
    """
    from archc.types.signature import Index

    signature = node.op.infer(node.types).solution.signature
    trained = [name for name, path in node.weights.items() if graph.weights[path].trainable]
    given = {
        factor.name
        for pattern in signature.operands
        if pattern.name in trained
        for axis in pattern.axes
        for factor in axis.factors
        if isinstance(factor, Index)
    }
    for axis, size in reversed(list(zip(signature.results[0].axes, node.results[0].type.shape))):
        if isinstance(size, int) and any(isinstance(f, Index) and f.name in given for f in axis.factors):
            return size
    return None
