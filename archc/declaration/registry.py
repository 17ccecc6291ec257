"""Operators by name: those of archc, those defined in this process, and those of installed packages."""

from __future__ import annotations

from typing import Any

from archc.declaration.base import OPERATORS, Operator
from archc.diagnostics import did_you_mean
from archc.entry_points import EntryPoints
from archc.extension_failure import is_outside
from archc.types.attributes import bind


def check_complete(cls: type[Operator]) -> None:
    """Check that a class of an extension has the decorator `operator` if it declares attributes.

    Raises:
        TypeError: the decorator is missing.
    """
    if is_outside(cls):
        from archc.types.attribute_declarations import check_decorator

        check_decorator(cls, Operator, "@archc.operator")


_FOUND: EntryPoints[type[Operator]] = EntryPoints("operator", OPERATORS, check_complete)


def find_operator(name: str) -> type[Operator] | None:
    """Operator of a name: archc's own, one defined in this process, or an installed one; None if unknown.

    Raises:
        ArchcError: the package cannot be imported, or does not define the operator (`operator-not-loadable`).
    """
    return _FOUND.find(name)


def make_operator(name: str, *positional: Any, **named: Any) -> Operator:
    """Operator with the given attributes, by its name in the language: `make_operator("gelu", "tanh")`.

    A pass creates the operators of new nodes in this way.

    Args:
        positional, named: the attributes, as in a text.

    Raises:
        ValueError: there is no such operator.
        AttributeProblem: an attribute is unknown, missing or of a wrong type.
        ArchcError: the package of the operator cannot be imported (`operator-not-loadable`).
    """
    found = find_operator(name)
    if found is None:
        way = did_you_mean(name, operator_names()) or "`archc ops` lists all operators"
        raise ValueError(f"there is no operator `{name}`; {way}")
    return bind(found, f"`{name}`", positional, named, "attribute")


def operator_names() -> list[str]:
    """Names of all operators, without importing a package."""
    return sorted(_FOUND.names())


def known_operators() -> dict[str, type[Operator]]:
    """All operators by name.

    Raises:
        ArchcError: as `find_operator`.
    """
    found = {name: find_operator(name) for name in operator_names()}
    return {name: operator for name, operator in found.items() if operator is not None}
