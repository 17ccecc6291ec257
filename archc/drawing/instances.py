"""Graph nodes, tensor types and stages that a node of a picture represents.

A definition is the model or a kind of block.  The instances of a definition are its uses in the model.  A node of a
picture represents a statement of a definition in one or more instances.  A statement that applies an operator has one
graph node in each instance.

Inside a loop, a node of a picture can represent several statements: one statement from each iteration.  A node has one
peer for each of these statements: the statement, and the instances that execute it.  For example, a loop has 2
iterations in instance 0, and 3 iterations in instance 1.  Both instances execute the statements of the first two
iterations, and instance 1 alone executes the statement of the third iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    CompoundStatement,
    Local,
    Loop,
    OperatorStep,
    Recurrence,
    Statement,
)
from archc.ir.graph import Graph, Node, Scope
from archc.ir.stages import Stages, has_stages
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


class Peer(NamedTuple):
    """A statement, and some of the instances of its definition."""

    statement: Statement
    instances: tuple[int, ...]


Peers = Sequence[Peer]


def iterations(peers: Peers) -> list[list[Peer]]:
    """For each statement of a loop's body, its peers in all iterations.

    A peer of iteration k has only the instances in which the loop has more than k iterations.
    """
    bodies = []
    for loop, instances in peers:
        assert isinstance(loop, Loop)
        for number, body in enumerate(loop.iterations):
            there = tuple(instance for instance in instances if loop.counts[instance] > number)
            if there:
                bodies.append([Peer(statement, there) for statement in body])
    return [list(row) for row in zip(*bodies, strict=True)]


def steps(peers: Peers) -> list[list[Peer]]:
    """For each statement in the step of a scan, its peers."""
    bodies = []
    for scan, instances in peers:
        assert isinstance(scan, Recurrence)
        bodies.append([Peer(statement, instances) for statement in scan.body])
    return [list(row) for row in zip(*bodies, strict=True)]


def nodes_of(peers: Peers) -> list[Node]:
    """The graph nodes of peers."""
    found = []
    for statement, instances in peers:
        assert isinstance(statement, OperatorStep)
        found += [statement.nodes[instance] for instance in instances]
    return found


def scopes_of(peers: Peers) -> list[Scope]:
    """The scopes of the blocks that peers use."""
    found = []
    for statement, instances in peers:
        assert isinstance(statement, BlockStep)
        found += [statement.definition.scopes[statement.instances[instance]] for instance in instances]
    return found


def used_instances(peers: Peers) -> tuple[int, ...]:
    """The indices of the block instances that peers use."""
    found = []
    for statement, instances in peers:
        assert isinstance(statement, BlockStep)
        found += [statement.instances[instance] for instance in instances]
    return tuple(dict.fromkeys(found))


def result_types(peers: Peers, number: int) -> list[TensorType]:
    """The types of result `number` of peers, one for each statement and instance."""
    return [_result_type(statement, number, instance) for statement, own in peers for instance in own]


def sizes_of(definition: BlockDefinition, peers: Peers) -> dict[str, tuple[Extent, ...]]:
    """The values of the named sizes of a definition, by name.

    Each size has one value for each statement and instance, in the same order as the types of `result_types`.
    """
    instances = [instance for _, own in peers for instance in own]
    return {name: tuple(values[instance] for instance in instances) for name, values in definition.sizes.items()}


def _result_type(statement: Statement, number: int, instance: int) -> TensorType:
    if isinstance(statement, OperatorStep):
        return statement.nodes[instance].results[number].type
    if isinstance(statement, Recurrence):
        return statement.exit.nodes[instance].results[number].type
    if isinstance(statement, BlockStep):
        inner = statement.definition
        return _type_of(inner.outputs[number], inner.body, statement.instances[instance])
    last = statement.counts[instance] - 1
    return _type_of(statement.yields[last][number], statement.iterations[last], instance)


def _type_of(local: Local, body: Sequence[Statement], instance: int) -> TensorType:
    """The type of a tensor in an instance.

    If no statement of the body computes the tensor, as for an input of the body, the result is an approximation: the
    type in the first instance, since an outline stores no other type of such a tensor.
    """
    for statement in _flat(body):
        if local in statement.results:
            return _result_type(statement, statement.results.index(local), instance)
    return local.type


def _flat(body: Sequence[Statement]) -> Iterator[Statement]:
    for statement in body:
        yield statement
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from _flat(inner)


class StageFinder:
    """The stages of a graph, by statement.

    Attributes:
        count: the number of stages.
        devices: for each stage, the name of its device in the source text.
    """

    def __init__(self, graph: Graph):
        self._spans: dict[Scope, tuple[int, int]] = {}
        self._stages = Stages(graph) if has_stages(graph) else None
        self.count = self._stages.count if self._stages is not None else 1
        self.devices = self._stages.devices if self._stages is not None else ()
        if self._stages is not None:
            for node, stage in self._stages.of_node.items():
                for scope in node.scope.ancestors():
                    first, last = self._spans.get(scope, (stage, stage))
                    self._spans[scope] = min(first, stage), max(last, stage)

    def of(self, peers: Peers) -> tuple[int, int]:
        """The first and the last stage of peers."""
        if self._stages is None:
            return 0, 0
        spans = [span for statement, own in peers for instance in own for span in self._of(statement, instance)]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (0, 0)

    def _of(self, statement: Statement, instance: int) -> list[tuple[int, int]]:
        assert self._stages is not None
        if isinstance(statement, OperatorStep):
            stage = self._stages.of_node[statement.nodes[instance]]
            return [(stage, stage)]
        if isinstance(statement, BlockStep):
            return [self._spans[statement.definition.scopes[statement.instances[instance]]]]
        assert isinstance(statement, CompoundStatement)
        return [span for body in statement.bodies for inner in body for span in self._of(inner, instance)]
