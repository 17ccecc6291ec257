"""Operators by name: those of archc, those defined in this process, and those of installed packages."""

from __future__ import annotations

from archc.declaration.base import OPERATORS, Operator
from archc.entry_points import EntryPoints

_FOUND: EntryPoints[type[Operator]] = EntryPoints("operator", OPERATORS)


def find_operator(name: str) -> type[Operator] | None:
    """Operator of a name: archc's own, one defined in this process, or an installed one; None if unknown.

    Raises:
        ArchcError: the package cannot be imported, or does not define the operator (`operator-not-loadable`).
    """
    return _FOUND.find(name)


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
