"""Shapes in the comments and docstrings of emitted code, from the types of tensors (`Local`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from archc.codegen.outline.argument_names import parameter_name
from archc.codegen.outline.definitions import BlockDefinition, Local, Loop, OperatorStep, Outline, Recurrence, Statement
from archc.codegen.outline.derived_values import formula_of
from archc.ir.graph import Node
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

Types = tuple[TensorType, ...]


def local_types(outline: Outline) -> dict[Local, Types]:
    """The types of all locals of all definitions; each local has one type for each instance.

    The attribute `Local.type` is the type in the first instance only.
    """
    found: dict[Local, Types] = {}
    for definition in outline.definitions:
        pending: list[Statement] = list(definition.body)
        while pending:
            statement = pending.pop()
            if isinstance(statement, Loop):
                pending += [inner for iteration in statement.iterations for inner in iteration]
            elif isinstance(statement, Recurrence):
                pending += [statement.enter, *statement.body, statement.exit]
            elif isinstance(statement, OperatorStep):
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


def _fill(found: dict[Local, Types], definition: BlockDefinition) -> None:
    """Add the types of locals that only enter or leave loops, or that have no uses."""
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


def _same(found: dict[Local, Types], local: Local, other: Local, definition: BlockDefinition) -> None:
    types = found.get(local) or found.get(other) or (local.type,) * len(definition.scopes)
    found.setdefault(local, types)
    found.setdefault(other, types)


class ShapeComments:
    """Writes the comments with shapes for one class of the emitted module.

    The class belongs to a definition: the model or a block.  A size in a comment has its name in the source text of
    the definition: `[N, width, 13, 13]`.

    Args:
        definition: the definition, with the scopes of the instances that use the class.
        types: returns the types of a local in these instances.

    Attributes:
        silent: tensors without a comment, because their shape changes between the iterations of a loop.
    """

    def __init__(self, definition: BlockDefinition, types: Callable[[Local], Types]):
        self.definition, self.types = definition, types
        self.silent: set[Local] = set()

    def line(self, result: Local, source: Local | None) -> str:
        """The comment for a line: the shape of the result, if the main operand `source` has another shape."""
        types = self.types(result)
        if result in self.silent:
            return ""
        if source is not None:
            before = self.types(source)
            if all(own.shape == other.shape for own, other in zip(types, before)):
                return ""
        return self.shape(types) or ""

    def shape(self, types: Types) -> str | None:
        """A shape as text, such as `[N, 32, 13, 13]`.

        None if a size differs between the instances and has neither a name nor a formula, or if the ranks differ.
        """
        if any(own.rank != types[0].rank for own in types):
            return None
        sizes = []
        for axis in range(types[0].rank):
            values = [own.shape[axis] for own in types]
            same = all(value == values[0] for value in values)
            if same and isinstance(values[0], int):
                sizes.append(str(values[0]))
                continue
            name = parameter_name(self.definition, values, str(values[0]) if same else "") or self._formula(values)
            if not name:
                return None
            sizes.append(name)
        return f"[{', '.join(sizes)}]"

    def _formula(self, values: Sequence[Extent]) -> str:
        """The formula for a size that differs between the instances, such as `2 * C`; empty if there is none."""
        formula = formula_of(self.definition, values)
        if formula is None:
            return ""
        left, right = (str(term) if isinstance(term, int) else term.name for term in (formula.left, formula.right))
        return f"{left} {formula.operator} {right}"

    def described(self, local: Local, name: str) -> str:
        """The description of a tensor for a docstring: `image: float32 [N, 1, 28, 28]`."""
        types = self.types(local)
        return f"{name}: {_dtype(types[0])} {self.shape(types) or f'of {types[0].rank} axes'}"


def _dtype(type: TensorType) -> str:
    return type.dtype.torch
