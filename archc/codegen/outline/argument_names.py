"""Names of the arguments and sizes of a definition, taken from the source text of its block.

A definition has an argument for each value that differs between the instances of the block.

- An argument takes its name, position and default from the attributes and sizes of the block.
- A formula of attributes and sizes replaces an argument, if it has the same values; see `derived_values`.
- Sizes in attributes have the block's own names.  For example, the text of a block contains `input x: f32[T]` and
  `arange(T)`, and the model applies the block to a tensor of size S.  The graph then contains `arange(S)`, and the
  definition contains `arange(T)`.  So two uses of a block that differ only in sizes have the same definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.codegen.outline.definitions import BlockDefinition
from archc.declaration.base import Operator
from archc.ir.graph import Scope
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim, as_symbol, divide, substitute, symbol, symbols
from archc.types.extent_solver import Extent


def parameter_name(definition: BlockDefinition, values: Sequence[object], fallback: str) -> str:
    """The name of an argument, chosen by its values.

    The candidates are the attributes of the block, then the sizes of its inputs.  In both groups, `fallback` comes
    first.  The first candidate that has these values gives the name.  Without such a candidate, the name is `fallback`.

    Args:
        values: the value of the argument in each instance.
    """
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        for name in sorted(known[0], key=lambda name: name != fallback):
            if all(same_value(own.get(name), value) for own, value in zip(known, values, strict=True)):
                return name
    return fallback


def position_in_text(definition: BlockDefinition, name: str) -> int:
    """Sort key of an argument: sizes of the inputs first, then attributes, both in the order of the text."""
    names = [*definition.scopes[0].sizes, *definition.scopes[0].arguments]
    return names.index(name) if name in names else len(names)


def has_values(definition: BlockDefinition, name: str, values: Sequence[object]) -> bool:
    """Return whether an attribute or a size of the block has this name and these values."""
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        if name in known[0]:
            return all(same_value(own.get(name), value) for own, value in zip(known, values, strict=True))
    return False


def has_other_values(definition: BlockDefinition, name: str, values: Sequence[object]) -> bool:
    """Return whether the block has an attribute of this name with other values."""
    return name in definition.scopes[0].arguments and not all(
        same_value(scope.arguments.get(name), value) for scope, value in zip(definition.scopes, values, strict=True)
    )


def instance_with_default(definition: BlockDefinition, name: str, values: Sequence[object]) -> int | None:
    """Index of the first instance that uses the default of an argument; None without a common default.

    Args:
        values: the values of the argument, one for each instance.
    """
    scopes = definition.scopes
    if not all(same_value(scope.arguments.get(name), value) for scope, value in zip(scopes, values, strict=True)):
        return None
    found = [k for k, scope in enumerate(scopes) if name in scope.defaults]
    return found[0] if found and all(same_value(values[k], values[found[0]]) for k in found) else None


def same_value(value: object, other: object) -> bool:
    """Return whether two values are equal and have the same type, unlike `True == 1 == 1.0`."""
    if isinstance(value, (tuple, list)) and isinstance(other, (tuple, list)):
        return type(value) is type(other) and len(value) == len(other) and all(map(same_value, value, other))
    return type(value) is type(other) and value == other


MODEL_PREFIX = "model."
"""Prefix of the generated names of sizes without a name in the block."""

Sizes = Mapping[str, Extent]
"""The sizes of a block, by name."""


def block_sizes(scope: Scope) -> Sizes:
    """The named sizes of a use of a block: sizes of its inputs, and symbolic attributes."""
    given = {name: value for name, value in scope.arguments.items() if isinstance(value, SymbolicDim)}
    return {**scope.sizes, **given} if given else scope.sizes


def operator_with_block_sizes(op: Operator, sizes: Sizes) -> Operator:
    """The operator with the sizes in its attributes expressed by the block's names."""
    changed = {}
    for info in attributes(type(op)):
        value = info.of(op)
        own = with_block_sizes(value, sizes)
        if own is not value:
            changed[info.name] = own
    return replace(op, **changed) if changed else op


def with_block_sizes(value: Any, sizes: Sizes) -> Any:
    """The value with its sizes expressed by the block's names; the same object if it has no symbolic size."""
    if isinstance(value, SymbolicDim):
        own = _own(value, sizes)
        return (
            substitute(value, {name: symbol(f"{MODEL_PREFIX}{name}") for name in symbols(value)})
            if own is None
            else own
        )
    return _each(value, lambda item: with_block_sizes(item, sizes))


def with_renamed_sizes(value: Any, names: Mapping[str, str]) -> Any:
    """The value or operator with its sizes renamed; the same object if it has no symbolic size."""
    if isinstance(value, SymbolicDim):
        return substitute(value, {name: symbol(names.get(name, name)) for name in symbols(value)})
    if isinstance(value, Operator):
        found = {info.name: info.of(value) for info in attributes(type(value))}
        changed = {name: own for name, item in found.items() if (own := with_renamed_sizes(item, names)) is not item}
        return replace(value, **changed) if changed else value
    return _each(value, lambda item: with_renamed_sizes(item, names))


def _each(value: Any, change: Any) -> Any:
    if not isinstance(value, (tuple, list)):
        return value
    changed = [change(item) for item in value]
    return type(value)(changed) if any(own is not item for own, item in zip(changed, value)) else value


def _own(size: int | SymbolicDim, sizes: Sizes) -> int | SymbolicDim | None:
    """A size expressed by the block's names; None if these names do not determine the size."""
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
