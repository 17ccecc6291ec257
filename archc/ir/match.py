"""Declarative patterns over the nodes of a graph, with the reason if a match fails.

A pattern describes a node and, through its operands, the nodes before it.  `match` returns the bound nodes and values
by name, or a `NoMatch`, whose reason a pass can use as a remark:

    relu_of_conv = pattern("relu", result_of(pattern("conv2d", bind="conv"), only_use=True))
    found = match(relu_of_conv, relu, graph)
    if isinstance(found, NoMatch):
        context.left(relu, found.reason)         # "the result of `conv1` has other uses"
    else:
        conv = found["conv"]

A pattern serves every graph with use lists whose nodes are like `AnyNode`: the graph of a network, and the ONNX graph
under construction.  The ideas are those of xDSL's rewriter, of tinygrad's `PatternMatcher`, and of onnxscript's
matcher, whose failed matches have reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from typing import Any, Protocol, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]
"""Condition on a node or on a value."""


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

    def only_consumer(self, value: Any) -> Any:
        """Return the node that has the only use of a value; None if there is no use or another use."""


class NoMatch:
    """Reason why a pattern does not match.

    Args:
        reason: text, or function that returns it: most failed matches are never reported.
        depth: number of nodes that had matched before; of several alternatives, the reason of the deepest is reported.
    """

    __slots__ = ("_reason", "depth")

    def __init__(self, reason: str | Callable[[], str], depth: int = 0):
        self._reason, self.depth = reason, depth

    @property
    def reason(self) -> str:
        """The text; titles in it are those at the time of the call."""
        return self._reason if isinstance(self._reason, str) else self._reason()


Match: TypeAlias = Mapping[str, Any]
"""Bound nodes and values by name."""


@dataclass(slots=True)
class _State:
    """A match in progress: the graph, and what is bound so far."""

    uses: Uses
    bound: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    def bind(self, name: str, found: Any) -> _State:
        return _State(self.uses, {**self.bound, name: found}, self.depth) if name else self

    def deeper(self) -> _State:
        return _State(self.uses, self.bound, self.depth + 1)

    def fail(self, otherwise: str, reason: Callable[[], str]) -> NoMatch:
        """NoMatch with the text `otherwise`, or with the general reason if the text is empty."""
        return NoMatch((lambda: otherwise.format_map(self._titles())) if otherwise else reason, self.depth)

    def _titles(self) -> dict[str, str]:
        return {name: getattr(found, "title", str(found)) for name, found in self.bound.items()}


@dataclass(frozen=True)
class Condition:
    """Condition on a node or a value.

    Attributes:
        otherwise: reason if the condition does not hold.  `{name}` is the title of the node that is bound to `name`.
    """

    holds: Predicate
    otherwise: str = ""

    def check(self, found: Any, state: _State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        if self.holds(found):
            return None
        return state.fail(self.otherwise, lambda: f"a condition on `{getattr(found, 'title', found)}` does not hold")


@dataclass(frozen=True)
class NoObstacle:
    """Condition whose reasons are computed.

    Attributes:
        find: function from a node or a value to the reason why it does not match, or None.
    """

    find: Callable[[Any], str | None]

    def check(self, found: Any, state: _State) -> NoMatch | None:
        """Return the reason why the condition does not hold, or None."""
        reason = self.find(found)
        return None if reason is None else NoMatch(reason, state.depth)


Conditions: TypeAlias = "Predicate | Condition | NoObstacle | Sequence[Condition | NoObstacle]"


# Values -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValuePattern:
    """Any value that meets the conditions; see `any_value`."""

    bind: str = ""
    where: tuple[Condition | NoObstacle, ...] = ()

    def step(self, found: Any, state: _State) -> _State | NoMatch:
        """Match a value."""
        state = state.bind(self.bind, found)
        return _first_failure(self.where, found, state) or state


@dataclass(frozen=True)
class ResultPattern:
    """The result of a matching node; see `result_of`."""

    of: NodePattern | OneOf
    only_use: bool = False
    through: NodePattern | OneOf | None = None
    otherwise: str = ""
    shared: str = ""
    bind: str = ""

    def step(self, found: Any, state: _State) -> _State | NoMatch:
        """Match a value."""
        state = state.bind(self.bind, found)
        while found is not None and found.producer is not None:
            producer = found.producer
            after = self.of.step(producer, state)
            passed = (
                after if self.through is None or not isinstance(after, NoMatch) else self.through.step(producer, state)
            )
            if isinstance(passed, NoMatch):
                return after
            if self.only_use and state.uses.only_consumer(found) is None:
                reached = state if isinstance(after, NoMatch) else after
                return reached.fail(self.shared, partial("the result of `{}` has other uses".format, producer.title))
            if after is passed:
                return after
            found = passed.bound.get(PASSED, producer.operands[0])
        return state.fail(self.otherwise, lambda: "an operand is not the result of another operator")


@dataclass(frozen=True)
class NotPattern:
    """Any value that does not match another pattern; see `unless`."""

    form: AnyValuePattern
    otherwise: str = ""

    def step(self, found: Any, state: _State) -> _State | NoMatch:
        """Match a value."""
        if isinstance(self.form.step(found, state), NoMatch):
            return state
        return state.fail(self.otherwise, lambda: "an operand has a form that is excluded")


@dataclass(frozen=True)
class AllPattern:
    """Any value that matches several patterns; see `all_of`."""

    forms: tuple[AnyValuePattern, ...]

    def step(self, found: Any, state: _State) -> _State | NoMatch:
        """Match a value."""
        for form in self.forms:
            after = form.step(found, state)
            if isinstance(after, NoMatch):
                return after
            state = after
        return state


AnyValuePattern: TypeAlias = "ValuePattern | ResultPattern | NotPattern | AllPattern"

PASSED = "passed"
"""Name for the operand that a node between two others passes on; see `result_of`."""


# Nodes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodePattern:
    """A node of certain kinds, operands and attributes; see `pattern`."""

    kinds: frozenset[str]
    operands: tuple[AnyValuePattern, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[Condition | NoObstacle, ...] = ()
    commutative: bool = False
    bind: str = ""
    otherwise: str = ""

    def step(self, found: AnyNode, state: _State) -> _State | NoMatch:
        """Match a node."""
        state = state.bind(self.bind, found)
        if self.kinds and found.kind not in self.kinds:
            return state.fail(self.otherwise, lambda: f"`{found.title}` is `{found.kind}`, not {self._wanted_kinds()}")
        for name, wanted in self.attributes.items():
            value = found.attribute(name)
            if value != wanted:
                text = "`{}` of `{}` is {}, not {}".format
                return state.fail(self.otherwise, partial(text, name, found.title, value, wanted))
        failed = _first_failure(self.where, found, state)
        if failed is not None:
            return failed
        if len(found.operands) < len(self.operands):
            return state.fail(self.otherwise, lambda: f"`{found.title}` has {len(found.operands)} operands")
        if self.commutative:
            return _deepest(self._in_order(order, state.deeper()) for order in permutations(found.operands))
        return self._in_order(found.operands, state.deeper())

    def _wanted_kinds(self) -> str:
        return " or ".join(f"`{kind}`" for kind in sorted(self.kinds))

    def _in_order(self, values: Sequence[Any], state: _State) -> _State | NoMatch:
        for form, found in zip(self.operands, values):
            after = form.step(found, state)
            if isinstance(after, NoMatch):
                return after
            state = after
        return state


@dataclass(frozen=True)
class OneOf:
    """A node that matches one of several patterns; see `one_of`."""

    forms: tuple[NodePattern | OneOf, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """The accepted operators, if every pattern restricts them."""
        return frozenset().union(*(form.kinds for form in self.forms))

    def step(self, found: AnyNode, state: _State) -> _State | NoMatch:
        """Match a node."""
        return _deepest(form.step(found, state) for form in self.forms)


def _first_failure(conditions: Sequence[Condition | NoObstacle], found: Any, state: _State) -> NoMatch | None:
    for condition in conditions:
        failure = condition.check(found, state)
        if failure is not None:
            return failure
    return None


def _deepest(attempts: Iterator[_State | NoMatch]) -> _State | NoMatch:
    """The first success, or the failed match of the attempt that matched most nodes."""
    failed: NoMatch | None = None
    for attempt in attempts:
        if not isinstance(attempt, NoMatch):
            return attempt
        if failed is None or attempt.depth > failed.depth:
            failed = attempt
    assert failed is not None, "there is at least one attempt"
    return failed


# Construction -------------------------------------------------------------------------------------------------


def pattern(
    kinds: str | Collection[str] = (),
    *operands: AnyValuePattern,
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
        where: conditions on the node.
        commutative: match the operands in any order.
        bind: name to which the node is bound.
        otherwise: reason if the kind, an attribute or the number of operands does not match; `{name}` is the title of
            a bound node.
    """
    accepted = frozenset((kinds,) if isinstance(kinds, str) else kinds)
    return NodePattern(accepted, operands, attributes or {}, _conditions(where), commutative, bind, otherwise)


