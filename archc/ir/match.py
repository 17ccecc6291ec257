"""Declarative patterns over the nodes of a graph, with the reason if a match fails.

A pattern describes a node and, through its operands, the nodes before it.  `match` returns the bound nodes and values
by name, or a `NoMatch`, whose reason a pass can use as a remark:

    relu_of_conv = pattern("relu", result_of(pattern("conv2d", bind="conv"), only_use=True))
    found = match(relu_of_conv, relu, graph)
    if isinstance(found, NoMatch):
        context.left(relu, found.reason)         # "the result of `conv1` has other uses"
    else:
        conv = found["conv"]

Patterns with the same name must match the same node or value: `pattern("mul", any_value("x"), any_value("x"))` matches
squares.  The text `otherwise` replaces one general reason of a pattern or condition, which is documented with it; inner
patterns keep their own reasons.  In the text, `{name}` becomes the title of the node that is bound to `name`.

A pattern serves every graph with use lists whose nodes are like `AnyNode`: the graph of a network, and the ONNX graph
under construction.  The ideas are those of xDSL's rewriter, of tinygrad's `PatternMatcher`, and of onnxscript's
matcher, whose failed matches have reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
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
    """Reason why a pattern does not match.

    Args:
        depth: number of nodes that had matched when the attempt failed.  Of several failed attempts, the reason of the
            deepest is reported.
    """

    __slots__ = ("_reason", "depth")

    def __init__(self, reason: Reason, depth: int = 0):
        self._reason, self.depth = reason, depth

    @property
    def reason(self) -> str:
        """The text; titles in it are those at the time of the call."""
        return self._reason if isinstance(self._reason, str) else self._reason()


Match: TypeAlias = Mapping[str, Any]
"""Bound nodes and values by name."""


@dataclass(frozen=True, slots=True)
class _State:
    """A match in progress: the graph, and what is bound so far."""

    uses: Uses
    bound: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    def admit(self, found: Any, name: str, conditions: Sequence[Condition | NoObstacle] = ()) -> _State | NoMatch:
        """Bind a node or a value to a name, and check conditions."""
        before = self.bound.get(name, found)
        if before is not found:
            text = "`{}` and `{}` differ, but the pattern binds both to `{}`".format
            return NoMatch(lambda: text(_title(before), _title(found), name), self.depth)
        state = replace(self, bound={**self.bound, name: found}) if name else self
        return next(filter(None, (condition.check(found, state) for condition in conditions)), state)

    def fail(self, otherwise: str, reason: Reason) -> NoMatch:
        """NoMatch with the text `otherwise`, or with the general reason if the text is empty."""
        text = partial(re.sub, r"\{([^{}]+)\}", self._title_of, otherwise)
        return NoMatch(text if otherwise else reason, self.depth)

    def _title_of(self, name: re.Match[str]) -> str:
        return _title(self.bound[name[1]]) if name[1] in self.bound else name[0]


Attempts: TypeAlias = Iterator[_State | NoMatch]
"""The results of all ways to match a pattern; later patterns choose among the matches."""


def _title(found: Any) -> str:
    return getattr(found, "title", None) or str(found)


@dataclass(frozen=True)
class Condition:
    """Condition on a node or a value.

    Attributes:
        otherwise: reason if the condition does not hold.
    """

    holds: Callable[[Any], bool]
    otherwise: str = ""

    def check(self, found: Any, state: _State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        if self.holds(found):
            return None
        return state.fail(self.otherwise, lambda: f"a condition on `{_title(found)}` does not hold")


@dataclass(frozen=True)
class NoObstacle:
    """Condition whose reasons are computed.

    Attributes:
        find: function from a node or a value to the reason why it does not match, or None.
        otherwise: reason that replaces all of these.
    """

    find: Callable[[Any], Reason | None]
    otherwise: str = ""

    def check(self, found: Any, state: _State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        reason = self.find(found)
        return None if reason is None else state.fail(self.otherwise, reason)


_Condition: TypeAlias = Callable[[Any], bool] | Condition | NoObstacle
Conditions: TypeAlias = _Condition | Sequence[_Condition]


# Patterns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValuePattern:
    """Pattern for a value; see `any_value`, `result_of`, `unless` and `all_of`."""

    attempts: Callable[[Any, _State], Attempts]


@dataclass(frozen=True)
class NodePattern:
    """Pattern for a node; see `pattern` and `one_of`.

    Attributes:
        kinds: the accepted operators; empty if every operator is accepted.
    """

    attempts: Callable[[Any, _State], Attempts]
    kinds: frozenset[str]


PASSED = "passed"
"""Name for the operand that a node between two others passes on; see `result_of`."""


def pattern(
    kinds: str | Collection[str] = (),
    *operands: ValuePattern,
    attributes: Mapping[str, Any] | None = None,
    where: Conditions = (),
    commutative: bool = False,
    bind: str = "",
    otherwise: str = "",
) -> NodePattern:
    """Pattern for a node.

    Args:
        kinds: accepted operators; none for any operator.
        operands: patterns for the first operands; further operands are not restricted.
        attributes: wanted values of attributes.
        where: conditions on the node; they have reasons of their own.
        commutative: match each operand pattern with an operand of its own, in any order.
        bind: name to which the node is bound.
        otherwise: reason if the kind, an attribute or the number of operands does not match.
    """
    accepted = frozenset((kinds,) if isinstance(kinds, str) else kinds)
    wanted_kinds = " or ".join(f"`{kind}`" for kind in sorted(accepted))
    _check(ValuePattern, operands)

    def difference(found: AnyNode) -> Reason | None:
        if accepted and found.kind not in accepted:
            return lambda: f"`{found.title}` is `{found.kind}`, not {wanted_kinds}"
        for name, wanted in (attributes or {}).items():
            if (value := found.attribute(name)) != wanted:
                return f"`{name}` of `{found.title}` is {value}, not {wanted}"
        if (count := len(found.operands)) < len(operands):
            return f"`{found.title}` has {count} operand{'' if count == 1 else 's'}"
        return None

    conditions = (NoObstacle(difference, otherwise), *_conditions(where))

    def attempts(found: AnyNode, state: _State) -> Attempts:
        bound = state.admit(found, bind, conditions)
        if isinstance(bound, NoMatch):
            yield bound
        else:
            yield from _assign(operands, tuple(found.operands), replace(bound, depth=bound.depth + 1), commutative)

    return NodePattern(attempts, accepted)


def one_of(*forms: NodePattern) -> NodePattern:
    """Pattern for a node that matches one of several patterns; the first match counts."""
    if not forms:
        raise ValueError("`one_of` needs at least one pattern")
    _check(NodePattern, forms)
    kinds = [form.kinds for form in forms]
    accepted = frozenset[str]().union(*kinds) if all(kinds) else frozenset[str]()
    return NodePattern(lambda node, state: chain.from_iterable(form.attempts(node, state) for form in forms), accepted)


def any_value(bind: str = "", where: Conditions = ()) -> ValuePattern:
    """Pattern for any value that meets conditions; None, an absent optional operand, is such a value, too."""
    conditions = _conditions(where)
    return ValuePattern(lambda found, state: iter((state.admit(found, bind, conditions),)))


def result_of(
    of: NodePattern,
    *,
    only_use: bool = False,
    through: NodePattern | None = None,
    otherwise: str = "",
    shared: str = "",
    bind: str = "",
) -> ValuePattern:
    """Pattern for a result of a node; any of its results, if it has several.

    Args:
        of: pattern for the node.
        only_use: the value, and each result between it and the node, has exactly one use and is no output.
        through: pattern for nodes that may be between the value and the node, any number of them.  Such a node has one
            result, and passes on its first operand, or the operand that the pattern binds to `PASSED`.  The pattern
            is matched on its own: it does not see names that are bound outside, and its names are dropped.
        otherwise: reason if no node produces the value, for example because it is an input.
        shared: reason if a value does not have exactly one use, although `only_use` is set.
        bind: name to which the value is bound.
    """
    _check(NodePattern, (of,) if through is None else (of, through))

    def attempts(found: Any, state: _State) -> Attempts:
        bound = state.admit(found, bind)
        if isinstance(bound, NoMatch):
            yield bound
            return
        while found is not None and found.producer is not None:
            tried = list(of.attempts(found.producer, bound))
            matches = [after for after in tried if isinstance(after, _State)]
            passed = None if matches or through is None else _passed_on(through, found.producer, state.uses)
            if not matches and passed is None:
                yield from tried
                return
            if only_use and (obstacle := _uses_of(found, state.uses)) is not None:
                yield (matches or [bound])[0].fail(shared, obstacle)
                return
            if matches:
                yield from matches
                return
            found = passed
        yield bound.fail(otherwise, "an operand is not the result of another operator")

    return ValuePattern(attempts)


def unless(form: ValuePattern, otherwise: str = "") -> ValuePattern:
    """Pattern for a value that does not match another pattern; nothing is bound in it.

    Args:
        otherwise: reason if the value matches the other pattern.
    """
    _check(ValuePattern, (form,))

    def attempts(found: Any, state: _State) -> Attempts:
        excluded = any(isinstance(after, _State) for after in form.attempts(found, state))
        yield state.fail(otherwise, "an operand has a form that is excluded") if excluded else state

    return ValuePattern(attempts)


def all_of(*forms: ValuePattern) -> ValuePattern:
    """Pattern for a value that matches several patterns."""
    _check(ValuePattern, forms)
    return ValuePattern(lambda found, state: _assign(forms, (found,) * len(forms), state))


def _check(wanted: type, forms: Sequence[object]) -> None:
    if wrong := [type(form).__name__ for form in forms if not isinstance(form, wanted)]:
        raise TypeError(f"a {wanted.__name__} is needed here, not a {wrong[0]}")


def _conditions(where: Conditions) -> tuple[Condition | NoObstacle, ...]:
    given = where if isinstance(where, Sequence) else (where,)
    for condition in given:
        if not isinstance(condition, (Condition, NoObstacle)) and not callable(condition):
            raise TypeError(f"`where` needs a function, a Condition or a NoObstacle, not {condition!r}")
    return tuple(Condition(one) if callable(one) else one for one in given)


# Matching -----------------------------------------------------------------------------------------------------


def match(form: NodePattern, found: AnyNode, uses: Uses) -> Match | NoMatch:
    """Match a node, and return the bound nodes and values by name, or the reason of the failed match."""
    return _first_match(form.attempts(found, _State(uses)))


def match_value(form: ValuePattern, found: Any, uses: Uses) -> Match | NoMatch:
    """Match a value, and return the bound nodes and values by name, or the reason of the failed match."""
    return _first_match(form.attempts(found, _State(uses)))


def chain_before(found: Any, form: NodePattern, uses: Uses, only_use: bool = False) -> Iterator[Any]:
    """Yield the nodes before a value that pass on an operand, nearest first; see `through` of `result_of`.

    If `only_use` is set, the chain ends at a value that does not have exactly one use.
    """
    while found is not None and found.producer is not None:
        if only_use and uses.only_consumer(found) is None:
            return
        passed = _passed_on(form, found.producer, uses)
        if passed is None:
            return
        yield found.producer
        found = passed


def chain_after(found: Any, form: NodePattern, uses: Uses) -> Iterator[Any]:
    """Yield the nodes after a value, as long as each is the only consumer of the one before and matches.

    A node is followed through its first result.
    """
    while (consumer := uses.only_consumer(found)) is not None and not isinstance(match(form, consumer, uses), NoMatch):
        yield consumer
        found = consumer.results[0]


def _assign(
    forms: tuple[ValuePattern, ...], values: tuple[Any, ...], state: _State, any_order: bool = False
) -> Attempts:
    """Match each pattern with a value of its own, in order or in any order; values may be left over."""
    if not forms:
        yield state
        return
    for position, value in enumerate(values if any_order else values[:1]):
        for after in forms[0].attempts(value, state):
            if isinstance(after, NoMatch):
                yield after
            else:
                yield from _assign(forms[1:], values[:position] + values[position + 1 :], after, any_order)


def _uses_of(value: Any, uses: Uses) -> Reason | None:
    """Reason why a result does not have exactly one use, or None."""
    if uses.only_consumer(value) is not None:
        return None

    def reason() -> str:
        result, users = f"the result of `{value.producer.title}`", uses.consumers(value)
        if len(users) > 1 or uses.is_output(value):
            return f"{result} has other uses"
        return f"`{users[0].title}` uses {result} more than once" if users else f"{result} has no use"

    return reason


def _passed_on(between: NodePattern, node: AnyNode, uses: Uses) -> Any:
    """Operand that a node between two others passes on, or None; see `through` of `result_of`."""
    found = match(between, node, uses)
    if isinstance(found, NoMatch) or len(node.results) != 1:
        return None
    return found.get(PASSED, node.operands[0] if node.operands else None)


def _first_match(attempts: Attempts) -> Match | NoMatch:
    """The names of the first match, or the reason of the attempt that matched most nodes."""
    failed = []
    for attempt in attempts:
        if not isinstance(attempt, NoMatch):
            return attempt.bound
        failed.append(attempt)
    return max(failed, key=lambda attempt: attempt.depth)
