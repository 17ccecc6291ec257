"""When two graphs are the same network: a form of a graph that leaves out what the network does not depend on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archc.ir.graph import Graph, Node, Value


def canonical_form(graph: Graph) -> tuple[Any, ...]:
    """A form of a graph that equals another's where both are the same network.

    It holds what feeds the outputs: operators, layers' paths, types and weights, operands by number.  It leaves out
    the order of unrelated nodes, the names of intermediate values, spans, and the weights' values.
    """
    numbers: dict[Value, int] = {value: -1 - position for position, value in enumerate(graph.inputs)}
    rows = []
    used: set[str] = set()
    for node in _upstream_first(graph):
        operands = tuple(numbers[value] for value in node.operands)
        for value in node.results:
            numbers[value] = len(numbers)
        used.update(node.weights.values())
        types = tuple(value.type for value in node.results)
        rows.append((node.op, operands, node.bindings, node.path, types))
    weights = sorted((weight for path, weight in graph.weights.items() if path in used), key=lambda weight: weight.path)
    return (
        graph.name,
        tuple((value.name, value.type) for value in graph.inputs),
        tuple(rows),
        tuple((name, numbers[value]) for name, value in graph.outputs.items()),
        tuple((weight.path, weight.shape, weight.dtype, weight.storage, weight.trainable) for weight in weights),
    )


def _upstream_first(graph: Graph) -> Iterator[Node]:
    """The nodes that feed the outputs, each after its operands, in an order that depends on the data flow alone."""
    stack = [value.producer for value in reversed(graph.outputs.values()) if value.producer is not None]
    done: set[Node] = set()
    while stack:
        node = stack[-1]
        waiting = [v.producer for v in node.operands if v.producer is not None and v.producer not in done]
        if node not in done and waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if node not in done:
            done.add(node)
            yield node
