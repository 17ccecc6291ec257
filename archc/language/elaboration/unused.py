"""Telling which values nobody uses.

A block is elaborated once for each use, and a use may take another branch than the next: a place in the text counts
as unused only if no use of its definition used it.  What stands in a branch that was not taken counts as used, and so
does the body of a loop over nothing.  A name that begins with `_` may stay unused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from archc.diagnostics import Diagnostics, Span
from archc.language.elaboration.environment import POISON, Environment
from archc.language.syntax import tree

Place = tuple[str, int, int]


class UnusedValues:
    """Gathers the environments of all definitions at work, and warns at the end."""

    def __init__(self) -> None:
        self._used: set[Place] = set()
        self._unused: dict[Place, tuple[str, str, Span]] = {}
        self._statements: dict[Place, Span] = {}
        self.told: list[Span] = []
        """Statements of the tensors that were warned of."""

    def gather(self, environment: Environment) -> None:
        """Take note of one environment, at the end of its definition."""
        for name, binding in environment.history:
            if binding.span is None or name.startswith("_"):
                continue
            place = (binding.span.source.name, binding.span.start, binding.span.end)
            if binding.used or binding.value is POISON:
                self._used.add(place)
            else:
                self._unused.setdefault(place, (name, binding.kind, binding.span))
                if binding.statement is not None:
                    self._statements[place] = binding.statement

    def warn(self, diagnostics: Diagnostics) -> None:
        """Warn of every place whose value nobody used, in the order of the text."""
        words = {"input": "the input", "attribute": "the attribute", "layer": "the layer", "size": "the value"}
        for place in sorted(self._unused.keys() - self._used):
            name, kind, span = self._unused[place]
            what = words.get(kind, "the tensor")
            diagnostics.warn("unused-value", f"{what} `{name}` is never used", span)
            if place in self._statements:
                self.told.append(self._statements[place])


def mark_untaken(environment: Environment, body: tuple[tree.SyntaxNode, ...]) -> None:
    """Count the names in statements that do not run as used."""
    for name in names_in(body):
        environment.get(name)


def names_in(nodes: tuple[tree.SyntaxNode, ...]) -> Iterator[str]:
    """The bare names in statements or expressions, in the order of the text."""
    stack: list[object] = list(reversed(nodes))
    while stack:
        item = stack.pop()
        if isinstance(item, tree.Name):
            yield item.name
        elif isinstance(item, tree.SyntaxNode):
            parts = [getattr(item, field.name) for field in dataclasses.fields(item) if field.name != "span"]
            stack.extend(reversed(parts))
        elif isinstance(item, tuple):
            stack.extend(reversed(item))
