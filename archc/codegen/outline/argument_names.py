"""What an argument of a definition is called: the name that the text has for its values, its place and its default."""

from __future__ import annotations

from collections.abc import Sequence

from archc.codegen.outline.program import Definition


def parameter_name(definition: Definition, values: Sequence[object], fallback: str) -> str:
    """A name for an argument of a definition that takes `values`, one for each instance.

    The block's own attribute that had those values, if possible the one called `fallback`, or the size that its
    inputs bound to them, or `fallback`.
    """
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        for name in sorted(known[0], key=lambda name: name != fallback):
            if all(same(own.get(name), value) for own, value in zip(known, values, strict=True)):
                return name
    return fallback


def own_order(definition: Definition, name: str) -> int:
    """The place of an argument in the order that the text has: sizes of the inputs, then the block's attributes."""
    if name in definition.scopes[0].sizes:
        return 0
    names = list(definition.scopes[0].arguments)
    return 1 + (names.index(name) if name in names else len(names))


def stands_for(definition: Definition, name: str, values: Sequence[object]) -> bool:
    """Whether a name is that of a block's attribute, or of a size that its inputs bind, which has these values."""
    for known in ([scope.arguments for scope in definition.scopes], [scope.sizes for scope in definition.scopes]):
        if name in known[0]:
            return all(same(own.get(name), value) for own, value in zip(known, values, strict=True))
    return False


def means_another(definition: Definition, name: str, values: Sequence[object]) -> bool:
    """Whether a block has an attribute of a name that stands for other values, so that these need another name."""
    return name in definition.scopes[0].arguments and not all(
        same(scope.arguments.get(name), value) for scope, value in zip(definition.scopes, values, strict=True)
    )


def defaulting(definition: Definition, name: str, values: Sequence[object]) -> int | None:
    """An instance that leaves an argument to its default; None where the text knows of no default.

    Args:
        values: the argument's, one for each instance.
    """
    scopes = definition.scopes
    if not all(same(scope.arguments.get(name), value) for scope, value in zip(scopes, values, strict=True)):
        return None
    found = [k for k, scope in enumerate(scopes) if name in scope.defaults]
    return found[0] if found and all(same(values[k], values[found[0]]) for k in found) else None


def same(value: object, other: object) -> bool:
    """Whether one value can stand for another: Python's `True == 1 == 1.0` is not enough."""
    if isinstance(value, (tuple, list)) and isinstance(other, (tuple, list)):
        return type(value) is type(other) and len(value) == len(other) and all(map(same, value, other))
    return type(value) is type(other) and value == other
