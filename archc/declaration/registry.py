"""Operators of other packages, from the entry-point group `archc.operators`.

    [project.entry-points."archc.operators"]
    swish = "my_package.operators:Swish"

The package is imported when a model uses the operator, or when all operators are listed.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from archc.declaration.base import OPERATORS, Operator
from archc.diagnostics import error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "archc.operators"


def find_operator(name: str) -> type[Operator] | None:
    """Operator of a name: archc's own, one defined in this process, or an installed one; None if unknown.

    Raises:
        ArchcError: the package cannot be imported, or does not define the operator (`operator-not-loadable`).
    """
    known = OPERATORS.get(name)
    if known is not None:
        return known
    entry = _installed(tuple(sys.path)).get(name)
    return None if entry is None else _load(name, entry)


def operator_names() -> list[str]:
    """Names of all operators, without importing a package."""
    return sorted({*OPERATORS, *_installed(tuple(sys.path))})


def known_operators() -> dict[str, type[Operator]]:
    """All operators by name.

    Raises:
        ArchcError: as `find_operator`.
    """
    found = {name: find_operator(name) for name in operator_names()}
    return {name: operator for name, operator in found.items() if operator is not None}


@cache
def _installed(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points of the packages on `sys.path` by name; `path` is `sys.path` as the key of the cache."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(name: str, entry: EntryPoint) -> type[Operator]:
    reason = "it defines no operator of that name"
    try:
        entry.load()
    except (ImportError, AttributeError, ValueError) as failure:  # ValueError: it redefines an operator of archc
        reason = str(failure)
    if name not in OPERATORS:
        raise error(
            "operator-not-loadable",
            f"the operator `{name}` cannot be loaded from `{entry.value}`: {reason}",
            help="reinstall its package, or remove it",
        )
    return OPERATORS[name]