def one_of(*forms: NodePattern | OneOf) -> OneOf:
    """Pattern for a node that matches one of several patterns; the first match counts."""
    return OneOf(forms)


def any_value(bind: str = "", where: Conditions = ()) -> ValuePattern:
    """Pattern for any value that meets conditions."""
    return ValuePattern(bind, _conditions(where))


def result_of(
    of: NodePattern | OneOf,
    *,
    only_use: bool = False,
    through: NodePattern | OneOf | None = None,
    otherwise: str = "",
    shared: str = "",
    bind: str = "",
) -> ResultPattern:
    """Pattern for the result of a node.

    Args:
        of: pattern for the node.
        only_use: no other node uses the result, and it is no output.
        through: pattern for nodes that may be between, any number of them.  They pass on their first operand, or the
            operand that the pattern binds to `PASSED`.
        otherwise: reason if no node produces the value, since it is an input.
        shared: reason if the result has other uses, against `only_use`.
        bind: name to which the value is bound.
    """
    return ResultPattern(of, only_use, through, otherwise, shared, bind)


def unless(form: AnyValuePattern, otherwise: str = "") -> NotPattern:
    """Pattern for a value that does not match another pattern; nothing is bound in it."""
    return NotPattern(form, otherwise)


def all_of(*forms: AnyValuePattern) -> AllPattern:
    """Pattern for a value that matches several patterns."""
    return AllPattern(forms)


