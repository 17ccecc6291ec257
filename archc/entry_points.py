"""Operators, passes and targets of installed packages, found by their entry points.

    [project.entry-points."archc.passes"]
    clip = "my_package.clip:Clip"

A package is imported when one of its names is used.  `importlib.metadata` is slow to import, and few model files need
it, so it is imported inside functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from archc.diagnostics import error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class EntryPoints(Generic[T]):
    """Registered things of one kind, and those that installed packages offer.

    Args:
        kind: `operator`, `pass` or `target`; the entry-point group is `archc.` and its plural.
        registered: everything of this kind that Python has imported, by name.  The import of a package adds to it.
        check: raises a `TypeError` for a registered thing with a mistake that its definition could not show.

    Attributes:
        group: name of the entry-point group.
    """

    def __init__(self, kind: str, registered: Mapping[str, T], check: Callable[[T], None] = lambda found: None):
        self.group = f"archc.{kind}es" if kind.endswith("s") else f"archc.{kind}s"
        self._kind = kind
        self._registered = registered
        self._check = check

    def names(self) -> list[str]:
        """Return all names, the registered ones first; no package is imported."""
        offered = _installed(self.group, tuple(sys.path))
        registered = list(self._registered)
        return [*registered, *sorted(offered.keys() - set(registered))]

    def find(self, name: str) -> T | None:
        """Return the operator, pass or target with a name; None if the name is unknown.

        If a package offers the name, and is not imported yet, import it first.

        Raises:
            ArchcError: the package cannot be imported, or its import registers nothing of that name, or something
                with a mistake (code `operator-not-loadable`, `pass-not-loadable` or `target-not-loadable`).
        """
        if name in self._registered:
            return self._checked(name)
        entry = _installed(self.group, tuple(sys.path)).get(name)
        if entry is None:
            return None
        reason = f"its module defines no {self._kind} of that name"
        try:
            entry.load()
        except MemoryError:
            raise
        except (Exception, SystemExit) as failure:  # the code of a package may raise any exception
            known = isinstance(failure, (ImportError, AttributeError, ValueError))  # ValueError: the name is taken
            reason = str(failure) if known else f"{type(failure).__name__}: {failure}"
        if name not in self._registered:
            raise error(
                f"{self._kind}-not-loadable",
                f"the {self._kind} `{name}` cannot be loaded from `{entry.value}`: {reason}",
                help="reinstall its package, or remove it",
            )
        return self._checked(name)

    def offer(self, name: str) -> str | None:
        """The value of the entry point of a name, such as `my_package.clip:Clip`; None if there is none."""
        entry = _installed(self.group, tuple(sys.path)).get(name)
        return entry.value if entry is not None else None

    def _checked(self, name: str) -> T:
        found = self._registered[name]
        try:
            self._check(found)
        except TypeError as mistake:
            place = getattr(found, "__module__", "?")
            raise error(
                f"{self._kind}-not-loadable",
                f"the {self._kind} `{name}` cannot be loaded from the module `{place}`: {mistake}",
            ) from None
        return found


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points of a group by name; `path` is `sys.path`, whose packages are searched."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=group)}
