"""Sizes of a stage, expressed by the axes of its inputs; see `archc.types.axis_expressions`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import count
from typing import Any

from archc.ir.graph import Graph, Scope
from archc.operator.base import Operator
from archc.types.axis_expressions import AxisExpressions
from archc.types.dims import SymbolicDim, symbols
from archc.types.tensor_type import TensorType


def stage_sizes(graph: Graph, types: Iterable[TensorType]) -> AxisExpressions:
    """Sizes that a stage reads from inputs of these types; those without a name become `S1`, `S2`, ..."""
    shapes = (
        value.type.shape for value in (*graph.inputs, *(result for node in graph.nodes() for result in node.results))
    )
    taken = {name for shape in shapes for dim in shape for name in symbols(dim)}
    free = (name for number in count(1) if (name := f"S{number}") not in taken)
    return AxisExpressions(types, lambda: next(free))


def express_operator(op: Operator, sizes: AxisExpressions) -> Operator:
    """The operator with the sizes in its attributes expressed by those of the inputs."""
    given = {info.name: getattr(op, info.name) for info in fields(op)}
    changed = {name: new for name, value in given.items() if (new := express(value, sizes)) != value}
    return replace(op, **changed) if changed else op


def express_scope(scope: Scope, sizes: AxisExpressions) -> Scope:
    """The scope with its sizes and arguments expressed by the sizes of the inputs."""
    arguments = {name: express(value, sizes) for name, value in scope.arguments.items()}
    return replace(scope, arguments=arguments, sizes={name: express(dim, sizes) for name, dim in scope.sizes.items()})


def express(value: Any, sizes: AxisExpressions) -> Any:
    """The value of an attribute with its sizes expressed by those of the inputs, where they determine them."""
    if isinstance(value, SymbolicDim):
        found = sizes.express(value)
        return value if found is None else found
    if isinstance(value, tuple | list):
        return type(value)(express(item, sizes) for item in value)
    return value
