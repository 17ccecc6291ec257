"""Weights that cannot change, because other nodes use them or their storage is not elementwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archc.ir.graph import Graph, Node


def owners_of_weights(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """The nodes that use each weight, by path."""
    owners: dict[str, list[Node]] = {}
    for node in nodes:
        for path in node.weights.values():
            owners.setdefault(path, []).append(node)
    return owners


def weights_obstacle(graph: Graph, layer: Node, owners: Mapping[str, list[Node]]) -> str | None:
    """Reason why the weights of a layer cannot change, or None."""
    if layer.transposed:
        return f"`{layer.title}` uses the transposed weight of another layer"
    for path in layer.weights.values():
        users = owners.get(path, ())  # a bias that `fold` has added is not in `owners`
        if len(users) > 1:
            other = next((node.title for node in users if node is not layer and node.title != layer.title), None)
            return f"`{layer.title}` is used more than once" if other is None else f"`{other}` shares `{path}`"
        if not graph.weights[path].storage.elementwise:
            return f"`{path}` is stored as {graph.weights[path].storage}"
    return None
