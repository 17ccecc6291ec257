"""Syntax nodes for values, operators, types and paths of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from archc.declaration.base import Operator
from archc.diagnostics import Diagnostics, Source, Span
from archc.language.syntax import tree
from archc.language.syntax.parser import parse_value
from archc.types.attributes import given_attributes, value_text
from archc.types.dim_bounds import largest
from archc.types.dims import as_linear
from archc.types.storage import Storage
from archc.types.tensor_type import TensorType

NOWHERE = Span(Source(""), 0, 0)
"""Span of all nodes that this package creates, which have no place in a text."""


def name(text: str) -> tree.Name:
    """Syntax node of a name."""
    return tree.Name(NOWHERE, text)


def value(of: Any) -> tree.Expression:
    """Syntax node of a number, string, truth value, symbolic dimension, dtype, tuple or list."""
    return _parsed(value_text(of))


def storage(of: Storage) -> tree.Expression:
    """Syntax node of the storage of a weight: `int8(axis = 0)`."""
    return _parsed(str(of))


def arguments(op: Operator, named: dict[str, tree.Expression]) -> list[tree.Argument]:
    """Arguments of an operator: the attributes that differ from their defaults, and those in `named`.

    Args:
        named: expressions by attribute, which replace the values of these attributes.
    """
    if not named:
        call = _parsed(str(op))
        return list(call.arguments) if isinstance(call, tree.Call) else []
    return [
        tree.Argument(NOWHERE, label, named[info.name] if info.name in named else value(info.of(op)))
        for label, info in given_attributes(op, also=named)
    ]


def index_items(op: Operator) -> tuple[tree.Expression | tree.SliceExpression | tree.Ellipsis, ...]:
    """Items of an index operator: the `:, 0` of `x[:, 0]`."""
    index = _parsed(f"x[{', '.join(op.arguments())}]")
    assert isinstance(index, tree.IndexExpression)
    return index.items


def tensor_type(of: TensorType, declared: set[str]) -> tree.TypeExpression:
    """Type of a tensor.

    The bound of a symbol is written once: `f32[T <= 512, T]`.

    Args:
        declared: names of the symbols of earlier dimensions, to which the names of new symbols are added.
    """
    dims = []
    for dim in of.shape:
        part = as_linear(dim)
        bound = None
        if part is not None and part[0].name not in declared:
            declared.add(part[0].name)
            most = largest(dim)
            bound = None if most is None else value(most)
        dims.append(tree.Dim(NOWHERE, value(dim), bound))
    return tree.TypeExpression(NOWHERE, of.dtype.value, tuple(dims))


Part = str | tree.Expression
"""Part of a path: `attn`, or the index of an element of a list."""


def parts(path: str, other: str | None = None, variable: str = "") -> list[Part]:
    """Parts of a path.

    Args:
        other: the corresponding path in another iteration of a loop.  The loop variable replaces each part in which the
            two paths differ.
        variable: the name of the loop variable.
    """
    found: list[Part] = []
    for part, counterpart in zip(path.split("."), (path if other is None else other).split("."), strict=True):
        if part != counterpart:
            found.append(name(variable))
        else:
            found.append(value(int(part)) if found and part.isdecimal() else part)
    return found


def label(path: Sequence[Part]) -> tree.Label:
    """Label of a layer from the parts of its path: the `h[i].attn` of `h[i].attn: linear(8)`."""
    head, *rest = path
    assert isinstance(head, str)
    return tree.Label(
        NOWHERE, head, tuple(tree.Field(NOWHERE, part) if isinstance(part, str) else part for part in rest)
    )


def reference(path: Sequence[Part]) -> tree.Name | tree.MemberExpression | tree.IndexExpression:
    """Expression from the parts of a path: `h[i].attn`."""
    head, *rest = path
    assert isinstance(head, str)
    found: tree.Name | tree.MemberExpression | tree.IndexExpression = name(head)
    for part in rest:
        if isinstance(part, str):
            found = tree.MemberExpression(NOWHERE, found, part)
        else:
            found = tree.IndexExpression(NOWHERE, found, (part,))
    return found


@lru_cache(maxsize=65536)
def _parsed(text: str) -> tree.Expression:
    """Parse a text to an expression."""
    diagnostics = Diagnostics()
    expression = parse_value(Source(text), diagnostics)
    diagnostics.check()
    return expression
