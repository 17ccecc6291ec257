"""Sizes under a block's own names: `arange(T)`, where the model has `arange(S)` and the block's input binds T to S.

Two uses of a block that differ only in the sizes of their operands then have the same definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archc.ir.graph import Scope
from archc.operator.base import Operator
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim, as_symbol, divide, substitute, symbol, symbols
from archc.types.extent_solver import Extent

MODEL = "model."
"""Prefix of a size that only the model has a name for."""

Sizes = Mapping[str, Extent]
"""Sizes by the names that a block has for them."""


def sizes_of(scope: Scope) -> Sizes:
    """Sizes that a use of a block has names for: those of its inputs, and its symbolic attributes."""
    given = {name: value for name, value in scope.arguments.items() if isinstance(value, SymbolicDim)}
    return {**scope.sizes, **given} if given else scope.sizes


def operator_in_own_sizes(op: Operator, sizes: Sizes) -> Operator:
    """The operator with the sizes in its attributes under a block's own names."""
    changed = {}
    for info in attributes(type(op)):
        value = getattr(op, info.name)
        own = in_own_sizes(value, sizes)
        if own is not value:
            changed[info.name] = own
    return replace(op, **changed) if changed else op


def in_own_sizes(value: Any, sizes: Sizes) -> Any:
    """The value with its sizes under a block's own names; the same object if it has no symbolic size."""
    if isinstance(value, SymbolicDim):
        own = _own(value, sizes)
        return substitute(value, {name: symbol(f"{MODEL}{name}") for name in symbols(value)}) if own is None else own
    return _each(value, lambda item: in_own_sizes(item, sizes))


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The value or operator with its sizes renamed; the same object if it has no symbolic size."""
    if isinstance(value, SymbolicDim):
        return substitute(value, {name: symbol(names.get(name, name)) for name in symbols(value)})
    if isinstance(value, Operator):
        found = {info.name: getattr(value, info.name) for info in attributes(type(value))}
        changed = {name: own for name, item in found.items() if (own := renamed(item, names)) is not item}
        return replace(value, **changed) if changed else value
    return _each(value, lambda item: renamed(item, names))


def _each(value: Any, change: Any) -> Any:
    if not isinstance(value, (tuple, list)):
        return value
    changed = [change(item) for item in value]
    return type(value)(changed) if any(own is not item for own, item in zip(changed, value)) else value


def _own(size: int | SymbolicDim, sizes: Sizes) -> int | SymbolicDim | None:
    """A size under a block's own names; None if they do not determine it."""
    if isinstance(size, int):
        return size
    for name, bound in sizes.items():
        if bound == size:
            return symbol(name)
    plain: dict[str, int | SymbolicDim] = {}
    for name, bound in sizes.items():
        of_model = as_symbol(bound)
        if of_model is not None:
            plain.setdefault(of_model.name, symbol(name))
    if symbols(size).keys() <= plain.keys():
        return substitute(size, plain)
    for name, bound in sizes.items():  # a product with a named size
        quotient = divide(size, bound) if isinstance(bound, SymbolicDim) else None
        rest = None if quotient is None else _own(quotient, sizes)
        if rest is not None:
            return symbol(name) * rest
    return None
