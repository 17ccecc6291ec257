"""Selectors: which layers a pass may touch, as globs over paths.

`fc*` is every layer of the model whose name begins with `fc`; `h.*.up` the `up` of every block; `**.query` a
`query` at any depth; `h**up` every path that begins with `h` and ends with `up`.  `*` and `?` stay within one
name between dots, so `layers.1.*` does not reach `layers.10`.  A selector that names a block selects all layers in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

from archc.diagnostics import nearest
from archc.types.frozen_dataclass import frozen_dataclass

LONGEST = 1000
"""Limit on the characters of a glob: the compilation of its regular expression takes time."""


class SelectorError(Exception):
    """A selector that matches nothing, or is too long, with the code of its diagnostic.

    Attributes:
        help: what to write, such as the nearest paths.
    """

    def __init__(self, code: str, message: str, help: str):
        super().__init__(message)
        self.code, self.help = code, help

    @classmethod
    def nothing(cls, pattern: str, paths: Sequence[str]) -> SelectorError:
        """The error for a glob that matches none of the paths."""
        close = nearest(pattern.replace("*", ""), [*paths, *{path.rpartition(".")[2] for path in paths}])
        shown = ", ".join(f"`{path}`" for path in paths[:6]) + (", ..." if len(paths) > 6 else "")
        help = f"did you mean `{close}`?" if close else f"the layers are {shown}" if paths else "it has no layers"
        return cls("selector-matches-nothing", f"the selector `{pattern}` matches no layer", help)

    @classmethod
    def too_long(cls, pattern: str) -> SelectorError:
        """The error for a glob of more than `LONGEST` characters."""
        message = f"a selector has at most {LONGEST:,} characters, and `{pattern[:20]}...` has {len(pattern):,}"
        return cls("selector-too-long", message, 'give several globs: `on = ("enc.*", "head")`')


@frozen_dataclass
class Selector:
    """One or several globs; a path is selected when any of them matches it or a block around it."""

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, patterns: str | tuple[str, ...] | None) -> Selector:
        """A selector from an option's value; None selects nothing."""
        if patterns is None:
            return cls(())
        return cls((patterns,) if isinstance(patterns, str) else tuple(patterns))

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(_expression(pattern)) for pattern in self.patterns)

    def matches(self, path: str) -> bool:
        """Whether a layer of this path is selected."""
        return any(expression.match(path) for expression in self._expressions)

    def check(self, paths: Iterable[str]) -> None:
        """Check that every glob matches a path.

        Raises:
            SelectorError: one matches none, or is too long.
        """
        known = list(paths)
        for pattern in self.patterns:
            if len(pattern) > LONGEST:
                raise SelectorError.too_long(pattern)
        for pattern, expression in zip(self.patterns, self._expressions):
            if not any(expression.match(path) for path in known):
                raise SelectorError.nothing(pattern, known)


def _expression(pattern: str) -> str:
    """The regular expression of a glob; a match takes time in proportion to the path, for every glob.

    After a wildcard, the earliest match of the next fixed text is as good as any later one, so no backtracking is
    needed.  Atomic groups prevent it.
    """
    first, *rest = re.split(r"((?<![^.])(?:\*\*\.)+|\*{2,})", pattern)
    parts = [_within_names(first)]
    for wildcard, piece in zip(rest[::2], rest[1::2]):
        parts.append((r"(?:[^.]+\.)*?" if wildcard.endswith(".") else ".*?") + _within_names(piece))
    *middle, last = parts
    return "".join(f"(?>{part})" for part in middle) + last + r"(?:\.|\Z)"


def _within_names(pattern: str) -> str:
    """The regular expression of a glob without `**`: `*` and `?` stay within one name."""
    return r"\.".join(map(_within_name, pattern.split(".")))


def _within_name(pattern: str) -> str:
    fixed = ["".join("[^.]" if letter == "?" else re.escape(letter) for letter in part) for part in pattern.split("*")]
    if len(fixed) == 1:
        return fixed[0]
    first, *middle, last = fixed
    return first + "".join(f"(?>[^.]*?{part})" for part in middle if part) + f"[^.]*?{last}"
