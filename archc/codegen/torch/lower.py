"""Layers that no `torch.nn` module stands for get classes of their own.

Such a layer has parameters, and either PyTorch has no module for its operator, or a weight of it is another layer's,
or is stored encoded.  It becomes the use of a small definition whose only statement is the operator; from there on
it is a block like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from archc.codegen.outline.program import Apply, Definition, Local, Loop, Member, Program, Recurrence, Statement, Use
from archc.codegen.torch.spell import owns
from archc.ir.graph import Graph, Node, Scope
from archc.types.attributes import attributes
from archc.types.storage import Dense

HasModule = Callable[[Apply], bool]
"""Whether modules stand for the nodes of a statement."""


@dataclass
class Lowered:
    """A program whose layers with parameters are all modules.

    Attributes:
        own: for each definition made here, the names of the parameters that it holds itself.
    """

    program: Program
    own: dict[Definition, tuple[str, ...]] = field(default_factory=dict)


def lower(program: Program, graph: Graph, has_module: HasModule) -> Lowered:
    """Let definitions stand for the layers with parameters that have no module; changes the program in place."""
    lowering = _Lowering(graph, has_module)
    bodies = [(definition, lowering.body(definition.body)) for definition in program.definitions]
    for definition, body in bodies:
        definition.body = body
    made = [lowering.finish(definition) for definition in lowering.definitions.values()]
    return Lowered(Program([*made, *program.definitions], program.whole), lowering.own)


class _Lowering:
    def __init__(self, graph: Graph, has_module: HasModule):
        self.graph, self.has_module = graph, has_module
        self.definitions: dict[Hashable, Definition] = {}
        self.nodes: dict[Definition, list[Node]] = defaultdict(list)
        self.own: dict[Definition, tuple[str, ...]] = {}

    def body(self, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        return tuple(self._statement(statement) for statement in statements)

    def _statement(self, statement: Statement) -> Statement:
        if isinstance(statement, (Loop, Recurrence)):
            statement.bodies = tuple(self.body(body) for body in statement.bodies)
            return statement
        if isinstance(statement, Use) or not any(
            owns(node, parameter) for node in statement.nodes for parameter in node.weights
        ):
            return statement
        if self.has_module(statement):
            return statement
        definition = self._definition(statement.nodes[0])
        first = len(self.nodes[definition])
        self.nodes[definition] += statement.nodes
        member = statement.member
        assert isinstance(member, Member), "what owns parameters has a name"
        instances = tuple(range(first, first + len(statement.nodes)))
        return Use(definition, instances, member, statement.operands, statement.results)

    def _definition(self, node: Node) -> Definition:
        storages = tuple(self.graph.weights[path].storage for path in node.weights.values())
        own = tuple(parameter for parameter in node.weights if owns(node, parameter))
        types = tuple((value.type.dtype, value.type.rank) for value in node.operands)
        key = (type(node.op), own, storages, types, len(node.results), tuple(node.weights), node.transposed)
        if key not in self.definitions:
            name = "".join(word[:1].upper() + word[1:] for word in node.op.name.split("_"))
            encoded = next((storage.name for storage in storages if not isinstance(storage, Dense)), "")
            kind = (
                f"{''.join(map(str.capitalize, encoded.split('_')))}Weight"
                if encoded
                else ""
                if len(own) == len(node.weights)
                else "Tied"
            )
            self.definitions[key] = Definition(f"{kind}{name}", ())
            self.own[self.definitions[key]] = own
        return self.definitions[key]

    def finish(self, definition: Definition) -> Definition:
        """Give a definition what only follows from all its nodes."""
        nodes = self.nodes[definition]
        first = nodes[0]
        inputs = tuple(Local(value.type, name) for value, name in zip(first.operands, _operand_names(first)))
        outputs = tuple(Local(value.type) for value in first.results)
        definition.scopes = tuple(_scope(node) for node in nodes)
        definition.doc = (type(first.op).__doc__ or "").partition("\n")[0]
        definition.inputs, definition.outputs = inputs, outputs
        definition.output_names = (None,) * len(outputs)
        definition.body = (Apply(tuple(nodes), inputs, outputs),)
        return definition


def _scope(node: Node) -> Scope:
    """A scope for one layer, whose attributes are those of its operator."""
    arguments = {info.name: getattr(node.op, info.name) for info in attributes(type(node.op))}
    return Scope(node.path or "", node.op.name, node.scope, arguments)


def _operand_names(node: Node) -> Iterator[str]:
    patterns = node.op.signature_for(node.types).operands
    return (pattern.name for pattern in patterns if pattern.name not in node.op.parameters)
