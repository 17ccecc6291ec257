"""Declarative patterns over the nodes of a graph, with the reason if a match fails.

A pattern describes a node and, through its operands, the nodes before it.  `match` returns the bound nodes and values
by name, or a `Mismatch`, whose reason a pass can use as a remark:

    pattern = node("relu", result_of(node("conv2d", bind="conv"), only_use=True))
    found = match(pattern, relu, graph)
    if isinstance(found, Mismatch):
        context.left(relu, found.reason)         # "the result of `conv1` has other uses"
    else:
        conv = found["conv"]

A pattern serves every graph with use lists whose nodes are like `AnyNode`: the graph of a network, and the ONNX graph
under construction.  The ideas are those of xDSL's rewriter, of tinygrad's `PatternMatcher`, and of onnxscript's
matcher, whose failed matches have reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Protocol, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]
"""Condition on a node or on a value."""


class AnyNode(Protocol):
    """A node of any graph.

    Attributes:
        kind: the operator.
        title: name in reasons.
        operands: used values; None for an absent optional operand.
        results: produced values; a value has the attribute `producer`, which is a node or None.
    """

    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def operands(self) -> Sequence[Any]: ...
    @property
    def results(self) -> Sequence[Any]: ...
    def attribute(self, name: str) -> Any: ...


class Uses(Protocol):
    """A graph that knows the uses of its values."""

    def only_consumer(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Mismatch:
    """Reason why a pattern does not match.

    Attributes:
        depth: number of nodes that had matched before; of several alternatives, the reason of the deepest is reported.
    """

    reason: str
    depth: int = 0


Match: TypeAlias = Mapping[str, Any]
"""Bound nodes and values by name."""


@dataclass(frozen=True)
class _State:
    """A match in progress: the graph, and what is bound so far."""

    uses: Uses
    bound: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    def bind(self, name: str, found: Any) -> _State:
        return replace(self, bound={**self.bound, name: found}) if name else self

    def deeper(self) -> _State:
        return replace(self, depth=self.depth + 1)

    def fail(self, otherwise: str, reason: str) -> Mismatch:
        """Mismatch with the text `otherwise`, or with the general reason if the text is empty."""
        return Mismatch(otherwise.format_map(self._titles()) if otherwise else reason, self.depth)

    def _titles(self) -> dict[str, str]:
        return {name: getattr(found, "title", str(found)) for name, found in self.bound.items()}


@dataclass(frozen=True)
class Where:
    """Condition on a node or a value, and the reason if it does not hold.

    Attributes:
        otherwise: the reason.  `{name}` is the title of the node that is bound to `name`.
    """

    holds: Predicate
    otherwise: str = ""


# Values -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValuePattern:
    """Any value that meets the conditions; see `value`."""

    bind: str = ""
    where: tuple[Where, ...] = ()

    def step(self, found: Any, state: _State) -> _State | Mismatch:
        """Match a value."""
        state = state.bind(self.bind, found)
        for condition in self.where:
            if not condition.holds(found):
                return state.fail(condition.otherwise, "a condition on an operand does not hold")
        return state


@dataclass(frozen=True)
class ResultPattern:
    """The result of a matching node; see `result_of`."""

    of: NodePattern | OneOf
    only_use: bool = False
    through: NodePattern | OneOf | None = None
    otherwise: str = ""
    shared: str = ""
    bind: str = ""

    def step(self, found: Any, state: _State) -> _State | Mismatch:
        """Match a value."""
        state = state.bind(self.bind, found)
        while found is not None and found.producer is not None:
            producer = found.producer
            after = self.of.step(producer, state)
            passed = after if self.through is None else self.through.step(producer, state)
            if isinstance(after, Mismatch) and isinstance(passed, Mismatch):
                return after
            reached = state if isinstance(after, Mismatch) else after
            if self.only_use and state.uses.only_consumer(found) is None:
                return reached.fail(self.shared, f"the result of `{producer.title}` has other uses")
            if reached is after:
                return reached
            assert isinstance(passed, _State)
            found = passed.bound.get(PASSED, producer.operands[0])
        return state.fail(self.otherwise, "an operand is not the result of another operator")


@dataclass(frozen=True)
class NotPattern:
    """Any value that does not match another pattern; see `unless`."""

    pattern: AnyValuePattern
    otherwise: str = ""

    def step(self, found: Any, state: _State) -> _State | Mismatch:
        """Match a value."""
        if isinstance(self.pattern.step(found, state), Mismatch):
            return state
        return state.fail(self.otherwise, "an operand has a form that is excluded")


AnyValuePattern: TypeAlias = "ValuePattern | ResultPattern | NotPattern"

PASSED = "passed"
"""Name to which a pattern of `through=` binds the operand that it passes on; the default is the first operand."""


# Nodes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodePattern:
    """A node of certain kinds, operands and attributes; see `node`."""

    kinds: frozenset[str]
    operands: tuple[AnyValuePattern, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[Where, ...] = ()
    commutative: bool = False
    bind: str = ""
    otherwise: str = ""

    def step(self, found: AnyNode, state: _State) -> _State | Mismatch:
        """Match a node."""
        state = state.bind(self.bind, found)
        if self.kinds and found.kind not in self.kinds:
            wanted = " or ".join(f"`{kind}`" for kind in sorted(self.kinds))
            return state.fail(self.otherwise, f"`{found.title}` is `{found.kind}`, not {wanted}")
        for name, wanted in self.attributes.items():
            if (value := found.attribute(name)) != wanted:
                return state.fail(self.otherwise, f"`{name}` of `{found.title}` is {value}, not {wanted}")
        for condition in self.where:
            if not condition.holds(found):
                text = condition.otherwise or self.otherwise
                return state.fail(text, f"a condition on `{found.title}` does not hold")
        if len(found.operands) < len(self.operands):
            return state.fail(self.otherwise, f"`{found.title}` has {len(found.operands)} operands")
        return self._operands(found.operands, state.deeper())

    def _operands(self, values: Sequence[Any], state: _State) -> _State | Mismatch:
        """Match the operands, in any order if the pattern is commutative."""
        orders = permutations(values) if self.commutative else (values,)
        return _deepest(self._in_order(order, state) for order in orders)

    def _in_order(self, values: Sequence[Any], state: _State) -> _State | Mismatch:
        for pattern, found in zip(self.operands, values):
            after = pattern.step(found, state)
            if isinstance(after, Mismatch):
                return after
            state = after
        return state


@dataclass(frozen=True)
class OneOf:
    """A node that matches one of several patterns; see `one_of`."""

    patterns: tuple[NodePattern | OneOf, ...]

    def step(self, found: AnyNode, state: _State) -> _State | Mismatch:
        """Match a node."""
        return _deepest(pattern.step(found, state) for pattern in self.patterns)


def _deepest(attempts: Iterator[_State | Mismatch]) -> _State | Mismatch:
    """The first success, or the mismatch of the attempt that matched most nodes."""
    failed: Mismatch | None = None
    for attempt in attempts:
        if not isinstance(attempt, Mismatch):
            return attempt
        if failed is None or attempt.depth > failed.depth:
            failed = attempt
    assert failed is not None, "there is at least one attempt"
    return failed


# Construction -------------------------------------------------------------------------------------------------


def node(
    kinds: str | Collection[str] = (),
    *operands: AnyValuePattern,
    attributes: Mapping[str, Any] | None = None,
    where: Where | Predicate | Sequence[Where] = (),
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
        otherwise: reason if the node itself does not match; `{name}` is the title of a bound node.
    """
    accepted = frozenset((kinds,) if isinstance(kinds, str) else kinds)
    return NodePattern(accepted, operands, attributes or {}, _conditions(where), commutative, bind, otherwise)


