"""Values between integer layers that need quantization."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from archc.declaration.traits import CLIPS, COMMUTES_WITH_ROUNDING, INTEGER_KERNEL, Quantizable
from archc.ir.graph import Graph, Node, Value
from archc.ir.match import NoMatch, chain_after, match, match_value, one_of, pattern, result_of

CLIPPING = pattern(where=lambda node: node.op.has(CLIPS) and len(node.operands) == 1)
MOVING = pattern(where=lambda node: node.op.has(COMMUTES_WITH_ROUNDING) and len(node.operands) == 1)
PASSING_ON = one_of(CLIPPING, MOVING)
"""Operators that may be between two integer layers: they clip or move elements."""


def results_to_quantize(graph: Graph, integer: Iterable[Node]) -> dict[Value, Node]:
    """Results that must be quantized for all uses, because their kernels return integers.

    A result is excluded if it reaches the next integer layer through clipping or data movement alone.  In this case the
    operand of the next layer is quantized instead.  Otherwise the clipped result is quantized, since kernels clip while
    they requantize.

    Each result has the node next to which its quantizer belongs.  An emitted PyTorch layer computes on integers only if
    the quantizer of its operand is in the same block.  So the node is a layer that uses the result, if all uses are in
    another scope together with this layer, and the node of the kernel otherwise.

    Args:
        integer: the nodes that compute with statically quantized operands.
    """
    nodes = dict.fromkeys(integer)
    found: dict[Value, Node] = {}
    for node in nodes:
        if returns_integers(node):
            value = quantized_result(graph, node, nodes)
            if not _is_operand_of_all(graph, value, nodes):
                found[value] = _layer_in_another_scope(graph, node, value, nodes) or node
            elif _is_moved_to_another_scope(graph, node, value):
                found[_clipped(graph, node)] = node
    for value in list(found):
        found |= _moved_results(graph, value, nodes)
    return found


def _moved_results(graph: Graph, value: Value, integer: Collection[Node]) -> dict[Value, Node]:
    """Moved forms of a quantized value, for example pooled ones, that need a quantizer for all uses.

    An integer layer uses such a result, possibly after further movements, and other nodes use it as well.  A runtime
    moves integers only if all uses quantize the moved value.
    """
    found: dict[Value, Node] = {}
    waiting = [value]
    while waiting:
        for node in graph.consumers(waiting.pop()):
            if isinstance(match(MOVING, node, graph), NoMatch) or not reaches(graph, node.result, integer):
                continue
            waiting.append(node.result)
            if len(graph.consumers(node.result)) > 1 and not _is_operand_of_all(graph, node.result, integer):
                found[node.result] = _layer_in_another_scope(graph, node, node.result, integer) or node
    return found


def reaches(graph: Graph, value: Value, wanted: Collection[Node]) -> bool:
    """Return whether one of the nodes uses a value, possibly after clipping and data movement."""
    waiting = [value]
    while waiting:
        for user in graph.consumers(waiting.pop()):
            if user in wanted:
                return True
            if passes_on(graph, user):
                waiting.append(user.result)
    return False


def passes_on(graph: Graph, node: Node) -> bool:
    """Return whether a node only clips or moves elements, so that it may be between two integer layers."""
    return not isinstance(match(PASSING_ON, node, graph), NoMatch)


def quantized_result(graph: Graph, node: Node, integer: Collection[Node]) -> Value:
    """The result of a node, clipped or moved, at which the kernel rounds to integers."""
    passed_on = [node.result, *(after.result for after in chain_after(node.result, PASSING_ON, graph))]
    operands = (value for value in passed_on if _is_operand_of_all(graph, value, integer))
    return next(operands, _clipped(graph, node))


def quantized_operands(node: Node) -> tuple[Value, ...]:
    """The operands that a kernel takes as integers: the first of a layer, all of another operator."""
    return node.operands if node.op.has(INTEGER_KERNEL) else node.operands[:1]


def returns_integers(node: Node) -> bool:
    """Return whether the integer kernels of a node return integers."""
    return node.op.has(INTEGER_KERNEL) or (node.op.trait(Quantizable) or Quantizable()).integer_result


def integer_producer(graph: Graph, node: Node, integer: Collection[Node]) -> Node | None:
    """Integer layer whose result reaches a node through clipping or data movement alone, or None.

    If such a layer exists, quantizing the operand of the node has no extra cost: the kernel of the integer layer
    quantizes its own result.
    """
    return _producer(graph, node.operands[0], integer)


def connected(graph: Graph, integer: Collection[Node]) -> list[set[Node]]:
    """Groups of integer layers and operators that pass integers on to one another."""
    import networkx as nx

    links = nx.Graph()
    links.add_nodes_from(integer)
    for node in integer:
        before = (_producer(graph, value, integer) for value in quantized_operands(node))
        links.add_edges_from((producer, node) for producer in before if producer is not None)
    return [*nx.connected_components(links)]


def _producer(graph: Graph, value: Value, integer: Collection[Node]) -> Node | None:
    """The integer node whose result, possibly clipped and moved, is a value."""
    layer = pattern(where=lambda before: before in integer, bind="layer")
    found = match_value(result_of(layer, through=PASSING_ON), value, graph)
    return None if isinstance(found, NoMatch) else found["layer"]


def _clipped(graph: Graph, node: Node) -> Value:
    """The result of a node after the clipping that follows it."""
    return next(chain_after(node.result, CLIPPING, graph), node).result


def _is_operand_of_all(graph: Graph, value: Value, nodes: Collection[Node]) -> bool:
    users = graph.consumers(value)
    if not users or graph.is_output(value):
        return False
    return all(user in nodes and value in quantized_operands(user) for user in users)


def _layer_in_another_scope(graph: Graph, node: Node, value: Value, integer: Collection[Node]) -> Node | None:
    """An integer layer that uses a result, if all uses are in one scope, which is not that of the result."""
    users = graph.consumers(value)
    if graph.is_output(value) or len({node.scope, *(user.scope for user in users)}) != 2:
        return None
    if any(user.scope is node.scope for user in users):
        return None
    return next(
        (user for user in users if user in integer and user.weights and value in quantized_operands(user)), None
    )


def _is_moved_to_another_scope(graph: Graph, node: Node, operand: Value) -> bool:
    """Return whether a result is moved, for example pooled, and then used in other scopes.

    The quantizer of the moved operand is in the other scope.  PyTorch would move floats without another quantizer
    before the movement.
    """
    if operand in (node.result, _clipped(graph, node)):
        return False
    return all(user.scope is not node.scope for user in graph.consumers(operand))
