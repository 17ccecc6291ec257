"""The operators of other packages, found through the entry-point group `archc.operators`.

    [project.entry-points."archc.operators"]
    swish = "my_package.operators:Swish"

Such a package is imported when a text uses the operator, or when somebody asks for all there are: a text that uses
archc's own pays nothing for it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from archc.diagnostics import error
from archc.operator.base import OPERATORS, Operator

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "archc.operators"


def find_operator(name: str) -> type[Operator] | None:
    """The operator of a name: archc's own, one defined in this process, or an installed one; None for none.

    Raises:
        ArchcError: a package promises it and cannot be imported, or does not have it (`operator-not-loadable`).
    """
    known = OPERATORS.get(name)
    if known is not None:
        return known
    entry = _installed(tuple(sys.path)).get(name)
    return None if entry is None else _load(name, entry)


def operator_names() -> list[str]:
    """The names of all operators; no package is imported for it."""
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
    """The entry points of the packages on `sys.path`, which is the argument so that a change of it is noticed."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(name: str, entry: EntryPoint) -> type[Operator]:
    reason = "defining it gives no operator of that name"
    try:
        entry.load()
    except (ImportError, AttributeError, ValueError) as failure:  # ValueError: the name is one of archc's own
        reason = str(failure)
    if name not in OPERATORS:
        raise error(
            "operator-not-loadable",
            f"the operator `{name}` cannot be loaded from `{entry.value}`: {reason}",
            help="reinstall its package, or remove it",
        )
    return OPERATORS[name]