def one_of(*patterns: NodePattern | OneOf) -> OneOf:
    """Pattern for a node that matches one of several patterns; the first match counts."""
    return OneOf(patterns)


def value(bind: str = "", where: Where | Predicate | Sequence[Where] = ()) -> ValuePattern:
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


def unless(pattern: AnyValuePattern, otherwise: str = "") -> NotPattern:
    """Pattern for a value that does not match another pattern; nothing is bound in it."""
    return NotPattern(pattern, otherwise)


def _conditions(where: Where | Predicate | Sequence[Where]) -> tuple[Where, ...]:
    if isinstance(where, Where):
        return (where,)
    return (Where(where),) if callable(where) else tuple(where)


# Matching -----------------------------------------------------------------------------------------------------


def match(pattern: NodePattern | OneOf, found: AnyNode, uses: Uses) -> Match | Mismatch:
    """Match a node, and return the bound nodes and values by name, or the reason of the mismatch."""
    state = pattern.step(found, _State(uses))
    return state if isinstance(state, Mismatch) else state.bound


def match_value(pattern: AnyValuePattern, found: Any, uses: Uses) -> Match | Mismatch:
    """Match a value, and return the bound nodes and values by name, or the reason of the mismatch."""
    state = pattern.step(found, _State(uses))
    return state if isinstance(state, Mismatch) else state.bound


def chain_before(found: Any, pattern: NodePattern | OneOf, uses: Uses, only_use: bool = False) -> Iterator[Any]:
    """Yield the nodes before a value that match a pattern, nearest first, until one does not match.

    Args:
        only_use: stop at a value that has other uses.
    """
    while found is not None and found.producer is not None:
        if only_use and uses.only_consumer(found) is None:
            return
        bound = match(pattern, found.producer, uses)
        if isinstance(bound, Mismatch):
            return
        yield found.producer
        found = bound.get(PASSED, found.producer.operands[0])


def chain_after(found: Any, pattern: NodePattern | OneOf, uses: Uses) -> Iterator[Any]:
    """Yield the nodes after a value: its only consumer if this matches a pattern, and so on with its first result."""
    while (consumer := uses.only_consumer(found)) is not None and not isinstance(
        match(pattern, consumer, uses), Mismatch
    ):
        yield consumer
        found = consumer.results[0]
