"""Check of the names of operators and attributes in patterns.

A pattern with a misspelt name would silently never match.  The check runs when a pattern is matched, since a pattern
can be declared before its operators are loaded.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

from archc.declaration.base import OPERATORS
from archc.declaration.registry import operator_names
from archc.diagnostics import did_you_mean, nearest
from archc.types.attributes import attributes

Names: TypeAlias = frozenset[tuple[frozenset[str], tuple[str, ...]]]
"""The accepted operators and the names of attributes, for each node of a pattern.

A node without operators accepts every operator.
"""


@cache
def check_names(names: Names) -> None:
    """Check the operators and the attributes that a pattern names.

    A name that resembles no operator is accepted: its package may not be installed.  An attribute must exist in at
    least one of the accepted operators.

    Raises:
        ValueError: an operator or an attribute does not exist.
    """
    for kinds, attributes_of_kinds in names:
        _check_node(kinds, attributes_of_kinds)


def _check_node(kinds: frozenset[str], names: tuple[str, ...]) -> None:
    known = operator_names()
    for kind in sorted(kinds - set(known)):
        near = nearest(kind, known)
        if near is not None:
            raise ValueError(f"a pattern names the operator `{kind}`, which does not exist; did you mean `{near}`?")
    classes = [OPERATORS[kind] for kind in kinds if kind in OPERATORS]
    if not classes or len(classes) < len(kinds):
        return  # some operator is not loaded, or every operator is accepted
    for name in names:
        if not any(hasattr(cls, name) or name in _attributes(cls) for cls in classes):
            way = did_you_mean(name, (each for cls in classes for each in _attributes(cls)))
            operators = " or ".join(f"`{kind}`" for kind in sorted(kinds))
            raise ValueError(
                f"a pattern names the attribute `{name}`, which {operators} does not have; {way or 'leave it out'}"
            )


def _attributes(cls: type) -> list[str]:
    return [info.name for info in attributes(cls)]
