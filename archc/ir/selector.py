"""Selectors: sets of layers, as globs over paths or over kinds of operators.

- `fc*` selects every layer of the model whose name begins with `fc`.
- `h.*.up` selects the layer `up` of every block `h.0`, `h.1`, …
- `**.query` selects every layer `query`, at any depth.
- `h**up` selects every path that begins with `h` and ends with `up`.
- `kind:conv*` selects every layer whose operator has a name that begins with `conv`.

`*` and `?` do not match a dot, so `h.*.up` does not select `h.0.mlp.up`.  A selector that matches a block selects all
layers in the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

from archc.diagnostics import nearest
from archc.frozen_dataclass import frozen_dataclass

KIND = "kind:"
"""Prefix of a glob over the names of operators."""
LONGEST = 1000
"""Maximum number of characters of a glob; the limit bounds the time to compile the regular expression."""


class SelectorError(Exception):
    """Error for a selector that matches no layer or is too long.

    Attributes:
        code: code of the diagnostic.
        help: a way to correct the selector, such as a path with a similar name.
    """

    def __init__(self, code: str, message: str, help: str):
        super().__init__(message)
        self.code, self.help = code, help

    @classmethod
    def nothing(cls, pattern: str, paths: Sequence[str]) -> SelectorError:
        """Return the error for a glob that matches none of the paths."""
        near = nearest(pattern.replace("*", ""), [*paths, *{path.rpartition(".")[2] for path in paths}])
        close = _longer(pattern, paths) or near
        shown = ", ".join(f"`{path}`" for path in paths[:6]) + (", ..." if len(paths) > 6 else "")
        known = f"the layers are {shown}" if paths else "the model has no layers"
        help = f"did you mean `{close}`?" if close else known
        return cls("selector-matches-nothing", f"the selector `{pattern}` matches no layer", help)

    @classmethod
    def no_kind(cls, pattern: str, kinds: Sequence[str]) -> SelectorError:
        """Return the error for a glob that matches none of the kinds of operators in a model."""
        glob = pattern.removeprefix(KIND)
        close = _longer(glob, kinds) or nearest(glob.replace("*", ""), kinds)
        shown = ", ".join(f"`{KIND}{kind}`" for kind in kinds[:6]) + (", ..." if len(kinds) > 6 else "")
        known = f"the kinds are {shown}" if kinds else "the model has no operators"
        help = f"did you mean `{KIND}{close}`?" if close else known
        message = f"the selector `{pattern}` matches no layer: the model has no operator of this kind"
        return cls("selector-matches-nothing", message, help)

    @classmethod
    def too_long(cls, pattern: str) -> SelectorError:
        """Return the error for a glob of more than `LONGEST` characters."""
        message = f"a selector must have at most {LONGEST:,} characters, and `{pattern[:20]}...` has {len(pattern):,}"
        return cls("selector-too-long", message, 'use several globs: `on = ("enc.*", "head")`')


@frozen_dataclass
class Selector:
    """One or several globs; a glob that matches a block selects all layers in the block."""

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, patterns: str | tuple[str, ...] | None) -> Selector:
        """Create a selector from the value of an option; None selects no layer."""
        if patterns is None:
            return cls(())
        return cls((patterns,) if isinstance(patterns, str) else tuple(patterns))

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(_expression(pattern.removeprefix(KIND))) for pattern in self.patterns)

    def matches(self, path: str, kind: str = "") -> bool:
        """Return True if a layer with this path, and with an operator of this kind, is selected."""
        return any(
            expression.match(kind if pattern.startswith(KIND) else path)
            for pattern, expression in zip(self.patterns, self._expressions)
        )

    def check(self, paths: Iterable[str], kinds: Iterable[str] = ()) -> None:
        """Check that every glob matches a path, or with the prefix `kind:` a kind of operators.

        Raises:
            SelectorError: a glob matches nothing, or is too long.
        """
        known, own = list(paths), list(dict.fromkeys(kinds))
        for pattern in self.patterns:
            if len(pattern) > LONGEST:
                raise SelectorError.too_long(pattern)
        for pattern, expression in zip(self.patterns, self._expressions):
            of_kinds = pattern.startswith(KIND)
            if not any(map(expression.match, own if of_kinds else known)):
                raise SelectorError.no_kind(pattern, own) if of_kinds else SelectorError.nothing(pattern, known)


def _longer(glob: str, names: Sequence[str]) -> str | None:
    """Return `glob*` if it matches a name and `glob` has several characters; None otherwise."""
    longer = f"{glob}*"
    return longer if len(glob) > 1 and any(map(re.compile(_expression(longer)).match, names)) else None


def _expression(pattern: str) -> str:
    """Return the regular expression of a glob.

    A match takes time proportional to the length of the path.  After a wildcard, the earliest match of the next fixed
    text is as good as any later match.  Backtracking is therefore not needed, and atomic groups prevent it.
    """
    first, *rest = re.split(r"((?<![^.])(?:\*\*\.)+|\*{2,})", pattern)
    parts = [_within_names(first)]
    for wildcard, piece in zip(rest[::2], rest[1::2]):
        parts.append((r"(?:[^.]+\.)*?" if wildcard.endswith(".") else ".*?") + _within_names(piece))
    *middle, last = parts
    return "".join(f"(?>{part})" for part in middle) + last + r"(?:\.|\Z)"


def _within_names(pattern: str) -> str:
    """Return the regular expression of a glob without `**`."""
    return r"\.".join(map(_within_name, pattern.split(".")))


def _within_name(pattern: str) -> str:
    fixed = ["".join("[^.]" if letter == "?" else re.escape(letter) for letter in part) for part in pattern.split("*")]
    if len(fixed) == 1:
        return fixed[0]
    first, *middle, last = fixed
    return first + "".join(f"(?>[^.]*?{part})" for part in middle if part) + f"[^.]*?{last}"
