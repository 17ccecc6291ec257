"""The types of a definition's locals in every instance; a `Local` itself knows that of the first one."""

from __future__ import annotations

from archc.codegen.outline.program import Apply, Definition, Local, Loop, Program, Recurrence, Statement
from archc.ir.graph import Node
from archc.types.tensor_type import TensorType

Types = tuple[TensorType, ...]


def local_types(program: Program) -> dict[Local, Types]:
    """For each local of each definition, its type in each instance."""
    found: dict[Local, Types] = {}
    for definition in program.definitions:
        pending: list[Statement] = list(definition.body)
        while pending:
            statement = pending.pop()
            if isinstance(statement, Loop):
                pending += [inner for iteration in statement.iterations for inner in iteration]
            elif isinstance(statement, Recurrence):
                pending += [statement.enter, *statement.body, statement.exit]
            elif isinstance(statement, Apply):
                _enter(found, statement.operands, [_operands(node) for node in statement.nodes])
                _enter(found, statement.results, [tuple(v.type for v in node.results) for node in statement.nodes])
            else:
                inner = statement.definition
                for outer, own in ((statement.operands, inner.inputs), (statement.results, inner.outputs)):
                    _enter(found, outer, [tuple(found[local][k] for local in own) for k in statement.instances])
        _fill(found, definition)
    return found


def _operands(node: Node) -> Types:
    return tuple(value.type for value in node.operands)


def _enter(found: dict[Local, Types], locals_: tuple[Local, ...], rows: list[Types]) -> None:
    for position, local in enumerate(locals_):
        if local not in found:
            found[local] = tuple(row[position] for row in rows)


def _fill(found: dict[Local, Types], definition: Definition) -> None:
    """Types of what only enters or leaves loops, or is read by nothing."""
    pending: list[Statement] = list(definition.body)
    while pending:
        statement = pending.pop(0)
        if isinstance(statement, Loop):
            entering = (statement.carried, *statement.yields)
            for before, after in zip(entering, (*statement.parameters, statement.results), strict=True):
                for local, other in zip(before, after, strict=True):
                    _same(found, local, other, definition)
            pending += [inner for iteration in statement.iterations for inner in iteration]
    for local in (*definition.inputs, *definition.outputs):
        found.setdefault(local, (local.type,) * len(definition.scopes))


def _same(found: dict[Local, Types], local: Local, other: Local, definition: Definition) -> None:
    types = found.get(local) or found.get(other) or (local.type,) * len(definition.scopes)
    found.setdefault(local, types)
    found.setdefault(other, types)
