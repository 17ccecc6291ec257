"""Build the outline of a flat graph.

Nodes are grouped by block use (`folding`).  Uses of equal structure become instances of one definition (`alignment`,
`repetition`).  Definitions get names (`definition_names`).  Repeated statements become loops (`loops`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from archc.codegen.outline.alignment import OperatorKey, UseGroup, UseStructure, align, iteration_key, text_key
from archc.codegen.outline.definition_names import AxisNames, name_axes, name_groups
from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Member,
    Occurrence,
    OperatorStep,
    Outline,
    count_uses,
)
from archc.codegen.outline.loops import find_loops, find_scans
from archc.ir.graph import Graph, Node, Order, Value


def outline(
    graph: Graph,
    *,
    key: OperatorKey = text_key,
    self_contained: bool = False,
    mixed_loops: bool = True,
    order: Mapping[Node, Order] | None = None,
) -> Outline:
    """The outline of a graph.

    Args:
        key: returns a key of a node; two nodes with different keys do not share a statement.  A backend's key omits the
            values that may differ between the instances of a definition.
        self_contained: if True, a block that shares a weight with a layer outside gets no definition.  The definition
            around the block contains the statements of the block.
        mixed_loops: if True, a loop may contain uses of one block that have different definitions.  For example, a pass
            changes only the first of 12 uses of `Layer`, so that `Layer` gets two definitions.
        order: the preferred execution order of nodes; `Node.order` by default.
    """
    groups = align(graph, order or {}, key, self_contained)
    names = name_groups(groups)
    definitions: dict[UseGroup, BlockDefinition] = {}
    numbers: dict[str, int] = {}
    occurrences: dict[UseStructure, Occurrence] = {}
    for group in groups:
        definitions[group] = _Builder(group, names[group], definitions, numbers, graph, mixed_loops).definition()
        numbers.update((path, number) for number, path in enumerate(group.instances))
        for structure in group.uses:
            items = (item if isinstance(item, Node) else occurrences[item] for item in structure.items)
            occurrences[structure] = Occurrence(definitions[group], tuple(items))
    return Outline(list(definitions.values()), occurrences[groups[-1].uses[0]])


class _Builder:
    """Builds one definition; the inner definitions exist already."""

    def __init__(
        self,
        group: UseGroup,
        name: str,
        definitions: dict[UseGroup, BlockDefinition],
        numbers: dict[str, int],
        graph: Graph,
        mixed_loops: bool,
    ):
        self.mixed_loops = mixed_loops
        self.group, self.name, self.definitions, self.numbers, self.graph = group, name, definitions, numbers, graph
        self.structures = list(group.instances.values())
        self.members: dict[str, Member] = {}
        self.locals: dict[Value, Local] = {}

    def definition(self) -> BlockDefinition:
        """The definition of the group."""
        first = self.structures[0]
        is_model = first.scope is self.graph.scope
        inputs = self.graph.inputs if is_model else first.inputs
        naming = AxisNames((None,) * len(inputs)) if is_model else name_axes(self.group)
        # A use with one tensor for two inputs has a name for only one of the inputs, so its names are not compared.
        telling = [structure for structure in self.structures if len(set(structure.inputs)) == len(structure.inputs)]
        for number, value in enumerate(inputs):
            name = value.name if is_model else first.scope.names.get(value)
            same = is_model or all(structure.scope.names.get(structure.inputs[number]) == name for structure in telling)
            self.locals[value] = Local(value.type, name if same else None, axes=naming.inputs[number])
        body = [
            self._statement(tuple(structure.items[row] for structure in self.structures))
            for row in range(len(first.items))
        ]
        outputs = list(self.graph.outputs.values()) if is_model else first.outputs
        definition = BlockDefinition(
            self.name,
            tuple(structure.scope for structure in self.structures),
            first.scope.doc,
            inputs=tuple(self.locals[value] for value in inputs),
            outputs=tuple(self.locals[value] for value in outputs),
            sizes=naming.sizes,
            output_names=tuple(self.graph.outputs) if is_model else (None,) * len(outputs),
            rows=tuple(body),
            ties=self.group.ties,
        )
        lengths = [structure.lengths for structure in self.structures]
        find_loops(definition, body, [self._kind(row) for row in range(len(body))], lengths)
        definition.body = find_scans(definition.body, definition.outputs)
        count_uses(definition)
        return definition

    def _statement(self, items: tuple[Node | UseStructure, ...]) -> OperatorStep | BlockStep:
        first = items[0]
        if isinstance(first, Node):
            operands = tuple(self.locals[value] for value in first.operands)
            member = None if first.path is None else self._member(first.path)
            names = [value.name for value in first.results]
            nodes = tuple(item for item in items if isinstance(item, Node))
            return OperatorStep(nodes, operands, self._results(first.results, names), member)
        operands = tuple(self.locals[value] for value in first.inputs)
        instances = tuple(self.numbers[item.scope.path] for item in items if isinstance(item, UseStructure))
        member = self._member(first.scope.path)
        names = [self.structures[0].scope.names.get(value) for value in first.outputs]
        return BlockStep(
            self.definitions[first.group], instances, member, operands, self._results(first.outputs, names)
        )

    def _kind(self, row: int) -> Hashable:
        """The key of a statement; equal keys allow a loop over the statements."""
        item = self.structures[0].items[row]
        if isinstance(item, Node):
            return self.structures[0].rows[row][1], iteration_key(item)
        # Passes may give the uses of one block several definitions.  With `mixed_loops`, one loop may have all these
        # uses.
        kind: object = item.scope.definition if self.mixed_loops else item.group
        return kind, len(item.inputs), len(item.outputs)

    def _results(self, values: Sequence[Value], names: Sequence[str | None]) -> tuple[Local, ...]:
        for value, name in zip(values, names, strict=True):
            self.locals[value] = Local(value.type, name)
        return tuple(self.locals[value] for value in values)

    def _member(self, path: str) -> Member:
        name = self.structures[0].relative(path)
        if name in self.members:
            self.members[name].shared = True
        else:
            self.members[name] = Member(name)
        return self.members[name]
