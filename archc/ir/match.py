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

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from archc.ir.attempts import AnyNode, Attempts, Condition, NoMatch, NoObstacle, Reason, State, Uses
from archc.ir.graph import Node, Value
from archc.ir.pattern_names import Names, check_names

Match: TypeAlias = Mapping[str, Any]
"""Bound nodes and values by name."""

_Condition: TypeAlias = Callable[[Any], bool] | Condition | NoObstacle
Conditions: TypeAlias = _Condition | Sequence[_Condition]


# Patterns -----------------------------------------------------------------------------------------------------


Needs: TypeAlias = frozenset[frozenset[Hashable]]
"""Sets of operators and of marks of values; a graph with a match has something of each set."""


@dataclass(frozen=True)
class ValuePattern:
    """Pattern for a value; see `any_value`, `result_of`, `unless` and `all_of`."""

    attempts: Callable[[Any, State], Attempts]
    needs: Needs = frozenset()
    names: Names = frozenset()


@dataclass(frozen=True)
class NodePattern:
    """Pattern for a node; see `pattern` and `one_of`.

    Attributes:
        kinds: the accepted operators; empty if every operator is accepted.
        needs: see `can_match`.
        names: the operators and attributes that the pattern and its operands name.
    """

    attempts: Callable[[Any, State], Attempts]
    kinds: frozenset[str]
    needs: Needs
    names: Names

    def can_match(self, present: Set[Hashable]) -> bool:
        """Return False if no node of a graph matches, because nothing of a set that a match needs is present."""
        return all(not needed.isdisjoint(present) for needed in self.needs)

    def accepts(self, found: AnyNode) -> bool:
        """Return whether the operator of a node is accepted, which costs less than a match."""
        return not self.kinds or found.kind in self.kinds


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
        kinds: accepted operators, by their names in the language; none for any operator.
        operands: patterns for the first operands; further operands are not restricted.
        attributes: wanted values of attributes.
        where: a condition on the node, or several: a function from the node to a bool, a `Condition` or a
            `NoObstacle`.  A failed condition has a reason of its own.
        commutative: match each operand pattern with an operand of its own, in any order.
        bind: name to which the node is bound.
        otherwise: reason if the kind, an attribute or the number of operands does not match.

    `match` raises a `ValueError` if an operator or attribute does not exist and resembles an existing one.
    """
    accepted = _accepted(kinds)
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

    def attempts(found: AnyNode, state: State) -> Attempts:
        bound = state.admit(found, bind, conditions)
        if isinstance(bound, NoMatch):
            return (bound,)
        return _assign(operands, tuple(found.operands), State(bound.uses, bound.bound, bound.depth + 1), commutative)

    needs = _needs(accepted).union(*(operand.needs for operand in operands))
    return NodePattern(attempts, accepted, needs, _names(operands) | {(accepted, tuple(attributes or ()))})


def one_of(*forms: NodePattern) -> NodePattern:
    """Pattern for a node that matches one of several patterns; the first match counts."""
    if not forms:
        raise ValueError("`one_of` needs at least one pattern")
    _check(NodePattern, forms)
    kinds = [form.kinds for form in forms]
    accepted = frozenset[str]().union(*kinds) if all(kinds) else frozenset[str]()
    needs = _needs(accepted) | frozenset[frozenset[Hashable]].intersection(*(form.needs for form in forms))

    def attempts(found: AnyNode, state: State) -> Attempts:
        return chain.from_iterable(form.attempts(found, state) for form in forms)

    return NodePattern(attempts, accepted, needs, _names(forms))


def any_value(bind: str = "", where: Conditions = (), mark: Hashable = None) -> ValuePattern:
    """Pattern for any value that meets conditions; None, an absent optional operand, is such a value, too.

    Args:
        bind: name to which the value is bound.
        where: conditions on the value, as in `pattern`.
        mark: property of all values that meet the conditions.  A graph that knows the marks of its values can skip the
            pattern, if no value has this mark.
    """
    conditions = _conditions(where)
    needs = _needs(() if mark is None else (mark,))
    return ValuePattern(lambda found, state: (state.admit(found, bind, conditions),), needs)


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
    nodes = (of,) if through is None else (of, through)
    _check(NodePattern, nodes)

    def attempts(found: Any, state: State) -> Attempts:
        bound = state.admit(found, bind)
        if isinstance(bound, NoMatch):
            yield bound
            return
        while found is not None and (node := found.producer) is not None:
            tried = list(of.attempts(node, bound)) if of.accepts(node) else []
            matches = [after for after in tried if isinstance(after, State)]
            passed = None if matches or through is None else _passed_on(through, node, state.uses)
            if not matches and passed is None:
                yield from tried or of.attempts(node, bound)
                return
            if only_use and (obstacle := _uses_of(found, state.uses)) is not None:
                yield (matches or [bound])[0].fail(shared, obstacle)
                return
            if matches:
                yield from matches
                return
            found = passed
        yield bound.fail(otherwise, "an operand is not the result of another operator")

    return ValuePattern(attempts, of.needs, _names(nodes))


def unless(form: ValuePattern, otherwise: str = "") -> ValuePattern:
    """Pattern for a value that does not match another pattern; nothing is bound in it.

    Args:
        otherwise: reason if the value matches the other pattern.
    """
    _check(ValuePattern, (form,))

    def attempts(found: Any, state: State) -> Attempts:
        excluded = any(isinstance(after, State) for after in form.attempts(found, state))
        return (state.fail(otherwise, "an operand has a form that is excluded") if excluded else state,)

    return ValuePattern(attempts, names=form.names)


def all_of(*forms: ValuePattern) -> ValuePattern:
    """Pattern for a value that matches several patterns at once; names are bound in all of them."""
    _check(ValuePattern, forms)
    needs = _needs(()).union(*(form.needs for form in forms))
    return ValuePattern(lambda found, state: _assign(forms, (found,) * len(forms), state), needs, _names(forms))


def _needs(present: Collection[Hashable]) -> Needs:
    return frozenset((frozenset(present),) if present else ())


def _names(forms: Sequence[NodePattern | ValuePattern]) -> Names:
    return frozenset[tuple[frozenset[str], tuple[str, ...]]]().union(*(form.names for form in forms))


def _accepted(kinds: str | Collection[str]) -> frozenset[str]:
    given = (kinds,) if isinstance(kinds, str) or not isinstance(kinds, Collection) else kinds
    if wrong := [kind for kind in given if not isinstance(kind, str)]:
        text = f"the class `{wrong[0].__name__}`" if isinstance(wrong[0], type) else f"{type(wrong[0]).__name__}"
        way = "for a trait, write `where=lambda node: node.op.has(TRAIT)`"
        raise TypeError(f'`pattern` takes names of operators, such as "relu", not {text}; {way}')
    return frozenset(given)


def _wrong_call(function: str, form: str, what: str, *given: object) -> str:
    types = ", ".join(type(each).__name__ for each in given)
    return f"write `{function}({form}, {what}, graph)`: the pattern is the first argument; the arguments are {types}"


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
    """Match a node, and return the bound nodes and values by name, or the reason of the failed match.

    Args:
        form: the pattern.
        found: the node.
        uses: the graph of the node, which knows the uses of each value.

    Raises:
        ValueError: the pattern names an operator or an attribute that does not exist.
    """
    if not isinstance(form, NodePattern):
        raise TypeError(_wrong_call("match", 'pattern("relu")', "node", form, found))
    if isinstance(found, Value):
        raise TypeError("`match` takes a node, not a Value; for values, write `match_value(form, value, graph)`")
    if isinstance(found, Node):  # the nodes of an ONNX graph have other operators
        check_names(form.names)
    return _first_match(form.attempts(found, State(uses)))


def match_value(form: ValuePattern, found: Any, uses: Uses) -> Match | NoMatch:
    """Match a value, and return the bound nodes and values by name, or the reason of the failed match.

    Args:
        form: the pattern.
        found: the value.
        uses: the graph of the value, which knows the uses of each value.

    Raises:
        ValueError: the pattern names an operator or an attribute that does not exist.
    """
    if not isinstance(form, ValuePattern):
        raise TypeError(_wrong_call("match_value", 'result_of(pattern("relu"))', "value", form, found))
    if isinstance(found, Value):  # the values of an ONNX graph are results of other operators
        check_names(form.names)
    return _first_match(form.attempts(found, State(uses)))


def chain_before(found: Any, form: NodePattern, uses: Uses, only_use: bool = False) -> Iterator[Any]:
    """Yield the nodes before a value that pass on an operand, nearest first; see `through` of `result_of`.

    Args:
        found: the value.
        form: pattern of the nodes; the chain ends at a node that does not match.
        uses: the graph.
        only_use: if True, the chain also ends at a value that does not have exactly one use.
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
    """Yield the nodes after a value, as long as each matches and has the only use of the value before it.

    The chain continues with the first result of each node.

    Args:
        found: the value.
        form: pattern of the nodes; the chain ends at a node that does not match.
        uses: the graph.
    """
    while (consumer := uses.only_consumer(found)) is not None and not isinstance(match(form, consumer, uses), NoMatch):
        yield consumer
        found = consumer.results[0]


def _assign(
    forms: tuple[ValuePattern, ...], values: tuple[Any, ...], state: State, any_order: bool = False
) -> Attempts:
    """Match each pattern with a value of its own, in order or in any order; values may be left over."""
    if not forms:
        return (state,)
    if len(forms) == 1 and not any_order:
        return forms[0].attempts(values[0], state)
    return _assign_first(forms, values, state, any_order)


def _assign_first(
    forms: tuple[ValuePattern, ...], values: tuple[Any, ...], state: State, any_order: bool
) -> Iterator[State | NoMatch]:
    """Match the first pattern with a value, and the others with the other values."""
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
    if len(node.results) != 1 or not between.accepts(node):
        return None
    found = match(between, node, uses)
    if isinstance(found, NoMatch):
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


__all__ = [
    "PASSED",
    "Condition",
    "Conditions",
    "Match",
    "NoMatch",
    "NoObstacle",
    "NodePattern",
    "ValuePattern",
    "all_of",
    "any_value",
    "chain_after",
    "chain_before",
    "match",
    "match_value",
    "one_of",
    "pattern",
    "result_of",
    "unless",
]
