"""Attempts to match a pattern: what is bound so far, conditions, and reasons of failures.

`archc.ir.match` builds patterns from these parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

Reason: TypeAlias = str | Callable[[], str]
"""Text, or function that returns it: most failed matches are never reported."""


class AnyNode(Protocol):
    """A node of any graph."""

    @property
    def kind(self) -> str:
        """Name of the operator."""

    @property
    def title(self) -> str:
        """Name of the node in reasons."""

    @property
    def operands(self) -> Sequence[Any]:
        """Used values; None for an absent optional operand."""

    @property
    def results(self) -> Sequence[Any]:
        """Produced values; the attribute `producer` of a value is a node or None."""

    def attribute(self, name: str) -> Any:
        """Return the value of an attribute; None if the node has no such attribute."""


class Uses(Protocol):
    """A graph that knows the uses of its values."""

    def consumers(self, value: Any) -> Sequence[Any]:
        """Return the nodes that use a value, each once."""

    def is_output(self, value: Any) -> bool:
        """Return True if a value is an output."""

    def only_consumer(self, value: Any) -> Any:
        """Return the node that has the only use of a value; None if there is no use, or more than one."""


class NoMatch:
    """Result of `match` if a pattern does not match; `reason` is a text for a remark.

    Args:
        depth: number of nodes that had matched when the attempt failed.  Of several failed attempts, the reason of the
            deepest is reported.
    """

    __slots__ = ("_reason", "depth")

    def __init__(self, reason: Reason, depth: int = 0):
        self._reason, self.depth = reason, depth

    @property
    def reason(self) -> str:
        """Reason why the pattern does not match, with the current titles of nodes."""
        return self._reason if isinstance(self._reason, str) else self._reason()


@dataclass(slots=True)
class State:
    """A match in progress: the graph, and what is bound so far."""

    uses: Uses
    bound: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    def admit(self, found: Any, name: str, conditions: Sequence[Condition | NoObstacle] = ()) -> State | NoMatch:
        """Bind a node or a value to a name, and check conditions."""
        before = self.bound.get(name, found)
        if before is not found:
            text = "`{}` and `{}` differ, but the pattern binds both to `{}`".format
            return NoMatch(lambda: text(title(before), title(found), name), self.depth)
        state = State(self.uses, {**self.bound, name: found}, self.depth) if name else self
        for condition in conditions:
            if (obstacle := condition.check(found, state)) is not None:
                return obstacle
        return state

    def fail(self, otherwise: str, reason: Reason) -> NoMatch:
        """NoMatch with the text `otherwise`, or with the general reason if the text is empty."""
        text = partial(re.sub, r"\{([^{}]+)\}", self._title_of, otherwise) if otherwise else reason
        return NoMatch(text, self.depth)

    def _title_of(self, name: re.Match[str]) -> str:
        return title(self.bound[name[1]]) if name[1] in self.bound else name[0]


Attempts: TypeAlias = Iterable[State | NoMatch]
"""The results of all ways to match a pattern; later patterns choose among the matches."""


def title(found: Any) -> str:
    """Name of a node or a value in reasons."""
    return getattr(found, "title", None) or str(found)


@dataclass(frozen=True)
class Condition:
    """Condition on a node or a value.

    Attributes:
        holds: function from the node or the value to a bool.
        otherwise: reason if the condition does not hold.
    """

    holds: Callable[[Any], bool]
    otherwise: str = ""

    def check(self, found: Any, state: State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        if self.holds(found):
            return None
        return state.fail(self.otherwise, lambda: f"a condition on `{title(found)}` does not hold")


@dataclass(frozen=True)
class NoObstacle:
    """Condition whose reasons are computed.

    Attributes:
        find: function from a node or a value to the reason why it does not match, or None if it matches.
        otherwise: reason that replaces all of these.
    """

    find: Callable[[Any], Reason | None]
    otherwise: str = ""

    def check(self, found: Any, state: State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        reason = self.find(found)
        return None if reason is None else state.fail(self.otherwise, reason)