def _conditions(where: Conditions) -> tuple[Condition | NoObstacle, ...]:
    if isinstance(where, (Condition, NoObstacle)):
        return (where,)
    return (Condition(where),) if callable(where) else tuple(where)


# Matching -----------------------------------------------------------------------------------------------------


def match(form: NodePattern | OneOf, found: AnyNode, uses: Uses) -> Match | NoMatch:
    """Match a node, and return the bound nodes and values by name, or the reason of the failed match."""
    state = form.step(found, _State(uses))
    return state if isinstance(state, NoMatch) else state.bound


def match_value(form: AnyValuePattern, found: Any, uses: Uses) -> Match | NoMatch:
    """Match a value, and return the bound nodes and values by name, or the reason of the failed match."""
    state = form.step(found, _State(uses))
    return state if isinstance(state, NoMatch) else state.bound


def chain_before(found: Any, form: NodePattern | OneOf, uses: Uses, only_use: bool = False) -> Iterator[Any]:
    """Yield the nodes before a value that match a pattern, nearest first, until one does not match.

    Args:
        only_use: stop at a value that has other uses.
    """
    while found is not None and found.producer is not None:
        if only_use and uses.only_consumer(found) is None:
            return
        bound = match(form, found.producer, uses)
        if isinstance(bound, NoMatch):
            return
        yield found.producer
        found = bound.get(PASSED, found.producer.operands[0])


def chain_after(found: Any, form: NodePattern | OneOf, uses: Uses) -> Iterator[Any]:
    """Yield the nodes after a value, as long as each is the only consumer of the one before and matches.

    A node is followed through its first result.
    """
    while (consumer := uses.only_consumer(found)) is not None and not isinstance(match(form, consumer, uses), NoMatch):
        yield consumer
        found = consumer.results[0]
