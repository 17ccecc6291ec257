"""Exhaustive glob matcher, as a reference for `Selector`."""

from __future__ import annotations


def matches(pattern: str, path: str, name_starts: bool = True) -> bool:
    """Return whether a glob matches a path or a block that contains the path; takes exponential time."""
    if not pattern:
        return not path or path[0] == "."
    if name_starts and pattern.startswith("**."):
        name, dot, rest = path.partition(".")
        return matches(pattern[3:], path) or (bool(name and dot) and matches(pattern, rest))
    if pattern.startswith("**"):
        rest = pattern.lstrip("*")
        return any(matches(rest, path[start:], False) for start in range(len(path) + 1))
    if pattern[0] == "*":
        name = path.partition(".")[0]
        return any(matches(pattern[1:], path[start:], False) for start in range(len(name) + 1))
    if not path or (pattern[0] != path[0] and not (pattern[0] == "?" and path[0] != ".")):
        return False
    return matches(pattern[1:], path[1:], path[0] == ".")
