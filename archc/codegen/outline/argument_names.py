"""What an argument of a definition is called: the name that the text has for its values, its place and its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from archc.codegen.outline.definitions import BlockDefinition
from archc.ir.graph import Scope
from archc.operator.base import Operator
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim, as_symbol, divide, substitute, symbol, symbols
from archc.types.extent_solver import Extent


def parameter_name(definition: BlockDefinition, values: Sequence[object], fallback: str) -> str:
    """A name for an argument of a definition that takes `values`, one for each instance.

    The block's own attribute that had those values, if possible the one called `fallback`, or the size that its
    inputs bound to them, or `fallback`.
    """
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        for name in sorted(known[0], key=lambda name: name != fallback):
            if all(same_value(own.get(name), value) for own, value in zip(known, values, strict=True)):
                return name
    return fallback


def position_in_text(definition: BlockDefinition, name: str) -> int:
    """The place of an argument in the order that the text has: sizes of the inputs, then the block's attributes."""
    if name in definition.scopes[0].sizes:
        return 0
    names = list(definition.scopes[0].arguments)
    return 1 + (names.index(name) if name in names else len(names))


def has_values(definition: BlockDefinition, name: str, values: Sequence[object]) -> bool:
    """Whether a name is that of a block's attribute, or of a size that its inputs bind, which has these values."""
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        if name in known[0]:
            return all(same_value(own.get(name), value) for own, value in zip(known, values, strict=True))
    return False


def has_other_values(definition: BlockDefinition, name: str, values: Sequence[object]) -> bool:
    """Whether a block has an attribute of a name that stands for other values, so that these need another name."""
    return name in definition.scopes[0].arguments and not all(
        same_value(scope.arguments.get(name), value) for scope, value in zip(definition.scopes, values, strict=True)
    )


def instance_with_default(definition: BlockDefinition, name: str, values: Sequence[object]) -> int | None:
    """An instance that leaves an argument to its default; None where the text knows of no default.

    Args:
        values: the argument's, one for each instance.
    """
    scopes = definition.scopes
    if not all(same_value(scope.arguments.get(name), value) for scope, value in zip(scopes, values, strict=True)):
        return None
    found = [k for k, scope in enumerate(scopes) if name in scope.defaults]
    return found[0] if found and all(same_value(values[k], values[found[0]]) for k in found) else None


def same_value(value: object, other: object) -> bool:
    """Whether one value can stand for another: Python's `True == 1 == 1.0` is not enough."""
    if isinstance(value, (tuple, list)) and isinstance(other, (tuple, list)):
        return type(value) is type(other) and len(value) == len(other) and all(map(same_value, value, other))
    return type(value) is type(other) and value == other


_ENOUGH = 3  # that many different pairs, and it is no coincidence


class Multiple(NamedTuple):
    """Values that are one multiple of others in all instances of a definition.

    Attributes:
        name: what the text calls those others; base: their values.
        factor: what they are multiplied by, or divided by if it is negative.
    """

    name: str
    base: tuple[int, ...]
    factor: int


def multiple_of(definition: BlockDefinition, values: Sequence[object]) -> Multiple | None:
    """The attribute, or the size, of which values are a multiple; None where it might be a coincidence."""
    numbers = _positive(values)
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        for name in known[0]:
            base = _positive([own.get(name) for own in known])
            factor = _factor(numbers, base)
            if factor is not None:
                return Multiple(name, base, factor)
    return None


def _positive(values: Sequence[object]) -> tuple[int, ...]:
    """The values, if they are positive integers."""
    found = tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0)
    return found if len(found) == len(values) else ()


def _factor(values: Sequence[int], base: Sequence[int]) -> int | None:
    if not values or len(set(base)) < _ENOUGH:
        return None
    factor, quotient = values[0] // base[0], base[0] // values[0]
    if factor > 1 and all(value == factor * own for value, own in zip(values, base, strict=True)):
        return factor
    if quotient > 1 and all(value * quotient == own for value, own in zip(values, base, strict=True)):
        return -quotient
    return None


MODEL_PREFIX = "model."
"""Prefix of a size that only the model has a name for."""

Sizes = Mapping[str, Extent]
"""Sizes by the names that a block has for them."""


def block_sizes(scope: Scope) -> Sizes:
    """Sizes that a use of a block has names for: those of its inputs, and its symbolic attributes."""
    given = {name: value for name, value in scope.arguments.items() if isinstance(value, SymbolicDim)}
    return {**scope.sizes, **given} if given else scope.sizes


def operator_with_block_sizes(op: Operator, sizes: Sizes) -> Operator:
    """The operator with the sizes in its attributes under a block's own names."""
    changed = {}
    for info in attributes(type(op)):
        value = getattr(op, info.name)
        own = with_block_sizes(value, sizes)
        if own is not value:
            changed[info.name] = own
    return replace(op, **changed) if changed else op


def with_block_sizes(value: Any, sizes: Sizes) -> Any:
    """The value with its sizes under a block's own names; the same object if it has no symbolic size."""
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
        found = {info.name: getattr(value, info.name) for info in attributes(type(value))}
        changed = {name: own for name, item in found.items() if (own := with_renamed_sizes(item, names)) is not item}
        return replace(value, **changed) if changed else value
    return _each(value, lambda item: with_renamed_sizes(item, names))


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
