"""Names that are readable first, and made unique with a number where they must be."""

from __future__ import annotations

from collections.abc import Iterable


class UniqueNames:
    """The names taken in one namespace.  A name asked for again becomes `x_1`, `x_2`, …, each in constant time."""

    def __init__(self, taken: Iterable[str] = ()):
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """The name itself, or with the first number that makes it new; it is taken from now on."""
        name = wanted
        while name in self._taken:
            number = self._next.get(wanted, 1)
            self._next[wanted] = number + 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
